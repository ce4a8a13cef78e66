"""Footprints: sizes by trigonometry, turned by yaw, cut at the antimeridian, whole at the poles."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.errors import InputError
from saywhere.footprints import (
    Pose,
    camera_footprint,
    footprint_centre,
    polygon_footprint,
    raster_footprint,
)
from saywhere.geodesy import distances_m
from saywhere.types import Footprint

LATS, LONS = st.floats(-85, 85), st.floats(-180, 180)
HEIGHTS, FOVS, YAWS = st.floats(5, 500), st.floats(5, 120), st.floats(-180, 180)
FAR = 1e5
Offsets = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


def seen(pose: Pose, hfov: float, vfov: float, far: float = FAR) -> Footprint:
    found = camera_footprint(pose, hfov, vfov, max_distance_m=far)
    assert found is not None
    assert found.approximate
    return found


def offsets(found: Footprint, lat: float, lon: float) -> Offsets:
    """(n, 2) metres east and north of a point, in its azimuthal projection on the same sphere."""
    local = pyproj.Proj(proj="aeqd", lat_0=lat, lon_0=lon, R=6_371_008.8)
    return np.asarray([local(c[1], c[0]) for ring in found.rings for c in ring])


def matches(found: Offsets, expected: Offsets, tolerance: float) -> bool:
    """Whether every expected corner is among those found."""
    gaps = np.hypot(*np.moveaxis(found[:, None] - expected[None], -1, 0))
    return bool((gaps.min(axis=0) < tolerance).all())


def sound(found: Footprint) -> None:
    assert 1 <= len(found.rings) <= 2
    for ring in found.rings:
        shape = shapely.Polygon([(lon, lat) for lat, lon in ring])
        assert shape.is_valid
        assert shape.exterior.is_ccw
        assert ring[0] != ring[-1]
        assert all(abs(lat) <= 90 and abs(lon) <= 180 for lat, lon in ring)


@settings(max_examples=200, deadline=None)
@given(LATS, LONS, HEIGHTS, YAWS, FOVS, FOVS)
def test_nadir_is_a_rectangle_turned_by_yaw(
    lat: float, lon: float, height: float, yaw: float, hfov: float, vfov: float
) -> None:
    found = seen(Pose(lat, lon, height, yaw), hfov, vfov)
    sound(found)
    across = height * math.tan(math.radians(hfov / 2))
    along = height * math.tan(math.radians(vfov / 2))
    sine, cosine = math.sin(math.radians(yaw)), math.cos(math.radians(yaw))
    expected = np.asarray(
        [
            (right * cosine + up * sine, up * cosine - right * sine)
            for right in (-across, across)
            for up in (-along, along)
        ]
    )
    assert matches(offsets(found, lat, lon), expected, 1e-3)


@settings(max_examples=100, deadline=None)
@given(HEIGHTS, YAWS, st.floats(-89, -20))
def test_the_centre_lies_where_the_camera_points(height: float, yaw: float, pitch: float) -> None:
    """A tiny angle of view: its footprint's centre is the ray's, height / tan(depression) away."""
    found = seen(Pose(48, 11, height, yaw, pitch), 0.02, 0.02)
    away = height / math.tan(math.radians(-pitch))
    east, north = offsets(found, 48, 11).mean(axis=0)
    assert math.hypot(east, north) == pytest.approx(away, rel=1e-3)
    assert math.remainder(math.degrees(math.atan2(east, north)) - yaw, 360) == pytest.approx(
        0, abs=0.05 + 2 / away
    )


def test_an_oblique_view_by_hand() -> None:
    """30 m up, 60° below the horizon, 40° x 30° of view, looking east: four corners by hand."""
    found = offsets(seen(Pose(0, 0, 30, 90, -60), 40, 30), 0, 0)
    expected = []
    for edge in (-15, 15):
        depression = math.radians(60 - edge)
        # The row's middle ray: slant length, and its sideways reach at that length.
        slant = 30 / math.sin(depression)
        side = slant * math.cos(math.radians(edge)) * math.tan(math.radians(20))
        expected += [(30 / math.tan(depression), side), (30 / math.tan(depression), -side)]
    assert matches(found, np.asarray(expected), 1e-3)


def test_roll_turns_clockwise_as_seen_through_the_camera() -> None:
    """Looking north and down, rolled to the right: what the right side shows comes nearer."""
    found = offsets(seen(Pose(0, 0, 100, 0, -45, 10), 40, 40), 0, 0)
    east, west = found[found[:, 0] > 0], found[found[:, 0] < 0]
    assert east[:, 1].max() < west[:, 1].max()
    level = offsets(seen(Pose(0, 0, 100, 0, -45, 0), 40, 40), 0, 0)
    assert level[level[:, 0] > 0][:, 1].max() == pytest.approx(level[level[:, 0] < 0][:, 1].max())


def test_yaw_and_roll_add_up_at_nadir() -> None:
    """A gimbal may report either: straight down, both turn the image about the vertical."""
    turned = offsets(seen(Pose(10, 10, 50, 30, -90, 0), 60, 40), 10, 10)
    rolled = offsets(seen(Pose(10, 10, 50, 10, -90, 20), 60, 40), 10, 10)
    assert matches(turned, rolled, 1e-3)


@settings(max_examples=150, deadline=None)
@given(LATS, LONS, HEIGHTS, YAWS, st.floats(-60, 60), st.floats(-30, 30), FOVS)
def test_the_horizon_is_cut_at_the_distance(
    lat: float, lon: float, height: float, yaw: float, pitch: float, roll: float, fov: float
) -> None:
    limit = 8 * height
    found = camera_footprint(Pose(lat, lon, height, yaw, pitch, roll), fov, fov * 0.75,
                             max_distance_m=limit)  # fmt: skip
    if found is None:
        # Nothing within the limit: the lowest ray is above its depression.
        assert pitch - fov / 2 > -math.degrees(math.atan(1 / 8)) - 31
        return
    sound(found)
    for ring in found.rings:
        away = distances_m(lat, lon, [c[0] for c in ring], [c[1] for c in ring])
        assert away.max() <= limit * 1.0001


def test_what_sees_no_ground_has_none() -> None:
    assert camera_footprint(Pose(0, 0, 50, 0, 45), 60, 40) is None
    assert camera_footprint(Pose(0, 0, 50, 0, 0), 60, 40) is not None
    assert camera_footprint(Pose(0, 0, 0, 0, -90), 60, 40) is None
    assert camera_footprint(Pose(0, 0, -3, 0, -90), 60, 40) is None
    assert camera_footprint(Pose(0, 0, 50, 0, -10), 1, 1, max_distance_m=100) is None


@pytest.mark.parametrize(
    ("pose", "hfov", "far"),
    [
        (Pose(91, 0, 10), 60, 100),
        (Pose(0, math.nan, 10), 60, 100),
        (Pose(0, 0, math.nan), 60, 100),
        (Pose(0, 0, 10, math.inf), 60, 100),
        (Pose(0, 0, 10), 0, 100),
        (Pose(0, 0, 10), 180, 100),
        (Pose(0, 0, 10), math.nan, 100),
        (Pose(0, 0, 10), 60, math.inf),
    ],
)
def test_what_is_no_pose_is_refused(pose: Pose, hfov: float, far: float) -> None:
    with pytest.raises(InputError, match=r"[:;] give"):
        camera_footprint(pose, hfov, 40, max_distance_m=far)


def test_the_antimeridian_cuts_in_two() -> None:
    found = seen(Pose(-17.0, 179.9999, 100, 20), 60, 45)
    sound(found)
    assert len(found.rings) == 2
    whole = seen(Pose(-17.0, 10, 100, 20), 60, 45)
    area = sum(shapely.Polygon(ring).area for ring in found.rings)
    assert area == pytest.approx(shapely.Polygon(whole.rings[0]).area, rel=1e-6)
    assert {math.copysign(1, ring[0][1]) for ring in found.rings} == {1.0, -1.0}
    lat, lon = footprint_centre(found)
    assert abs(lat + 17) < 1e-3
    assert abs(lon) > 179.99


def contains(found: Footprint, lat: float, lon: float) -> bool:
    return any(
        shapely.Polygon([(c[1], c[0]) for c in ring]).intersects(shapely.Point(lon, lat))
        for ring in found.rings
    )


@pytest.mark.parametrize("pole", [90.0, -90.0])
def test_a_pole_lies_inside(pole: float) -> None:
    near = math.copysign(89.9999, pole)
    for lat in (pole, near):
        found = seen(Pose(lat, 30, 100, 20), 90, 80)
        sound(found)
        assert all(contains(found, pole, lon) for lon in (-180, -90, 0, 45, 180))
        assert not contains(found, math.copysign(89.99, pole), 0)
    beside = seen(Pose(math.copysign(89.99, pole), 30, 100), 40, 40)
    assert not contains(beside, pole, 30)


def test_rasters() -> None:
    plain = raster_footprint([(1, 10), (1, 12), (0, 12), (0, 10)])
    assert not plain.approximate
    assert {*plain.rings[0]} == {(1, 10), (1, 12), (0, 12), (0, 10)}
    sound(plain)
    over = raster_footprint([(1, 179), (1, -179), (0, -179), (0, 179)])
    sound(over)
    assert [sorted(ring) for ring in over.rings] == [
        [(0, 179), (0, 180), (1, 179), (1, 180)],
        [(0, -180), (0, -179), (1, -180), (1, -179)],
    ]
    # Its east edge lies on the antimeridian: nothing to cut, whichever sign it is given.
    for edge in (180, -180):
        touching = raster_footprint([(1, 179), (1, edge), (0, edge), (0, 179)])
        assert len(touching.rings) == 1
        assert max(lon for _, lon in touching.rings[0]) == 180


def test_rasters_of_the_whole_world_and_of_the_poles() -> None:
    east = [-180, -90, 0, 90, 180]
    world = raster_footprint([*((90, lon) for lon in east), *((-90, lon) for lon in east[::-1])])
    assert contains(world, 0, 0)
    corners = raster_footprint([(90, -180), (90, 180), (-90, 180), (-90, -180)])
    band = raster_footprint([(60, 180), (60, -180), (-60, -180), (-60, 180)])
    for whole, high in ((corners, 180), (band, 120)):
        (ring,) = whole.rings
        assert shapely.Polygon(ring).area == 360 * high
    assert sum(shapely.Polygon(ring).area for ring in world.rings) == pytest.approx(360 * 180)
    arctic = raster_footprint([(80, 45), (80, 135), (80, -135), (80, -45)])
    sound(arctic)
    assert contains(arctic, 90, 10)
    assert sum(shapely.Polygon(ring).area for ring in arctic.rings) == pytest.approx(3600)
    antarctic = raster_footprint([(-80, 45), (-80, 135), (-80, -135), (-80, -45)])
    assert contains(antarctic, -89, 179.9)
    assert not contains(antarctic, 0, 0)
    corner = raster_footprint([(90, 7), (89, 0), (89, 90)])
    assert contains(corner, 89.5, 45)
    assert not contains(corner, 89.5, 100)


def test_a_meridian_of_two_names_is_one() -> None:
    mixed = raster_footprint([(1, 179), (1, 180), (0, -180), (0, 179)])
    assert sum(shapely.Polygon(ring).area for ring in mixed.rings) == pytest.approx(1)


def test_polygons() -> None:
    east, west = [(0, 179), (0, 180), (1, 180)], [(0, -180), (0, -179), (1, -180)]
    assert len(polygon_footprint([east, west]).rings) == 2
    for polygons in ([], [east, west, [(5, 5), (5, 6), (6, 6)]]):
        with pytest.raises(InputError, match="polygons; give one"):
            polygon_footprint(polygons)


@pytest.mark.parametrize(
    "border",
    [[], [(0, 0), (1, 1)], [(0, 0), (1, 1), (2, 2)], [(0, 0)] * 4, [(0, 0), (math.nan, 1), (1, 1)],
     [(95, 0), (1, 1), (0, 1)]],
)  # fmt: skip
def test_what_encloses_nothing_is_refused(border: list[tuple[float, float]]) -> None:
    with pytest.raises(InputError, match="; give"):
        raster_footprint(border)
