"""Distances and directions on the Earth. Arrays only, WGS84 degrees and metres.

The Earth is a sphere of its mean radius here. Against the ellipsoid that is wrong by at most 0.6 %
(tested), far less than a region's radius is known to, and needs no projection, so nothing breaks at
the antimeridian or at the poles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

EARTH_RADIUS_M = 6_371_008.8  # mean radius of WGS84 (Moritz 2000, Geodetic Reference System 1980)


def unit_vectors(lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Directions from the Earth's centre: (…, 3) from (…) degrees."""
    phi, lam = np.radians(np.asarray(lat, np.float64)), np.radians(np.asarray(lon, np.float64))
    across = np.cos(phi)
    return np.stack([across * np.cos(lam), across * np.sin(lam), np.sin(phi)], -1)


def positions(vectors: Floats) -> tuple[Floats, Floats]:
    """(lat, lon) in degrees of directions (…, 3) of any length but zero; lon in [-180, 180]."""
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


def distances_m(lat: ArrayLike, lon: ArrayLike, to_lat: ArrayLike, to_lon: ArrayLike) -> Floats:
    """Great-circle metres between positions in degrees, broadcast (haversine: exact when near)."""
    phi, to_phi = np.radians(np.asarray(lat, np.float64)), np.radians(np.asarray(to_lat))
    turn = np.radians(np.asarray(to_lon, np.float64) - np.asarray(lon, np.float64))
    half = np.sin((to_phi - phi) / 2) ** 2
    half = half + np.cos(phi) * np.cos(to_phi) * np.sin(turn / 2) ** 2
    return np.asarray(2 * EARTH_RADIUS_M * np.arcsin(np.sqrt(np.minimum(half, 1))))


def chord(metres: float) -> float:
    """The straight line, in Earth radii, between two points ``metres`` apart on the ground."""
    return float(2 * np.sin(min(metres / EARTH_RADIUS_M, np.pi) / 2))


def moved(lat: ArrayLike, lon: ArrayLike, bearing: ArrayLike, metres: ArrayLike) -> tuple[
    Floats, Floats
]:  # fmt: skip
    """Where one arrives: (lat, lon) in degrees, broadcast.

    Args:
        lat, lon: the start, degrees.
        bearing: degrees clockwise from north.
        metres: along the great circle.
    """
    phi, lam = np.radians(np.asarray(lat, np.float64)), np.radians(np.asarray(lon, np.float64))
    theta = np.radians(np.asarray(bearing, np.float64))
    arc = np.asarray(metres, np.float64) / EARTH_RADIUS_M
    up = np.sin(phi) * np.cos(arc) + np.cos(phi) * np.sin(arc) * np.cos(theta)
    out = np.cos(phi) * np.cos(arc) - np.sin(phi) * np.sin(arc) * np.cos(theta)
    east = np.sin(arc) * np.sin(theta)
    # Not the arcsine of ``up``: near a pole it is millimetres to decimetres off.
    there = np.arctan2(up, np.hypot(out, east))
    turn = np.arctan2(east, out)
    return np.degrees(there), (np.degrees(lam + turn) + 540) % 360 - 180


def circle(lat: float, lon: float, metres: float, corners: int = 72) -> list[tuple[float, float]]:
    """(lat, lon) of the corners of a circle, counter-clockwise as GeoJSON wants it, not closed.

    Longitudes may leave [-180, 180] so that neighbours are never half the Earth apart.
    """
    bearings = -np.arange(corners) * (360 / corners)
    lats, lons = moved(lat, lon, bearings, metres)
    lons = lon + (lons - lon + 540) % 360 - 180
    return list(zip(lats.tolist(), lons.tolist(), strict=True))
