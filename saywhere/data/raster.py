"""Large GeoTIFFs as overlapping tiles: one record a tile, with its place on the Earth.

A raster of at most one and a half tiles each way stays one image. Others are cut along each axis
into tiles of one size, evenly spaced from edge to edge, so that each shares at least the asked
overlap with the next and none hangs over the border. The size in pixels follows from the raster's
own resolution at its centre, whatever its CRS, and is never below 64 pixels: of a coarser raster
the tiles are larger than asked, and a note says so.

Tiles with data in less than 5 % of their pixels are left out.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from saywhere.data.ground import Ground, Placed
from saywhere.errors import InputError, printable
from saywhere.raster_bands import seen_share
from saywhere.rasters import TIFF_SUFFIXES, open_geotiff
from saywhere.types import Platform, Record, Tiling, Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

WHOLE = 1.5  # tiles; what is no longer stays one image
_MIN_EDGE = 64  # pixels
_LEAST_SEEN = 0.05
_MAX_TILES = 100_000  # a raster


@dataclass(frozen=True, slots=True)
class TileOptions:
    """What a user said of tiles; None for what was not said."""

    size_m: float | None = None
    overlap: float | None = None

    def over(self, base: Tiling) -> Tiling:
        """``base`` with what was said; raises InputError as ``Tiling``."""
        given = {"size_m": self.size_m, "overlap": self.overlap}
        return replace(base, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Known:
    """Tiles of a file that is as it was when they were indexed.

    Attributes:
        whole: the file as one image, where it wasn't cut; without a footprint if it has no
            georeference.
        windows: tiles that are known to have data.
    """

    whole: Placed | None = None
    windows: frozenset[Window] = frozenset()


@dataclass(frozen=True, slots=True)
class Tiled:
    """Records after rasters were cut.

    Attributes:
        records: in the order of those given; a raster's tiles row by row in its place.
        images: how many are no georeferenced raster.
        whole: how many are small georeferenced rasters.
        rasters, tiles: how many rasters were cut, into how many tiles.
        empty: how many tiles were left out because there is next to no data in them.
        problems: a line about each raster that was left out.
        notes: a line about each raster whose tiles are not as asked.
    """

    records: tuple[Record, ...]
    images: int
    whole: int
    rasters: int
    tiles: int
    empty: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(slots=True)
class _Tally:
    records: list[Record] = field(default_factory=list)
    images: int = 0
    whole: int = 0
    rasters: int = 0
    tiles: int = 0
    empty: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def tile_records(
    records: Sequence[Record], tiling: Tiling, known: Mapping[str, Known] | None = None
) -> Tiled:
    """Cut the large GeoTIFFs among records; small ones get their footprint, others pass unchanged.

    A tile is a satellite image unless its record says otherwise, its position is its own centre,
    and its image_id is the raster's with the tile's first pixel, ``ortho.tif#c1024,r0``.

    Args:
        known: by real path; such a file's pixels aren't looked at again.
    """
    tally = _Tally()
    for record in records:
        if record.window is not None or record.path.suffix.lower() not in TIFF_SUFFIXES:
            tally.records.append(record)
            tally.images += 1
            continue
        held = known.get(str(record.path.resolve())) if known else None
        if held is not None and held.whole is not None:
            _keep_whole(record, held.whole, tally)
            continue
        try:
            _cut(record, tiling, held.windows if held else frozenset(), tally)
        except InputError as error:
            tally.problems.append(printable(f"{record.path}: {error}"))
    return Tiled(
        tuple(tally.records), tally.images, tally.whole, tally.rasters, tally.tiles, tally.empty,
        tuple(tally.problems), tuple(tally.notes),
    )  # fmt: skip


def tile_windows(
    width: int, height: int, metres: tuple[float, float], tiling: Tiling
) -> list[Window]:
    """Tiles of a raster, row by row; a single one for a raster that stays whole.

    Args:
        width, height: pixels.
        metres: ground size of a pixel along a row and along a column.

    Raises:
        InputError: more than 100,000 tiles.
    """
    across, down = (
        _spans(length, _edge(size, tiling), tiling.overlap)
        for length, size in ((width, metres[0]), (height, metres[1]))
    )
    if across.count * down.count > _MAX_TILES:
        raise InputError(
            f"{width} x {height} pixels would be {across.count * down.count:,} tiles of "
            f"{tiling.size_m:g} m; give a larger --tile-size or a smaller --overlap"
        )
    return [
        Window(column, row, across.edge, down.edge)
        for row in down.starts()
        for column in across.starts()
    ]


@dataclass(frozen=True, slots=True)
class _Spans:
    """``count`` pieces of ``edge`` pixels, evenly spaced over ``length``."""

    length: int
    edge: int
    count: int

    def starts(self) -> list[int]:
        starts = np.rint(np.linspace(0, self.length - self.edge, self.count))
        return [int(start) for start in starts]


def _spans(length: int, edge: int, overlap: float) -> _Spans:
    if length <= WHOLE * edge:
        return _Spans(length, length, 1)
    step = max(edge * (1 - overlap), 1.0)
    return _Spans(length, edge, 1 + math.ceil((length - edge) / step))


def _edge(metres: float, tiling: Tiling) -> int:
    """Pixels of a tile's edge; a lying georeference must not overflow it."""
    return max(_MIN_EDGE, round(min(tiling.size_m / metres, 1e9)))


def _cut(record: Record, tiling: Tiling, trusted: Collection[Window], tally: _Tally) -> None:
    """Adds one TIFF's records."""
    with warnings.catch_warnings():
        from rasterio.errors import NotGeoreferencedWarning

        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            dataset = open_geotiff(record.path)
        except Exception:  # GDAL raises many unrelated types; decoding says what is wrong
            tally.records.append(record)
            tally.images += 1
            return
    with dataset:
        ground = Ground.of(dataset)
        if ground is None:
            tally.records.append(record)
            tally.images += 1
            return
        windows = tile_windows(dataset.width, dataset.height, ground.metres, tiling)
        if len(windows) == 1:
            _keep_whole(record, ground.places(windows)[0], tally)
            return
        seen = _with_data(dataset, windows, trusted)
    if not seen:
        raise InputError("holds no data in any of its tiles; leave it out or set its nodata value")
    tally.notes += _notes(record, ground, tiling)
    tally.rasters += 1
    tally.tiles += len(seen)
    tally.empty += len(windows) - len(seen)
    platform = record.platform or Platform.SATELLITE
    tally.records += [
        replace(
            record, image_id=f"{record.image_id}#c{window.column},r{window.row}",
            platform=platform, lat=part.lat, lon=part.lon, window=window, footprint=part.footprint,
        )
        for window, part in zip(seen, ground.places(seen), strict=True)
    ]  # fmt: skip


def _keep_whole(record: Record, part: Placed, tally: _Tally) -> None:
    """Adds a TIFF that stays one image; what its record says of its position comes first."""
    lat, lon = (part.lat, part.lon) if record.lat is None else (record.lat, record.lon)
    tally.records.append(replace(record, lat=lat, lon=lon, footprint=part.footprint))
    tally.whole += part.footprint is not None
    tally.images += part.footprint is None


def _with_data(
    dataset: DatasetReader, windows: Sequence[Window], trusted: Collection[Window]
) -> list[Window]:
    """Those with enough data; a damaged part counts as some, and reading it will say so."""
    from rasterio.errors import RasterioError

    seen = []
    for window in windows:
        try:
            if window in trusted or seen_share(dataset, window) >= _LEAST_SEEN:
                seen.append(window)
        except RasterioError:
            seen.append(window)
    return seen


def _notes(record: Record, ground: Ground, tiling: Tiling) -> list[str]:
    coarse = max(ground.metres)
    if tiling.size_m / coarse >= _MIN_EDGE - 0.5:
        return []
    return [
        printable(
            f"{record.image_id}: its pixels are {coarse:.3g} m wide, so its tiles are "
            f"{_MIN_EDGE} pixels or {_MIN_EDGE * coarse:.3g} m instead of {tiling.size_m:g} m"
        )
    ]
