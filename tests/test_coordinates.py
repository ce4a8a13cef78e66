"""Positions read with checks and printed in four notations; areas and their borders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest

from saywhere.area import Area, Box, Circle, parse_box, read_polygon
from saywhere.coordinates import format_position, parse_numbers, parse_position
from saywhere.errors import InputError


@pytest.mark.parametrize(
    ("lat", "lon", "notation", "expected"),
    [
        (48.858372, 2.294481, "decimal", "48.858372, 2.294481"),
        (48.858372, 2.294481, "dms", "48°51′30.1″N 2°17′40.1″E"),
        (-0.99999999, -179.99999999, "dms", "1°00′00.0″S 180°00′00.0″W"),
    ],
)
def test_notations(lat: float, lon: float, notation: str, expected: str) -> None:
    assert format_position(lat, lon, notation) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lat", "lon", "zone", "square", "epsg"),
    [
        (48.858372, 2.294481, "31N", "31UDQ", 32631),
        (-33.8568, 151.2153, "56S", "56HLH", 32756),
        (60.39, 5.32, "32N", "32VKN", 32632),  # Bergen: zone 32 by exception
        (78.22, 15.65, "33N", "33XWG", 32633),  # Svalbard
    ],
)
def test_utm_and_mgrs_agree_with_proj(
    lat: float, lon: float, zone: str, square: str, epsg: int
) -> None:
    x, y = pyproj.Transformer.from_crs(4326, epsg).transform(lat, lon)
    assert format_position(lat, lon, "utm") == f"{zone} {x:.0f} {y:.0f}"
    # MGRS cuts digits off where UTM rounds.
    assert (
        format_position(lat, lon, "mgrs") == f"{square}{int(x) % 100_000:05d}{int(y) % 100_000:05d}"
    )


def test_beyond_utm_there_is_ups() -> None:
    x, y = pyproj.Transformer.from_crs(4326, 5041, always_xy=True).transform(10.0, 89.5)
    text = format_position(89.5, 10.0, "utm")
    assert text == format_position(89.5, 10.0, "mgrs")
    assert text[:3].isalpha()
    assert text[3:] == f"{int(x) % 100_000:05d}{int(y) % 100_000:05d}"


@pytest.mark.parametrize(
    "text", ["", "48", "48,11,3", "nan,1", "1,inf", "1_0,2", "a,b", "91,0", "0,181"]
)
def test_no_positions(text: str) -> None:
    with pytest.raises(InputError, match="give"):
        parse_position(text)


def test_numbers_are_named_in_the_error() -> None:
    assert parse_numbers(" 1, -2.5e1 ", "LAT,LON") == (1.0, -25.0)
    with pytest.raises(InputError, match="WEST,SOUTH,EAST,NORTH"):
        parse_box("1,2,3")


def inside(part: Box | Circle, lat: float, lon: float) -> bool:
    return bool(Area((part,)).contains(np.array([lat]), np.array([lon]))[0])


def test_boxes_cross_the_antimeridian() -> None:
    fiji = parse_box("177,-20,-178,-15")
    assert inside(fiji, -17, 179)
    assert inside(fiji, -17, -179)
    assert not inside(fiji, -17, 0)
    assert not inside(fiji, -21, 179)
    assert inside(parse_box("10,40,12,50"), 48, 11)
    assert not inside(parse_box("10,40,12,50"), 48, 13)
    with pytest.raises(InputError, match="south 5 is above north 1"):
        parse_box("0,5,1,1")


def test_circles_and_several_parts() -> None:
    around = Circle(0, 179.999, 500)
    assert inside(around, 0, -179.999)
    assert not inside(around, 0, 179.99)
    both = Area((around, parse_box("-180,-1,0,1")))
    assert both.contains(np.array([0.0, 0.0]), np.array([-179.999, 179.999])).tolist() == [
        True,
        False,
    ]
    assert not Area(()).contains(np.array([np.nan]), np.array([np.nan]))[0]
    with pytest.raises(InputError, match="more than 0"):
        Circle(0, 0, 0)


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


TRIANGLE = {"type": "Polygon", "coordinates": [[[10, 47], [12, 47], [11, 49], [10, 47]]]}


def test_polygons_of_any_geojson_shape(tmp_path: Path) -> None:
    feature = {"type": "Feature", "properties": {}, "geometry": TRIANGLE}
    for value in (TRIANGLE, feature, {"type": "FeatureCollection", "features": [feature]}):
        polygon = read_polygon(write(tmp_path / "a.json", value))
        found = polygon.contains(np.array([48.0, 48.9, 47.0]), np.array([11.0, 10.0, 10.0]))
        assert found.tolist() == [True, False, True]  # the border counts


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "holds no Polygon"),
        ({"type": "Point", "coordinates": [1, 2]}, "holds no Polygon"),
        ({"type": "Polygon", "coordinates": "x"}, "malformed"),
        ({"type": "Polygon", "coordinates": []}, "outside WGS84"),
        ({"type": "Polygon", "coordinates": [[[170, 0], [190, 0], [190, 1], [170, 0]]]}, "split"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}, "invalid"),
    ],
)
def test_bad_polygons_are_named(tmp_path: Path, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_polygon(write(tmp_path / "a.json", value))


def test_no_polygon_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_polygon(tmp_path / "nowhere.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="no JSON"):
        read_polygon(tmp_path / "a.json")
