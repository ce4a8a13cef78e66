"""Where to look: a box, a circle, a polygon, or all that apply at once.

Filters are numbers and geometries that were checked here; none ever becomes part of a query text.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saywhere.coordinates import check_position, parse_numbers
from saywhere.errors import InputError
from saywhere.geodesy import distances_m
from saywhere.types import BoolArray

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

_MAX_BYTES = 50_000_000  # of a polygon file; the borders of a country take one


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in degrees; ``west`` > ``east`` crosses the antimeridian.

    Raises:
        InputError: no positions, or south above north.
    """

    west: float
    south: float
    east: float
    north: float

    def __post_init__(self) -> None:
        check_position(self.south, self.west, "box corner")
        check_position(self.north, self.east, "box corner")
        if self.south > self.north:
            raise InputError(
                f"box: south {self.south:g} is above north {self.north:g}; "
                "give WEST,SOUTH,EAST,NORTH"
            )

    def contains(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> BoolArray:
        """(n,) bool of n positions, borders included."""
        inside = (lat >= self.south) & (lat <= self.north)
        if self.west <= self.east:
            return np.asarray(inside & (lon >= self.west) & (lon <= self.east))
        return np.asarray(inside & ((lon >= self.west) | (lon <= self.east)))


@dataclass(frozen=True, slots=True)
class Circle:
    """All within ``metres`` of a position.

    Raises:
        InputError: no position, or a radius that isn't above 0.
    """

    lat: float
    lon: float
    metres: float

    def __post_init__(self) -> None:
        check_position(self.lat, self.lon, "centre")
        if not 0 < self.metres < float("inf"):
            raise InputError(f"radius of {self.metres:g} m: give more than 0 metres")

    def contains(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> BoolArray:
        """(n,) bool of n positions."""
        return np.asarray(distances_m(self.lat, self.lon, lat, lon) <= self.metres)


@dataclass(frozen=True, slots=True, eq=False)
class Polygon:
    """A shapely Polygon or MultiPolygon in (lon, lat) degrees, as GeoJSON has it."""

    geometry: BaseGeometry

    def contains(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> BoolArray:
        """(n,) bool of n positions, the border included."""
        import shapely

        return np.asarray(shapely.intersects_xy(self.geometry, lon, lat))


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Positions that lie in every one of ``parts``."""

    parts: tuple[Box | Circle | Polygon, ...]

    def contains(self, lat: NDArray[np.float64], lon: NDArray[np.float64]) -> BoolArray:
        """(n,) bool of n positions in degrees; NaN, no position, is outside."""
        inside = np.isfinite(lat) & np.isfinite(lon)
        for part in self.parts:
            inside = inside & part.contains(lat, lon)
        return inside


def parse_box(text: str) -> Box:
    """``WEST,SOUTH,EAST,NORTH`` in degrees, the order of GeoJSON.

    Raises:
        InputError: anything else.
    """
    return Box(*parse_numbers(text, "WEST,SOUTH,EAST,NORTH"))


def read_polygon(path: Path) -> Polygon:
    """The polygons of a GeoJSON file (RFC 7946), joined.

    Raises:
        InputError: no such file, no GeoJSON, no polygon, or one that crosses itself or leaves
            WGS84's degrees.
    """
    import shapely

    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: larger than {_MAX_BYTES:,} bytes; simplify the polygon")
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no JSON ({error}); give a GeoJSON file") from None
    shapes = [_shape(path, found) for found in _geometries(value)]
    if not shapes:
        raise InputError(f"{path}: holds no Polygon or MultiPolygon; give a GeoJSON file of areas")
    return Polygon(shapely.union_all(shapes))


def _geometries(value: object) -> list[dict[str, object]]:
    """Every polygon of a GeoJSON value."""
    if not isinstance(value, dict):
        return []
    kind = value.get("type")
    if kind == "FeatureCollection" and isinstance(value.get("features"), list):
        return [found for feature in value["features"] for found in _geometries(feature)]
    if kind == "Feature":
        return _geometries(value.get("geometry"))
    return [value] if kind in ("Polygon", "MultiPolygon") else []


def _shape(path: Path, value: dict[str, object]) -> BaseGeometry:
    import shapely
    from shapely.geometry import shape

    try:
        found = shape(value)
        west, south, east, north = found.bounds
    except Exception as error:  # shapely raises many unrelated types on malformed coordinates
        raise InputError(
            f"{path}: a polygon's coordinates are malformed ({error}); export it again"
        ) from None
    if not (west >= -180 and east <= 180 and south >= -90 and north <= 90):
        raise InputError(
            f"{path}: a polygon reaches {west:g},{south:g} … {east:g},{north:g}, outside WGS84 "
            "degrees; give lon, lat, and split it at the antimeridian (RFC 7946, 3.1.9)"
        )
    if not found.is_valid:
        raise InputError(
            f"{path}: a polygon is invalid ({shapely.is_valid_reason(found)}); repair it"
        )
    return found
