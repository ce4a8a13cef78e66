"""A map's background out of the index's own satellite tiles."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saywhere.errors import InputError
from saywhere.geodesy import distances_m
from saywhere.rasters import open_geotiff
from saywhere.scored_images import ScoredImages
from saywhere.types import Platform

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST = 400  # tiles drawn, the nearest to the middle
_SUFFIXES = (".tif", ".tiff")
_SEA = (228, 232, 238)  # where no tile is


@dataclass(frozen=True, slots=True)
class Extent:
    """A rectangle in WGS84 degrees; east > west, and may lie beyond 180."""

    west: float
    south: float
    east: float
    north: float

    @property
    def height_m(self) -> float:
        """From south to north, metres."""
        return float(distances_m(self.south, self.west, self.north, self.west))


def orthophoto(
    images: ScoredImages, extent: Extent, size: tuple[int, int], chart: Path | None = None
) -> Image | None:
    """The satellite GeoTIFFs of an index in one picture, in degrees east and north.

    Args:
        size: (width, height) pixels.
        chart: a GeoTIFF to draw instead of the index's own.

    Returns:
        None where no tile lies there, across the antimeridian, and near the poles, where degrees
        make no map. Tiles that cannot be read are left out.

    Raises:
        InputError: ``chart`` shows nothing of the map.
    """
    import PIL.Image

    if extent.west < -180 or extent.east > 180 or max(-extent.south, extent.north) > 85:
        return None
    width, height = size
    canvas = np.zeros((3, height, width), np.uint8)
    # A raster of which several tiles lie there is drawn once.
    found = dict.fromkeys(Path(images.paths[row]) for row in _tiles(images, extent))
    tiles = list(found)[:_MOST] if chart is None else [chart]
    drawn = [_draw(tile, extent, canvas) for tile in tiles]
    if chart is not None and not drawn[0]:
        raise InputError(
            f"{chart}: shows nothing of the map, or is no 8-bit georeferenced GeoTIFF; "
            "give another, or leave it out"
        )
    if not any(drawn):
        return None
    empty = ~canvas.any(0)
    canvas[:, empty] = np.asarray(_SEA, np.uint8)[:, None]
    return PIL.Image.fromarray(np.moveaxis(canvas, 0, 2))


def _tiles(images: ScoredImages, extent: Extent) -> list[int]:
    """Rows of GeoTIFFs whose centre is on the map or nearly so, nearest to the middle first."""
    wide, high = (extent.east - extent.west) / 2, (extent.north - extent.south) / 2
    lat, lon = extent.south + high, extent.west + wide
    near = (abs(images.lat - lat) <= 1.5 * high) & (abs(images.lon - lon) <= 1.5 * wide)
    rows = [
        int(row)
        for row in np.flatnonzero(near)
        if images.platforms[row] in (Platform.SATELLITE, None)
        and Path(images.paths[row]).suffix.lower() in _SUFFIXES
    ]
    away = distances_m(lat, lon, images.lat[rows], images.lon[rows])
    return [rows[at] for at in np.argsort(away, kind="stable")]


def _draw(path: Path, extent: Extent, canvas: np.ndarray) -> bool:
    """Lay one tile on the canvas; whether it could be read."""
    import rasterio
    from rasterio.enums import Resampling
    from rasterio.errors import NotGeoreferencedWarning
    from rasterio.vrt import WarpedVRT

    _, height, width = canvas.shape
    across, down = (extent.east - extent.west) / width, (extent.north - extent.south) / height
    target = rasterio.Affine(across, 0.0, extent.west, 0.0, -down, extent.north)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            warnings.simplefilter("ignore", PendingDeprecationWarning)  # rasterio's use of affine
            with (
                open_geotiff(path) as tile,
                WarpedVRT(
                    tile, crs="EPSG:4326", transform=target, width=width, height=height,
                    resampling=Resampling.bilinear, add_alpha=True,
                ) as warped,
            ):  # fmt: skip
                window = _window(tile, extent, (width, height))
                if window is None or tile.dtypes[0] != "uint8":
                    return False
                bands = [1, 2, 3] if tile.count >= 3 else [1, 1, 1]
                rows, columns = window
                read = warped.read(
                    [*bands, warped.count],
                    window=((rows.start, rows.stop), (columns.start, columns.stop)),
                )
    except Exception:  # GDAL raises many unrelated types on damaged files
        return False
    seen = read[3] > 0
    canvas[:, rows, columns][:, seen] = read[:3][:, seen]
    return bool(seen.any())


def _window(tile: object, extent: Extent, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Rows and columns of the canvas that a tile can touch."""
    from rasterio.warp import transform_bounds

    west, south, east, north = transform_bounds(tile.crs, "EPSG:4326", *tile.bounds)  # type: ignore[attr-defined]
    width, height = size
    x_scale, y_scale = width / (extent.east - extent.west), height / (extent.north - extent.south)
    columns = _clipped((west - extent.west) * x_scale, (east - extent.west) * x_scale, width)
    rows = _clipped((extent.north - north) * y_scale, (extent.north - south) * y_scale, height)
    return None if rows is None or columns is None else (rows, columns)


def _clipped(low: float, high: float, size: int) -> slice | None:
    start, stop = max(0, math.floor(low)), min(size, math.ceil(high))
    return slice(start, stop) if start < stop else None
