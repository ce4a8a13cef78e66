"""Where the pixels of a georeferenced raster lie, and how large they are on the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saywhere.footprints import raster_footprint
from saywhere.geodesy import distances_m
from saywhere.types import Footprint, Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

Floats = NDArray[np.float64]

_BASE = 500  # pixels at most, over which the resolution is measured: PROJ is exact to millimetres


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a raster or a tile lies, centre and border; None off the Earth."""

    lat: float | None
    lon: float | None
    footprint: Footprint | None


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """Where a raster's pixels lie.

    Attributes:
        to_map: a, b, c, d, e, f of x = a column + b row + c, y = d column + e row + f.
        metres: ground size of a pixel at the centre, along a row and along a column.
    """

    crs: object
    to_map: tuple[float, ...]
    metres: tuple[float, float]

    @classmethod
    def of(cls, dataset: DatasetReader) -> Ground | None:
        """None where the raster has no place on the Earth, or its centre hasn't."""
        if dataset.crs is None or dataset.transform.is_identity:
            return None
        ground = cls(dataset.crs, tuple(dataset.transform)[:6], (0.0, 0.0))
        base = [max(1.0, min(size / 10, _BASE)) for size in (dataset.width, dataset.height)]
        x, y = dataset.width / 2, dataset.height / 2
        columns = np.asarray([x - base[0] / 2, x + base[0] / 2, x, x])
        rows = np.asarray([y, y, y - base[1] / 2, y + base[1] / 2])
        try:
            lat, lon = ground.place(columns, rows)
        except Exception:  # GDAL raises many unrelated types on odd projections
            return None
        sizes = distances_m(lat[::2], lon[::2], lat[1::2], lon[1::2]) / base
        if not (np.isfinite(sizes).all() and (sizes > 0).all()):
            return None
        return replace(ground, metres=(float(sizes[0]), float(sizes[1])))

    def place(self, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """(lat, lon) in WGS84 degrees of (n,) pixel positions; NaN off the Earth."""
        from rasterio.warp import transform

        a, b, c, d, e, f = self.to_map
        x, y = a * columns + b * rows + c, d * columns + e * rows + f
        lons, lats = transform(self.crs, "EPSG:4326", x.tolist(), y.tolist())
        lat, lon = np.asarray(lats, np.float64), np.asarray(lons, np.float64)
        good = np.isfinite(lat) & np.isfinite(lon) & (abs(lat) <= 90) & (abs(lon) <= 360)
        # A raster across the antimeridian may count on beyond 180.
        wrapped = np.where(abs(lon) > 180, (lon + 540) % 360 - 180, lon)
        return np.where(good, lat, np.nan), np.where(good, wrapped, np.nan)

    def places(self, windows: Sequence[Window]) -> list[Placed]:
        """Centre and footprint of each window; None where it is not on the Earth."""
        boxes = np.asarray([(w.column, w.row, w.width, w.height) for w in windows], np.float64)
        left, top, width, height = boxes.T
        # Centre, then the corners in ring order.
        shares = np.asarray([(0.5, 0.5), (0, 0), (0, 1), (1, 1), (1, 0)])
        columns = left[:, None] + width[:, None] * shares[:, 0]
        rows = top[:, None] + height[:, None] * shares[:, 1]
        lat, lon = self.place(columns.ravel(), rows.ravel())
        places = np.stack([lat, lon], -1).reshape(len(windows), 5, 2)
        return [_placed(found) for found in places]


def _placed(places: Floats) -> Placed:
    known = [bool(np.isfinite(place).all()) for place in places]
    lat, lon = places[0].tolist() if known[0] else (None, None)
    corners = [(float(north), float(east)) for north, east in places[1:]]
    footprint = raster_footprint(corners) if all(known[1:]) else None
    return Placed(lat, lon, footprint)
