"""GeoJSON geometries as positions and footprints (RFC 7946: WGS84, longitude first)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from saywhere.data.source import shown_value
from saywhere.errors import InputError
from saywhere.footprints import footprint_centre, polygon_footprint
from saywhere.types import Footprint

_MOST_CORNERS = 2_000  # of a footprint, which every row of an index carries


@dataclass(frozen=True, slots=True)
class Ground:
    """A position in WGS84 degrees, and the ground around it where a polygon says so."""

    lat: float | None = None
    lon: float | None = None
    footprint: Footprint | None = None


def read_geometry(geometry: object) -> Ground:
    """A Point is a position; a Polygon, or a MultiPolygon of two, a footprint about its centre.

    Holes are left out: an image without a part of its ground shows the ground around it.

    Raises:
        InputError: anything else; a clause with its remedy, to be put after the entry's name.
    """
    if geometry is None:
        return Ground()
    kind = geometry.get("type") if isinstance(geometry, Mapping) else None
    if not isinstance(geometry, Mapping) or kind not in ("Point", "Polygon", "MultiPolygon"):
        raise InputError(f"geometry {shown_value(kind)} is no place; give a Point or a Polygon")
    coordinates = geometry.get("coordinates")
    if kind == "Point":
        lat, lon = _corner(coordinates)
        if not (abs(lat) <= 90 and abs(lon) <= 180):
            raise InputError(
                f"point {lon:g}, {lat:g} is no WGS84 position; give longitude, then latitude"
            )
        return Ground(lat, lon)
    polygons = [coordinates] if kind == "Polygon" else _list(coordinates)
    footprint = polygon_footprint([_outline(polygon) for polygon in polygons])
    lat, lon = footprint_centre(footprint)
    return Ground(lat, lon, footprint)


def _outline(polygon: object) -> list[tuple[float, float]]:
    """(lat, lon) corners of a polygon's outer ring, without the last, which repeats the first."""
    rings = _list(polygon)
    if not rings:
        raise InputError("polygon without a ring; give its corners")
    corners = [_corner(corner) for corner in _list(rings[0])]
    if len(corners) > _MOST_CORNERS:
        raise InputError(f"polygon of {len(corners):,} corners; simplify it to {_MOST_CORNERS:,}")
    return corners[:-1] if len(corners) > 1 and corners[0] == corners[-1] else corners


def _list(value: object) -> list[object]:
    if not isinstance(value, list | tuple):
        raise InputError("coordinates are no list of positions; write them as GeoJSON has it")
    return list(value)


def _corner(value: object) -> tuple[float, float]:
    numbers = _list(value)[:2]  # a third is the height
    if len(numbers) != 2:
        raise InputError(f"position {shown_value(value)} is no pair; give longitude, then latitude")
    lon, lat = (_finite(number) for number in numbers)
    return lat, lon


def _finite(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"coordinate {shown_value(value)} is no number; write degrees")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"coordinate {shown_value(value)} is not finite; write degrees")
    return number
