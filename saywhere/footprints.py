"""The ground an image shows, as rings on the Earth: of rasters, and of cameras over flat ground.

Positions are WGS84 degrees in the order (lat, lon), lengths metres, angles degrees.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.coordinates import check_position
from saywhere.errors import InputError
from saywhere.geodesy import moved, positions, unit_vectors
from saywhere.types import Footprint

Ring = list[tuple[float, float]]  # (lat, lon); the longitudes of an open ring may leave [-180, 180]
_ROUND = 36  # corners of the circle that bounds how far a camera sees: 0.4 % off a true one
_CLOSE = 1e-12  # degrees; two such corners are one
_ROUNDING = 1e-9  # degrees, a tenth of a millimetre: what is that near to the antimeridian is on it


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a camera is and how it is turned.

    Angles as DJI writes those of a gimbal: applied in the order yaw, pitch, roll in the local north
    east down frame. A pitch of -90 looks straight down (nadir), 0 at the horizon.

    Attributes:
        lat, lon: WGS84 degrees.
        height_m: metres above the ground, which is taken to be flat.
        yaw: degrees clockwise from north of the direction of view; at nadir, of the image's top.
        pitch: degrees above the horizon.
        roll: degrees clockwise about the direction of view.
    """

    lat: float
    lon: float
    height_m: float
    yaw: float = 0.0
    pitch: float = -90.0
    roll: float = 0.0


def camera_footprint(
    pose: Pose, hfov: float, vfov: float, *, max_distance_m: float = 1000.0
) -> Footprint | None:
    """The flat ground a camera without distortion sees, approximate by nature.

    Args:
        hfov, vfov: the angles of view from side to side and from top to bottom, degrees.
        max_distance_m: what lies further from the point below the camera is left out: rays at and
            above the horizon never meet the ground, and those just below it see nothing clearly.

    Returns:
        None where no ground is seen: a camera that looks up, or is on or below the ground.

    Raises:
        InputError: no position, an angle of view outside 0 … 180, or a number that is not finite.
    """
    _check(pose, hfov, vfov, max_distance_m)
    if pose.height_m <= 0:
        return None
    rays = _corner_rays(pose, hfov, vfov)
    reach = max_distance_m / pose.height_m
    if not _all_within(rays, reach):
        rays = _within(rays, reach)
        if len(rays) < 3:
            return None
    north, east = (pose.height_m * rays[:, :2] / rays[:, 2:]).T
    bearings, metres = np.degrees(np.arctan2(east, north)), np.hypot(north, east)
    lats, lons = moved(pose.lat, pose.lon, bearings, metres)
    rings = _rings(list(zip(lats.tolist(), lons.tolist(), strict=True)))
    return Footprint(rings, approximate=True) if rings else None


def raster_footprint(border: Sequence[tuple[float, float]]) -> Footprint:
    """The ground within a raster's border, exact up to the straight lines between its points.

    Args:
        border: (lat, lon) of its corners, or of more points along its edges, in ring order and not
            closed. The way from one to the next is the one of less than 180 degrees of longitude,
            or, along a parallel from -180 to 180, all of them: any other raster that is so wide
            needs points in between.

    Raises:
        InputError: fewer than three different points, or what is no WGS84 position.
    """
    return polygon_footprint([border])


def polygon_footprint(polygons: Sequence[Sequence[tuple[float, float]]]) -> Footprint:
    """The ground within one polygon without holes, or two that the antimeridian divides.

    Args:
        polygons: each as the border of ``raster_footprint``.

    Raises:
        InputError: as ``raster_footprint``, or more than two polygons.
    """
    rings: list[tuple[tuple[float, float], ...]] = []
    for border in polygons:
        for lat, lon in border:
            check_position(lat, lon, "corner")
        found = _rings(list(border))
        if not found:
            raise InputError(
                f"border of {len(border)} points: encloses no ground; give its corners in order"
            )
        rings += found
    if not 1 <= len(rings) <= 2:
        raise InputError(
            f"footprint of {len(rings)} polygons; give one, or two divided by the antimeridian"
        )
    return Footprint(tuple(rings), approximate=False)


def footprint_centre(footprint: Footprint) -> tuple[float, float]:
    """(lat, lon) of the mean corner: inside a convex footprint, on either side of the antimeridian.

    At a footprint around a pole it is the pole, nearly.
    """
    corners = [corner for ring in footprint.rings for corner in ring]
    lats, lons = zip(*corners, strict=True)
    lat, lon = positions(unit_vectors(lats, lons).mean(axis=0))
    return float(lat), float(lon)


def _check(pose: Pose, hfov: float, vfov: float, max_distance_m: float) -> None:
    check_position(pose.lat, pose.lon, "camera")
    for name, value in (("hfov", hfov), ("vfov", vfov)):
        if not 0 < value < 180:
            raise InputError(f"{name} of {value:g} degrees: give more than 0 and less than 180")
    for name in ("height_m", "yaw", "pitch", "roll"):
        if not math.isfinite(getattr(pose, name)):
            raise InputError(f"{name} of {getattr(pose, name)}: give a finite number")
    if not 0 < max_distance_m < math.inf:
        raise InputError(f"max_distance_m of {max_distance_m}: give a finite number above 0")


def _corner_rays(pose: Pose, hfov: float, vfov: float) -> NDArray[np.float64]:
    """(4, 3) rays through the corners: north, east, down; from the upper left one on, clockwise.

    The axes of the camera are those of the rotation yaw, then pitch, then roll; written out, since
    a folder of ten thousand photos asks ten thousand times.
    """
    yaw, pitch, roll = (math.radians(angle) for angle in (pose.yaw, pose.pitch, pose.roll))
    sy, cy, sp, cp = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    sr, cr = math.sin(roll), math.cos(roll)
    forward = np.array([cy * cp, sy * cp, -sp])
    right = np.array([cy * sp * sr - sy * cr, sy * sp * sr + cy * cr, cp * sr])
    down = np.array([cy * sp * cr + sy * sr, sy * sp * cr - cy * sr, cp * cr])
    right *= math.tan(math.radians(hfov) / 2)
    down *= math.tan(math.radians(vfov) / 2)
    above, below = forward - down, forward + down
    return np.array([above - right, above + right, below + right, below - right])


def _all_within(rays: NDArray[np.float64], reach: float) -> bool:
    down = rays[:, 2]
    return bool(np.all(down > 0) and np.all(np.hypot(rays[:, 0], rays[:, 1]) <= reach * down))


def _within(rays: NDArray[np.float64], reach: float) -> NDArray[np.float64]:
    """Corners of the view that meet the ground within ``reach`` heights of the point below.

    A side of the polygon that bounds the ground is a plane through the camera, so the view is cut
    as rays. No division is needed, and rays above the horizon are as good as any.
    """
    inner = reach * math.cos(math.pi / _ROUND)
    for angle in np.arange(_ROUND) * (2 * math.pi / _ROUND):
        plane = np.array([-math.cos(angle), -math.sin(angle), inner])
        rays = _cut(rays, rays @ plane)
        if len(rays) < 3:
            break
    return rays


def _cut(points: NDArray[np.float64], side: NDArray[np.float64]) -> NDArray[np.float64]:
    """A convex (or nearly so) polygon's part where ``side`` is not negative (Sutherland-Hodgman).

    Args:
        points: (n, d) corners in ring order.
        side: (n,) a linear function of them.
    """
    kept = []
    for index, here in enumerate(side):
        before = side[index - 1]
        if (here < 0) != (before < 0):
            share = before / (before - here)
            kept.append(points[index - 1] + share * (points[index] - points[index - 1]))
        if here >= 0:
            kept.append(points[index])
    return np.asarray(kept, np.float64).reshape(-1, points.shape[1])


def _rings(corners: Ring) -> tuple[tuple[tuple[float, float], ...], ...]:
    """A closed line on the Earth as rings in [-180, 180], counter-clockwise as GeoJSON wants them.

    Where it runs around a pole, the pole is inside, and the ring goes along the pole.
    """
    path = _unrolled(corners)
    if len(path) < 3:
        return ()
    turns = 360 * math.floor((min(lon for _, lon in path) + 180) / 360)
    path = [(float(lat), float(lon) - turns) for lat, lon in path]
    pieces = [path]
    if max(lon for _, lon in path) > 180:
        points = np.asarray(path)
        west = _cut(points, 180 - points[:, 1])
        east = _cut(points, points[:, 1] - 180) - (0, 360)
        pieces = [
            [(lat, _on_the_cut(lon)) for lat, lon in piece.tolist()] for piece in (west, east)
        ]
    return tuple(ring for ring in map(_tidy, pieces) if ring)


def _on_the_cut(lon: float) -> float:
    """Exactly 180 degrees where a longitude is a rounding error off, to either side."""
    return math.copysign(180.0, lon) if abs(abs(lon) - 180) < _ROUNDING else lon


def _unrolled(corners: Ring) -> Ring:
    """The corners with longitudes that never jump, around a pole where they enclose one."""
    spread = _poles_spread(corners)
    path: Ring = []
    for index, (lat, lon) in enumerate(spread):
        before = spread[index - 1]
        path.append((lat, path[-1][1] + _step(before, (lat, lon)) if path else lon))
    if len(path) < 3:
        return []
    back = path[-1][1] + _step(spread[-1], spread[0])
    if abs(back - path[0][1]) > 180:  # once around the Earth: a pole is inside
        pole = math.copysign(90.0, sum(lat for lat, _ in path))
        path += [(path[0][0], back), (pole, back), (pole, path[0][1])]
    return path


def _poles_spread(corners: Ring) -> Ring:
    """A lone corner on a pole has every longitude: it becomes two, with those of its neighbours.

    Several in a row are the edge of a raster in degrees, and their longitudes its columns.
    """
    spread: Ring = []
    for index, (lat, lon) in enumerate(corners):
        before, after = corners[index - 1], corners[(index + 1) % len(corners)]
        if abs(lat) == 90 and abs(before[0]) < 90 and abs(after[0]) < 90:
            spread += [(lat, before[1]), (lat, after[1])]
        else:
            spread.append((lat, lon))
    return spread


def _step(start: tuple[float, float], end: tuple[float, float]) -> float:
    """Degrees of longitude from one corner to the next, the short way round, in (-180, 180].

    Along a parallel from -180 to 180 it is the way of a map of the whole world.
    """
    degrees = end[1] - start[1]
    if abs(degrees) == 360 and start[0] == end[0]:
        return degrees
    return 180 - (180 - degrees) % 360


def _tidy(path: Ring) -> tuple[tuple[float, float], ...]:
    """Neighbours that are one corner joined; counter-clockwise; nothing where no area is left."""
    ring = [
        (lat, lon)
        for index, (lat, lon) in enumerate(path)
        if abs(lat - path[index - 1][0]) > _CLOSE or abs(lon - path[index - 1][1]) > _CLOSE
    ]
    if len(ring) < 3:
        return ()
    # The shoelace formula about the first corner, where degrees of a small ring keep their digits.
    local = [(lat - ring[0][0], lon - ring[0][1]) for lat, lon in ring]
    area = math.fsum(
        local[index - 1][1] * lat - lon * local[index - 1][0]
        for index, (lat, lon) in enumerate(local)
    )
    return tuple(ring if area > 0 else ring[::-1]) if area else ()
