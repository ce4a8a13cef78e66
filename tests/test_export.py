"""Exports as other people's software reads them: GDAL, gpxpy, a spreadsheet, a terminal."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpxpy
import numpy as np
import pyogrio.raw
import pytest
import shapely

from saywhere.errors import printable
from saywhere.export import Form, Mark, export, hit_json, hit_marks, place_marks, plain_json, rings
from saywhere.geodesy import circle
from saywhere.types import Footprint, Hit, Location, Place, Platform

NASTY = '=cmd|" /C calc"!A1 <script>alert(1)</script> & \x1b[31m\u202e ü'
HITS = [
    Hit(1, NASTY, f"/photos/{NASTY}.jpg", 1.5, Platform.DRONE, "=1+1", 48.1, 11.5),
    Hit(2, "b", "/photos/b.jpg", -0.25, None, None, None, None),
    Hit(3, "c", "/photos/c.jpg", -0.5, Platform.SATELLITE, "0002", -17.0, 179.9999),
]


def location(*places: Place) -> Location:
    return Location(places, 0.1, 0.2, 30.0, 90.0, calibrated=True, confident=False)


def place(lat: float, lon: float, radius: float = 100.0, name: str | None = "0001") -> Place:
    return Place(1, 0.7, lat, lon, radius / 2, radius, name, 3, (HITS[0],))


def opened(form: Form, marks: list[Mark], folder: Path) -> tuple[list[str], list[Any], Any]:
    """Names, geometries and fields as GDAL reads them, of all layers."""
    path = folder / f"x.{form}"
    path.write_text(export(marks, form), "utf-8")
    names, shapes, fields = list[str](), list[Any](), dict[str, Any]()
    for layer, _ in pyogrio.list_layers(path):
        meta, _, wkb, columns = pyogrio.raw.read(path, layer=layer)
        table = dict(zip(meta["fields"], columns, strict=True))
        names += list(table["name" if "name" in table else "Name"])
        shapes += [shapely.from_wkb(one) for one in wkb]
        fields |= table
    return names, shapes, fields


def test_geojson_by_gdal(tmp_path: Path) -> None:
    names, shapes, fields = opened("geojson", hit_marks(HITS), tmp_path)
    assert names == [NASTY, "c"]  # b has no position; nothing of the text is lost
    assert [(shape.y, shape.x) for shape in shapes] == [(48.1, 11.5), (-17.0, 179.9999)]
    assert list(fields["platform"]) == ["drone", "satellite"]
    assert "\x1b" not in (tmp_path / "x.geojson").read_text()


def test_footprints_by_gdal(tmp_path: Path) -> None:
    """Whichever way round they are held; cut at the antimeridian they are two."""
    ring = ((48.0, 11.0), (48.0, 11.2), (48.1, 11.2), (48.1, 11.0))
    east, west = (((10.0, a), (10.0, b), (10.5, b)) for a, b in ((179.5, 180.0), (-180.0, -179.5)))
    for outlines in ((ring,), (ring[::-1],), (east, west)):
        hit = replace(HITS[0], footprint=Footprint(outlines, approximate=True))
        expected = shapely.MultiPolygon([
            shapely.Polygon([(lon, lat) for lat, lon in one]) for one in outlines
        ])  # fmt: skip
        for form in ("geojson", "kml"):
            _, [point, ground], fields = opened(form, hit_marks([hit]), tmp_path)
            assert point.geom_type == "Point"
            assert ground.equals(expected)
            assert form == "kml" or fields["approximate"][-1] == 1
        told = hit_json(hit)
        assert told["approximate"] is True
        shape = shapely.geometry.shape(told["footprint"])
        assert shape.geom_type == ("Polygon" if len(outlines) == 1 else "MultiPolygon")
        for part in getattr(shape, "geoms", [shape]):
            assert part.exterior.is_ccw  # RFC 7946, 3.1.6
    assert hit_json(HITS[0])["footprint"] is None


def test_regions_in_geojson_by_gdal(tmp_path: Path) -> None:
    _, shapes, fields = opened("geojson", place_marks(location(place(48.1, 11.5))), tmp_path)
    assert [shape.geom_type for shape in shapes] == ["Point", "MultiPolygon", "MultiPolygon"]
    assert list(fields["radius_m"])[1:] == [50.0, 100.0]
    assert all(shape.is_valid and shape.contains(shapes[0]) for shape in shapes[1:])
    metres = shapely.area(shapes[2]) * 111_195**2 * np.cos(np.radians(48.1))
    assert metres == pytest.approx(np.pi * 100**2, rel=0.01)


def test_regions_are_split_at_the_antimeridian_and_capped_at_the_pole(tmp_path: Path) -> None:
    _, shapes, _ = opened("geojson", place_marks(location(place(-17, 179.9999))), tmp_path)
    parts = list(shapes[2].geoms)
    assert len(parts) == 2
    assert sum(part.area for part in parts) * 111_195**2 * np.cos(np.radians(17)) == pytest.approx(
        np.pi * 100**2, rel=0.01
    )
    assert all(-180 <= x <= 180 for ring in rings(-17, 179.9999, 100) for x, _ in ring)
    [cap] = rings(89.9995, 20, 100)
    assert max(y for _, y in cap) == 90
    assert {x for x, _ in cap} == {-180.0, 180.0}


def test_kml_by_gdal(tmp_path: Path) -> None:
    names, shapes, _ = opened("kml", place_marks(location(place(48.1, 11.5, name=NASTY))), tmp_path)
    assert any(shape.geom_type == "Point" and shape.x == 11.5 for shape in shapes)
    assert any(printable(NASTY) in name for name in names)
    text = (tmp_path / "x.kml").read_text()
    assert "<script" not in text
    # Descriptions are rendered as HTML, so their markup is escaped twice.
    assert "&amp;lt;script&amp;gt;" in text


def test_gpx_by_gpxpy() -> None:
    found = gpxpy.parse(export(hit_marks(HITS), "gpx", "mgrs"))
    assert [(point.latitude, point.longitude) for point in found.waypoints] == [
        (48.1, 11.5),
        (-17.0, 179.9999),
    ]
    assert found.waypoints[0].name == printable(NASTY)
    assert (found.waypoints[0].description or "").startswith("32UPU")


def test_csv_runs_nothing_in_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO(export(hit_marks(HITS), "csv", "dms"))))
    assert len(rows) == 3
    assert rows[0]["image_id"] == "'" + printable(NASTY)
    assert rows[0]["place_id"] == "'=1+1"
    assert rows[1]["lat"] == rows[1]["position"] == ""
    assert float(rows[1]["score"]) == -0.25  # a number is none of a formula's beginnings
    assert not any(cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row.values())


def test_terminals_and_json_readers_see_the_same() -> None:
    assert printable("a\x1b[2J\u202eb\nü") == "a\\x1b[2J\\u202eb\\nü"
    text = plain_json({"a": NASTY + "\x9b\udcff"})
    assert json.loads(text) == {"a": NASTY + "\x9b\udcff"}
    assert not set(text) & set("\x1b\x9b\u202e\udcff")


def test_circles_of_the_export_are_those_of_geodesy() -> None:
    [ring] = rings(48.1, 11.5, 100)
    assert len(ring) == len(circle(48.1, 11.5, 100)) + 1
    assert ring[0] == ring[-1]
