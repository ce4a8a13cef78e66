"""Windows of large GeoTIFFs as 8-bit RGB images, read without ever holding the raster.

Only the GTiff driver opens them, and it sees no file beside the one it is given: overviews, masks
and georeference count where they are inside. So nothing leads elsewhere (GDAL would open a VRT
under any suffix, also one called ``ortho.tif.ovr``), and all that a tile shows is covered by the
hash of its file.

A tile whose shorter edge has 1536 pixels or more is made smaller by a whole number that leaves at
least 768, from overviews where there are some: towers see a few hundred.

Eight-bit bands are taken as they are. Any other type is scaled linearly so that the 1st and the
99th percentile of the raster become 0 and 255: one pair for all bands and all tiles of a file, from
a grid of samples, so that colours keep their balance and a dark tile stays darker than its
neighbours. Pixels without data (nodata, an internal mask, alpha, NaN) become mid-grey.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.errors import ImageError
from saywhere.images import read_image, silence
from saywhere.raster_bands import Scale, Source
from saywhere.types import Window

if TYPE_CHECKING:
    from PIL.Image import Image
    from rasterio.io import DatasetReader

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})
_CACHE_MB = "256"  # decoded blocks: a row of tiles of 2000 pixels in a raster of 20,000, and more
_HANDLES = 2  # open files a thread; tiles come file by file


def open_geotiff(path: Path) -> DatasetReader:
    """Open a TIFF and nothing else; the caller closes it.

    Raises:
        rasterio.errors.RasterioError: no TIFF, damaged, or missing.
    """
    # Read once, at GDAL's first block; its default is 5 % of the machine's memory.
    os.environ.setdefault("GDAL_CACHEMAX", _CACHE_MB)
    import rasterio
    import rasterio._base

    silence(rasterio._base)
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        # An absolute path cannot be taken for one of GDAL's prefixes.
        return rasterio.open(path.absolute(), driver="GTiff")


def read_part(path: Path, window: Window | None) -> Image:
    """One image file, or a window of a raster, as upright 8-bit RGB.

    Raises:
        ImageError: as ``read_image``, or a window that cannot be read.
    """
    if window is None:
        return read_image(path)
    with raster_reader() as reader:
        return reader.read(path, window)


@contextmanager
def raster_reader() -> Iterator[RasterReader]:
    """A reader whose files are closed with the block; by then no thread may be reading."""
    reader = RasterReader()
    try:
        yield reader
    finally:
        reader.close()


class RasterReader:
    """Reads windows of rasters; threads share it, each with handles of its own, as GDAL wants."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._opened: list[Source] = []
        self._scales: dict[Path, Scale] = {}

    def read(self, path: Path, window: Window) -> Image:
        """The window as RGB, smaller where it is large; see the module.

        Raises:
            ImageError: no TIFF, a window outside of it, values that are no colours, or damage.
        """
        from rasterio.errors import RasterioError

        try:
            source = self._source(path)
            return source.image(window, self._scale(path, source))
        except (RasterioError, OSError) as error:
            raise ImageError(
                f"{path}: its part at {window.column},{window.row} cannot be read "
                f"({_cause(error)}); copy or export the file again"
            ) from None
        except MemoryError:
            raise ImageError(
                f"{path}: {window.width} x {window.height} pixels do not fit into memory; "
                "give a smaller --tile-size"
            ) from None

    def close(self) -> None:
        """Close all files."""
        with self._lock:
            while self._opened:
                self._opened.pop().dataset.close()
        self._local = threading.local()

    def _source(self, path: Path) -> Source:
        handles: dict[Path, Source] = self._local.__dict__.setdefault("handles", {})
        if path not in handles:
            while len(handles) >= _HANDLES:
                oldest = handles.pop(next(iter(handles)))
                with self._lock:
                    self._opened.remove(oldest)
                oldest.dataset.close()
            handles[path] = Source.of(open_geotiff(path), path)
            with self._lock:
                self._opened.append(handles[path])
        return handles[path]

    def _scale(self, path: Path, source: Source) -> Scale:
        with self._lock:  # a second thread waits instead of sampling the same file
            if path not in self._scales:
                self._scales[path] = source.scale()
            return self._scales[path]


def _cause(error: Exception) -> str:
    """What GDAL says; rasterio keeps it behind its own."""
    told = error.__cause__ or error.__context__ or error
    return (str(told).strip().splitlines() or [type(told).__name__])[0][:160]
