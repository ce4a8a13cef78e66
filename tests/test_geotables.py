"""Parquet and GeoJSON tables: the same columns as CSV, geometries, every fault by its row."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from PIL import Image

from saywhere.data import read, recognise
from saywhere.data.table import read_table
from saywhere.errors import DatasetError, InputError
from saywhere.footprints import footprint_centre
from saywhere.types import Caption, Footprint, Platform, Record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "images/d.jpg", "tiles/t.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


WHEN = datetime(2025, 6, 1, 9, 30, tzinfo=UTC)
SQUARE = {"type": "Polygon", "coordinates": [[[10, 1], [12, 1], [12, 3], [10, 3], [10, 1]]]}
GROUND = Footprint((((1.0, 10.0), (1.0, 12.0), (3.0, 12.0), (3.0, 10.0)),), approximate=False)


def point(lon: float, lat: float) -> dict[str, Any]:
    return {"type": "Point", "coordinates": [lon, lat]}


def geojson(folder: Path, features: Sequence[Any], **more: Any) -> Path:
    path = folder / "t.geojson"
    text = json.dumps({"type": "FeatureCollection", "features": features, **more})
    path.write_text(text.replace("Infinity", "1e999"))
    return path


def feature(geometry: Any, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def parquet(folder: Path, columns: Mapping[str, Any], geo: Any = None) -> Path:
    table = pa.table(columns)
    if geo is not None:
        table = table.replace_schema_metadata({"geo": json.dumps(geo)})
    pq.write_table(table, folder / "t.parquet")
    return folder / "t.parquet"


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        read(path)
    for problem in caught.value.problems:
        assert "\n" not in problem
        assert "; " in problem, problem
    return caught.value.problems


def test_geojson(folder: Path) -> None:
    path = geojson(
        folder,
        [
            feature(point(151.5, -33.25), Path="a.jpg", platform="Drone", place_id=7, camera="X",
                    caption=["a hall", "a red hall"], datetime="2025-06-01T11:30:00+02:00"),
            feature(SQUARE, href="tiles/t.png", platform="satellite", taken="2025-06-01T09:30:00"),
            feature(None, image="d.jpg", lat=1.5, lon="2"),
            feature(None, image="a.jpg", caption="a tall hall"),
        ],
        crs={"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}},
    )  # fmt: skip
    dataset = read(path)
    assert (dataset.kind, recognise(path)) == ("table", "table")
    lat, lon = footprint_centre(GROUND)
    assert (lat, lon) == pytest.approx((2, 11), abs=1e-3)
    assert dataset.records == (
        Record("a.jpg", folder / "a.jpg", Platform.DRONE, "7", -33.25, 151.5, taken=WHEN),
        Record("tiles/t.png", folder / "tiles/t.png", Platform.SATELLITE, None, lat, lon,
               footprint=GROUND, taken=WHEN),
        Record("d.jpg", folder / "images/d.jpg", lat=1.5, lon=2.0),
    )  # fmt: skip
    assert [caption.text for caption in dataset.captions] == ["a hall", "a red hall", "a tall hall"]


def test_parquet(folder: Path) -> None:
    path = parquet(
        folder,
        {
            "Image": ["a.jpg", "tiles/t.png", "d.jpg"],
            "platform": pa.array(["drone", "satellite", None]).dictionary_encode(),
            "place_id": [7.0, None, 8.0],
            "lat": [-33.25, 1.0, None],
            "lon": [151.5, 2.0, None],
            "taken": pa.array([WHEN.timestamp() * 1e9 + 1, None, None], pa.timestamp("ns", "UTC")),
            "caption": [["a hall", "a red hall"], [], None],
            "camera": [1, 2, 3],
        },
    )
    dataset = read(path)
    assert (dataset.kind, recognise(path)) == ("table", "table")
    assert dataset.records == (
        Record("a.jpg", folder / "a.jpg", Platform.DRONE, "7", -33.25, 151.5, taken=WHEN),
        Record("tiles/t.png", folder / "tiles/t.png", Platform.SATELLITE, None, 1.0, 2.0),
        Record("d.jpg", folder / "images/d.jpg", None, "8"),
    )
    assert dataset.captions == (
        Caption("a.jpg", "a hall", "a hall"),
        Caption("a.jpg", "a red hall", "a red hall"),
    )


GEO: dict[str, Any] = {
    "version": "1.0.0",
    "primary_column": "geometry",
    "columns": {"geometry": {"encoding": "WKB", "geometry_types": []}},
}


def with_crs(crs: Any) -> dict[str, Any]:
    return {**GEO, "columns": {"geometry": {"encoding": "WKB", "crs": crs}}}


def test_geoparquet(folder: Path) -> None:
    shapes = [shapely.Point(151.5, -33.25).wkb, shapely.box(10, 1, 12, 3).wkb, None]
    columns = {"image": ["a.jpg", "tiles/t.png", "d.jpg"], "geometry": shapes}
    for geo in (GEO, with_crs({"id": {"authority": "EPSG", "code": 4326}})):
        first, second, third = read(parquet(folder, columns, geo)).records
        assert (first.lat, first.lon, first.footprint) == (-33.25, 151.5, None)
        assert second.footprint is not None
        assert {*second.footprint.rings[0]} == {*GROUND.rings[0]}
        assert (third.lat, third.footprint) == (None, None)
    for geo, words in (
        (with_crs({"id": {"authority": "EPSG", "code": 32632}}), "in 'EPSG:32632'; export"),
        (with_crs(None), "; export"),
        ({**GEO, "columns": {}}, "no GeoParquet's; export"),
        ({**GEO, "primary_column": "x", "columns": {"x": {}}}, "has no column 'x'; export"),
        ({**GEO, "columns": {"geometry": {"encoding": "point"}}}, "no WKB; export"),
    ):
        with pytest.raises(InputError, match=words):
            read(parquet(folder, columns, geo))
    bad = {"image": ["a.jpg", "d.jpg"], "geometry": [b"\1\2\3", shapely.Point(200, 5).wkb]}
    assert [line.partition(":")[0] for line in problems(parquet(folder, bad, GEO))] == [
        "row 1", "row 2",
    ]  # fmt: skip


FEATURES = [
    (feature(point(1, 2)), "'image' is empty"),
    (feature(point(1, 2), image="../a.jpg"), "leaves the images folder"),
    (feature(point(1, 2), href="file:///etc/passwd"), "is not in"),
    (feature(point(1, 2), href="/etc/passwd"), "absolute path"),
    (feature(point(1, 2), image="gone.jpg"), "is not in"),
    (feature(point(1, 95), image="a.jpg"), "no WGS84 position"),
    (feature(point(1e999, 5), image="a.jpg"), "not finite"),
    (feature(point(10**400, 5), image="a.jpg"), "not finite"),
    (feature({"type": "Point", "coordinates": [1]}, image="a.jpg"), "is no pair"),
    (feature({"type": "Point", "coordinates": ["1", True]}, image="a.jpg"), "is no number"),
    (feature({"type": "Point"}, image="a.jpg"), "no list of positions"),
    (feature({"type": "LineString", "coordinates": []}, image="a.jpg"), "is no place"),
    (feature(7, image="a.jpg"), "is no place"),
    (feature({"type": "Polygon", "coordinates": []}, image="a.jpg"), "without a ring"),
    (feature({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, image="a.jpg"), "no ground"),
    (feature({"type": "Polygon", "coordinates": [[[0, 0], [400, 0], [0, 1]]]}, image="a.jpg"),
     "no WGS84 position"),
    (feature({"type": "Polygon", "coordinates": [[[0, 0]] * 3000]}, image="a.jpg"), "simplify"),
    (feature({"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]] * 3}, image="a.jpg"),
     "3 polygons; give one"),
    (feature(None, image="a.jpg", lat=1), "only one of 'lat' and 'lon'"),
    (feature(None, image="a.jpg", lat="x", lon=1), "is no number"),
    (feature(None, image="a.jpg", taken="soon"), "is no time"),
    (feature(None, image="a.jpg", taken="0001-01-01T00:00:00+10:00"), "is no time"),
    (feature(None, image="a.jpg", platform=True), "True where a text"),
    (feature(None, image={"a": 1}), "an object where a text"),
    (feature(None, image="a.jpg", caption=["x", ["y"], 5]), "a list where a text"),
    (feature(None, image="d.jpg", platform="ground"), "has platform ground here and drone"),
    (feature({"type": "Polygon", "coordinates": [[[0, 0], [0, 1], [1, 1]]]}, image="d.jpg"),
     "has lat"),
    ({"type": "Feature"}, "has no properties"),
    (7, "has no properties"),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "words"), FEATURES)
def test_malformed_features(folder: Path, bad: Any, words: str) -> None:
    sound = feature(SQUARE, image="d.jpg", platform="drone")
    path = geojson(folder, [sound, bad, feature(None, image="d.jpg", caption="fine")])
    found = problems(path)
    assert all(line.startswith("feature 2: ") for line in found)
    assert any(words in line for line in found)
    dataset = read(path, skip_bad=True)
    assert dataset.records[0].footprint == GROUND
    assert dataset.captions[-1].text == "fine"
    assert dataset.skipped == found


def test_one_image_has_one_polygon(folder: Path) -> None:
    other = {"type": "Polygon", "coordinates": [[[10, 1], [12, 1], [12, 4], [10, 1]]]}
    same = [feature(shape, image="a.jpg", lat=2, lon=11) for shape in (SQUARE, SQUARE, None)]
    assert read(geojson(folder, same)).records[0].footprint == GROUND
    (problem,) = problems(geojson(folder, [*same, feature(other, image="a.jpg", lat=2, lon=11)]))
    assert problem.startswith("feature 4: image 'a.jpg' has another polygon on feature 1; write")


def test_nan_coordinates_of_parquet_are_told(folder: Path) -> None:
    nan = {"image": ["a.jpg", "d.jpg"], "lat": [float("nan"), 1.0], "lon": [1.0, float("inf")]}
    first, second = problems(parquet(folder, nan))
    assert first == (
        "row 1: 'lat' 'nan' is no number; write degrees with a decimal point, as in -33.8599"
    )
    assert second.startswith("row 2: 'lon' 'inf' is no number")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"path": ["a.jpg"]}, "rename 'path' to it"),
        ({"x": ["a.jpg"]}, "has no column 'image'; add it, with"),
        ({"image": ["a.jpg"], "latitude": [1.0]}, "rename it to 'lat'"),
        ({"image": ["a.jpg"], "Image": ["a.jpg"]}, "'image' stands twice"),
        ({"image": pa.array([], pa.string())}, "holds no row of an image; add"),
    ],
)
def test_unusable_parquet(folder: Path, columns: Mapping[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(parquet(folder, columns))
    assert words in str(caught.value)


def test_damaged_parquet(folder: Path) -> None:
    whole = parquet(folder, {"image": ["a.jpg"] * 500, "lat": [1.0] * 500, "lon": [2.0] * 500})
    content = whole.read_bytes()
    for damaged in (content[:-9], content[9:], b"", b"PAR1", content[:40] + b"\xff" * 40):
        whole.write_bytes(damaged)
        with pytest.raises(InputError, match="no whole Parquet file"):
            read(whole)
    (folder / "folder.parquet").mkdir()
    with pytest.raises(InputError, match="is a folder; give"):
        read_table(folder / "folder.parquet")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "is no FeatureCollection; export"),
        ("[]", "is no FeatureCollection; export"),
        ('{"type": "FeatureCollection", "features": []}', "holds no feature of an image; add"),
        ('{"features": [NaN]}', "is not JSON; write null"),
        ("{", "not JSON at line 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"features": [], "crs": {"properties": {"name": "EPSG:3857"}}}', "export it in WGS84"),
    ],
)
def test_unusable_geojson(folder: Path, text: str, words: str) -> None:
    path = folder / "t.geojson"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(path)
    assert words in str(caught.value)
    assert "; " in str(caught.value)


def test_csv_has_times_too(folder: Path) -> None:
    path = folder / "t.csv"
    path.write_text("image,taken\na.jpg,2025-06-01 11:30+02:00\nd.jpg,yesterday\n")
    assert "line 3: 'taken' 'yesterday' is no time; write ISO 8601" in problems(path)[0]
    assert read(path, skip_bad=True).records[0].taken == WHEN
