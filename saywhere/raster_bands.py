"""From the bands of an open raster to 8-bit RGB: which are shown, scaled how, and where data is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import ImageError
from saywhere.images import BACKDROP
from saywhere.types import Window

if TYPE_CHECKING:
    from PIL.Image import Image
    from rasterio.io import DatasetReader
    from rasterio.windows import Window as Part

Bands = NDArray[np.generic]

_EDGE = 768  # pixels; a 60 % crop of it still has what the largest shipped view shows
_MOST_PIXELS = 1 << 23  # read at once of a tile; 100 MB as three bands of float32
_GRID, _SAMPLE = 8, 64  # windows each way, pixels each way: of the percentiles
_LOOK = 32  # pixels each way: enough to see how much of a tile is empty

Scale = tuple[float, float] | None  # the values that become 0 and 255; None for 8 bit


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """An open raster, and which of its bands are shown.

    Attributes:
        bands: one (grey, or indices into ``palette``) or three, from 1 as GDAL counts.
        alpha: the band of opacity, None without one.
        masked: whether pixels may be without data for another reason than alpha.
        palette: (4, 256) uint8 RGBA, None without one.
    """

    dataset: DatasetReader
    path: Path
    bands: tuple[int, ...]
    alpha: int | None
    masked: bool
    palette: NDArray[np.uint8] | None

    @classmethod
    def of(cls, dataset: DatasetReader, path: Path) -> Source:
        from rasterio.enums import ColorInterp, MaskFlags

        kinds = dict(zip(dataset.colorinterp, dataset.indexes, strict=True))
        alpha = kinds.get(ColorInterp.alpha)
        named = [kinds.get(kind) for kind in (ColorInterp.red, ColorInterp.green, ColorInterp.blue)]
        rest = [band for band in dataset.indexes if band != alpha]
        if np.dtype(dataset.dtypes[0]).kind == "c" or not rest:
            dataset.close()
            raise ImageError(f"{path}: its bands are no colours; export it as RGB")
        if None in named:
            named = rest[:3] if len(rest) >= 3 else rest[:1]
        flags = {flag for band in named if band for flag in dataset.mask_flag_enums[band - 1]}
        masked = bool(flags & {MaskFlags.nodata, MaskFlags.per_dataset} - _by_alpha(flags))
        masked |= np.dtype(dataset.dtypes[0]).kind == "f"  # NaN
        colours = ColorInterp.palette in kinds
        palette = _palette(dataset) if colours else None
        return cls(dataset, path, tuple(b for b in named if b), alpha, masked, palette)

    def scale(self) -> Scale:
        """Of the whole raster, by samples of it."""
        kind = np.dtype(self.dataset.dtypes[self.bands[0] - 1])
        bits = self.dataset.tags(self.bands[0], ns="IMAGE_STRUCTURE").get("NBITS", "8")
        if self.palette is not None or (kind == np.uint8 and bits == "8"):
            return None
        if kind == np.uint8:
            return 0.0, float(2 ** int(bits) - 1)
        found = [self._values(window) for window in _samples(*self.dataset.shape)]
        values = np.concatenate(found)
        if not values.size:
            return 0.0, 1.0
        low, high = np.percentile(values, (1, 99))
        return float(low), max(float(high), float(low) + 1e-9)

    def _values(self, window: Window) -> NDArray[np.float32]:
        """(n,) what has data in a window."""
        pixels, seen = self._read(window, 1)
        chosen = pixels if seen is None else pixels[:, seen]
        values = np.asarray(chosen, np.float32).ravel()
        return values[np.isfinite(values)]

    def image(self, window: Window, scale: Scale) -> Image:
        """The window as RGB, smaller where it is large; errors as ``RasterReader.read``."""
        import PIL.Image

        first, further = self._factors(window)
        pixels, seen = self._read(window, first)
        if self.palette is not None:
            seen = _both(seen, self.palette[3][pixels[0]] > 0)
            bands = [channel[pixels[0]] for channel in self.palette[:3]]
        else:
            bands = list(pixels if scale is None else _scaled(pixels, scale))
        if seen is not None and not seen.all():
            bands = [np.where(seen, b, np.uint8(g)) for b, g in zip(bands, BACKDROP, strict=False)]
        # Band by band: smaller before they are interleaved, which is the slowest step.
        shown = [PIL.Image.fromarray(band).reduce(further) for band in bands]
        return PIL.Image.merge("RGB", shown if len(shown) == 3 else shown * 3)

    def _factors(self, window: Window) -> tuple[int, int]:
        """How much smaller GDAL reads a window, and how much smaller Pillow makes that.

        Overviews cost least. Pillow's means take a fraction of the time of GDAL's, but hold in
        memory what they are of.
        """
        factor = max(1, min(window.width, window.height) // _EDGE)
        ready = [step for step in self.dataset.overviews(self.bands[0]) if step <= factor]
        needed = math.ceil(math.sqrt(window.width * window.height / _MOST_PIXELS))
        first = min(max([1, needed, *ready]), factor)
        return first, factor // first

    def _read(self, window: Window, factor: int) -> tuple[Bands, NDArray[np.bool_] | None]:
        """(bands, rows, columns) as stored, and (rows, columns) where there is data, or None."""
        from rasterio.enums import Resampling

        rows, columns = (max(1, round(n / factor)) for n in (window.height, window.width))
        asked: dict[str, Any] = {"window": _rasterio_window(self.dataset, self.path, window)}
        smooth = factor > 1 and self.palette is None  # means of palette indices are no colours
        resampling = Resampling.average if smooth else Resampling.nearest
        bands = [*self.bands, *([self.alpha] if self.alpha else [])]
        found = self.dataset.read(
            bands, out_shape=(len(bands), rows, columns), resampling=resampling, **asked
        )
        pixels = found[: len(self.bands)]
        seen = found[-1] > 0 if self.alpha else None
        if self.masked:
            shape = (len(self.bands), rows, columns)
            masks = self.dataset.read_masks(list(self.bands), out_shape=shape, **asked)
            seen = _both(seen, (masks > 0).any(0))
            if pixels.dtype.kind == "f":
                seen = _both(seen, np.isfinite(pixels).all(0))
        return pixels, seen


def seen_share(dataset: DatasetReader, window: Window) -> float:
    """Share of a window's pixels that have data, by 32 x 32 of them; 1 where none can lack it.

    Raises:
        rasterio.errors.RasterioError: damage.
    """
    from rasterio.enums import MaskFlags

    if all(flags == [MaskFlags.all_valid] for flags in dataset.mask_flag_enums):
        return 1.0
    rows, columns = min(_LOOK, window.height), min(_LOOK, window.width)
    place = _rasterio_window(dataset, Path(dataset.name), window)
    bands = list(dataset.indexes[:3])
    masks = dataset.read_masks(bands, window=place, out_shape=(len(bands), rows, columns))
    return float((masks > 0).any(0).mean())


def _by_alpha(flags: set[Any]) -> set[Any]:
    """GDAL calls the mask of an alpha band one of the whole dataset, too."""
    from rasterio.enums import MaskFlags

    return {MaskFlags.per_dataset} if MaskFlags.alpha in flags else set()


def _palette(dataset: DatasetReader) -> NDArray[np.uint8]:
    table = np.zeros((4, 256), np.uint8)
    for index, colour in dataset.colormap(1).items():
        if index < 256:
            table[:, index] = colour
    return table


def _samples(height: int, width: int) -> Iterator[Window]:
    """A grid of small windows over a raster."""
    rows = np.unique(np.linspace(0, max(0, height - _SAMPLE), _GRID).astype(int)).tolist()
    columns = np.unique(np.linspace(0, max(0, width - _SAMPLE), _GRID).astype(int)).tolist()
    for row in rows:
        for column in columns:
            yield Window(column, row, min(_SAMPLE, width), min(_SAMPLE, height))


def _rasterio_window(dataset: DatasetReader, path: Path, window: Window) -> Part:
    from rasterio.windows import Window as Part

    right, bottom = window.column + window.width, window.row + window.height
    inside = min(window.column, window.row) >= 0 and min(window.width, window.height) > 0
    if not inside or right > dataset.width or bottom > dataset.height:
        raise ImageError(
            f"{path}: has {dataset.width} x {dataset.height} pixels and no part of "
            f"{window.width} x {window.height} at {window.column},{window.row}; index it again"
        )
    return Part(window.column, window.row, window.width, window.height)


def _scaled(pixels: Bands, scale: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = scale
    values = np.nan_to_num(pixels.astype(np.float32), nan=low, posinf=high, neginf=low)
    return ((np.clip(values, low, high) - low) * (255 / (high - low))).astype(np.uint8)


def _both(one: NDArray[np.bool_] | None, other: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return other if one is None else one & other
