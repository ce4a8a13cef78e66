"""Distances against geodesics on the ellipsoid; nothing breaks at the antimeridian or the poles."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from saywhere.geodesy import chord, circle, distances_m, moved, positions, unit_vectors

ELLIPSOID = pyproj.Geod(ellps="WGS84")
LATS, LONS = st.floats(-90, 90), st.floats(-180, 180)


@settings(max_examples=300, deadline=None)
@given(LATS, LONS, LATS, LONS)
def test_distances_agree_with_the_ellipsoid(
    lat: float, lon: float, to_lat: float, to_lon: float
) -> None:
    _, _, expected = ELLIPSOID.inv(lon, lat, to_lon, to_lat)
    assert float(distances_m(lat, lon, to_lat, to_lon)) == pytest.approx(
        expected, rel=0.006, abs=1e-3
    )


@example(90.0, 0.0, 0.0, 0.5)
@example(-89.99999, 10.0, 77.0, 0.01)
@settings(max_examples=300, deadline=None)
@given(LATS, LONS, st.floats(0, 360), st.floats(0.01, 1_000_000))
def test_moving_goes_as_far_as_it_says(
    lat: float, lon: float, bearing: float, metres: float
) -> None:
    to_lat, to_lon = moved(lat, lon, bearing, metres)
    assert abs(to_lat) <= 90
    assert abs(to_lon) <= 180
    assert float(distances_m(lat, lon, to_lat, to_lon)) == pytest.approx(metres, rel=1e-6, abs=1e-3)


def test_moving_goes_where_the_compass_points() -> None:
    lat, lon = moved(48.0, 11.0, np.array([0.0, 90.0, 180.0, 270.0]), 1000.0)
    for at in range(4):
        azimuth, _, _ = ELLIPSOID.inv(11.0, 48.0, lon[at], lat[at])
        assert azimuth % 360 == pytest.approx(90.0 * at, abs=0.3) or azimuth == pytest.approx(0)


def test_the_antimeridian_is_no_edge() -> None:
    assert float(distances_m(10, 179.999, 10, -179.999)) == pytest.approx(219, abs=1)
    assert float(moved(0, 179.999, 90, 1000)[1]) == pytest.approx(-179.992, abs=1e-3)
    mean = unit_vectors([10, 10], [179.9, -179.9]).sum(0)
    lat, lon = positions(mean)
    assert (float(lat), abs(float(lon))) == pytest.approx((10, 180), abs=1e-3)
    assert {east > 180 for _, east in circle(0, 179.999, 1000)} == {True, False}


def test_the_pole_is_no_edge() -> None:
    assert float(distances_m(89.999, 0, 89.999, 180)) == pytest.approx(222, abs=1)
    lat, lon = moved(89.999, 0, 0, 300)
    assert float(distances_m(89.999, 0, lat, lon)) == pytest.approx(300, abs=0.1)
    assert abs(float(lon)) == pytest.approx(180)


def test_chords_order_distances() -> None:
    a, b = unit_vectors(48, 11), unit_vectors(*moved(48, 11, 37, 250.0))
    assert float(np.linalg.norm(a - b)) == pytest.approx(chord(250.0), rel=1e-6)
    assert chord(1e9) == pytest.approx(2)


def test_circles_run_counter_clockwise() -> None:
    ring = np.asarray(circle(48, 11, 100.0))
    north, east = (ring - ring.mean(0)).T
    assert float((east * np.roll(north, -1) - np.roll(east, -1) * north).sum()) > 0
    assert np.allclose(distances_m(48, 11, ring[:, 0], ring[:, 1]), 100, atol=0.01)
