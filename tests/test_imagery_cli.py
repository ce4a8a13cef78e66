"""From raw files to tiles on a map, by the command line: an orthophoto, drone and ground photos."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio.raw
import pytest
import shapely
from click.testing import CliRunner, Result
from PIL import Image

from saywhere.cli import commands
from saywhere.errors import InputError
from saywhere.geodesy import distances_m
from saywhere.manifest import SHIPPED
from saywhere.rasters import read_part
from saywhere.types import Window

Run = Callable[..., Result]
WORDS = "a pond beside a building with a red roof"


@pytest.fixture(scope="module")
def imagery(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The campus as one orthophoto, and what a drone and a walker saw of it."""
    root = tmp_path_factory.mktemp("raw") / "imagery"
    for platform in ("drone", "ground"):
        shutil.copytree(small_world / "imagery" / platform, root / platform)
    shutil.copy(small_world / "campus.tif", root / "campus.tif")
    return root


@pytest.fixture(scope="module")
def run(imagery: Path, tower_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a verb on the index of that imagery, which one command makes."""
    uri = tmp_path_factory.mktemp("index") / "campus"

    def call(*arguments: object, fails: bool = False) -> Result:
        command = [*map(str, arguments), "--index", str(uri), "--threads", "1"]
        done = CliRunner().invoke(commands, command)
        assert (done.exception is not None) == fails, done.exception
        return done

    done = call("index", imagery, "--experts", SHIPPED, "--json")
    made = json.loads(done.stdout)
    assert made["read"] == {"images": 40, "whole_rasters": 0, "rasters": 1, "tiles": 49}
    assert (made["images"], made["with_coordinates"], made["skipped"]) == (89, 89, 0)
    assert made["tiling"] == {"size_m": 128.0, "overlap": 0.25}
    assert "read: 40 images, 49 tiles of 128 m from 1 large GeoTIFFs\n" in done.stderr
    return call


def test_nothing_is_embedded_twice_and_the_summary_stays(run: Run, imagery: Path) -> None:
    done = run("index", imagery, "--experts", SHIPPED)
    assert "read: 40 images, 49 tiles of 128 m from 1 large GeoTIFFs\n" in done.stderr
    assert "0 added, 0 changed, 0 deleted, 89 unchanged" in done.stderr


def test_a_tile_is_found_with_its_footprint(run: Run, imagery: Path, tmp_path: Path) -> None:
    found = json.loads(run("search", WORDS, "--platform", "satellite", "--json").stdout)
    assert len(found["hits"]) == 10
    for hit in found["hits"]:
        part, ground = hit["window"], shapely.geometry.shape(hit["footprint"])
        assert hit["image_id"] == f"campus.tif#c{part['column']},r{part['row']}"
        assert hit["path"] == str(imagery / "campus.tif")
        assert hit["approximate"] is False
        assert ground.exterior.is_ccw
        assert shapely.contains_xy(ground, hit["lon"], hit["lat"])
        west, south, east, north = ground.bounds
        assert float(distances_m(south, west, north, east)) == pytest.approx(128 * 2**0.5, rel=0.05)
    path = tmp_path / "hits.geojson"
    path.write_text(run("search", WORDS, "--platform", "satellite", "--geojson").stdout)
    _, _, shapes, columns = pyogrio.raw.read(path)  # GDAL's reader
    kinds = shapely.get_type_id(shapely.from_wkb(shapes)).tolist()
    assert kinds == [0, 3] * 10, "a point and a polygon each"
    names = pyogrio.read_info(path)["fields"].tolist()
    told = dict(zip(names, columns, strict=True))
    assert told["region"][1::2].tolist() == ["footprint"] * 10
    assert told["window"][0].count(",") == 3
    first = shapely.from_wkb(shapes[1])
    assert first.equals_exact(shapely.geometry.shape(found["hits"][0]["footprint"]), 1e-7)


def test_kml_csv_table_and_paths_tell_of_tiles(run: Run, imagery: Path, tmp_path: Path) -> None:
    asked = ("search", WORDS, "--platform", "satellite", "-k", 4)
    path = tmp_path / "hits.kml"
    path.write_text(run(*asked, "--kml").stdout)
    _, _, shapes, _ = pyogrio.raw.read(path)
    assert [shape.area > 0 for shape in shapely.from_wkb(shapes)] == [False, True] * 4
    head, *rows = run(*asked, "--csv").stdout.splitlines()
    assert "window,taken" in head
    assert len(rows) == 4
    assert run(*asked).stdout.count("campus.tif#c") == 4
    assert run(*asked, "--paths").stdout == f"{imagery}/campus.tif\n", (
        "one file, however many tiles"
    )


def test_locate_shows_tiles_as_evidence(run: Run, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    found = json.loads(run("locate", WORDS, "--json", "--html", report).stdout)
    satellite = [
        hit for place in found["places"] for hit in place["evidence"]
        if hit["platform"] == "satellite"
    ]  # fmt: skip
    assert satellite
    assert all(hit["window"] and hit["footprint"]["type"] == "Polygon" for hit in satellite)
    page = report.read_text()
    assert "campus.tif#c" in page
    assert "cannot be read" not in page
    assert page.count("<image ") == 1, "the orthophoto lies under the map"
    drawn = re.findall(r'base64,([^"]+)"><figcaption>satellite [^<]*#c(\d+),r(\d+)<', page)
    windows = {(str(h["window"]["column"]), str(h["window"]["row"])): h for h in satellite}
    assert drawn
    for content, column, row in drawn:
        seen = Image.open(io.BytesIO(base64.b64decode(content)))
        hit = windows[column, row]
        tile = read_part(Path(hit["path"]), Window(**hit["window"])).resize(seen.size)
        assert np.abs(np.asarray(seen, float) - np.asarray(tile)).mean() < 8, "its own thumbnail"


def test_other_tiles_by_an_option_that_is_remembered(run: Run, imagery: Path) -> None:
    try:
        made = json.loads(
            run(
                "index", imagery, "--experts", SHIPPED, "--tile-size", 300, "--overlap", 0, "--json"
            ).stdout
        )
        assert (made["read"]["tiles"], made["added"], made["deleted"]) == (9, 8, 48)
        assert made["tiling"] == {"size_m": 300.0, "overlap": 0.0}
        again = json.loads(run("index", imagery, "--experts", SHIPPED, "--json").stdout)
        assert (again["tiling"], again["embedded"]) == (made["tiling"], 0)
    finally:
        run("index", imagery, "--experts", SHIPPED, "--tile-size", 128, "--overlap", 0.25)
    for option in (("--tile-size", 0), ("--overlap", 1), ("--overlap", "nan")):
        run("index", imagery, "--experts", SHIPPED, *option, fails=True)


def test_dates_are_checked_and_undated_images_left_out(run: Run) -> None:
    done = run("search", WORDS, "--after", "2025-06-01' OR ''='", fails=True)
    assert isinstance(done.exception, InputError)
    assert "give it as 2025-06-01" in str(done.exception)
    hits = json.loads(run("search", WORDS, "--after", "1900-01-01", "--json").stdout)["hits"]
    assert "satellite" not in {hit["platform"] for hit in hits}, (
        "a GeoTIFF of the world has no date"
    )
    run("locate", WORDS, "--platform", "satellite", "--before", "2100-01-01", fails=True)


def test_a_broken_tile_and_a_vrt_are_left_out_and_counted(
    imagery: Path, tower_cache: Path, tmp_path: Path
) -> None:
    root = tmp_path / "raw"
    (root / "sat").mkdir(parents=True)
    whole = (imagery / "campus.tif").read_bytes()
    (root / "sat/campus.tif").write_bytes(whole[: len(whole) * 3 // 4])
    (root / "sat/a.tif").write_text("<VRTDataset/>")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(root / "sat/b.png")
    command = ["index", str(root), "--experts", str(SHIPPED), "--index", str(tmp_path / "i"),
               "--threads", "1", "--json"]  # fmt: skip
    refused = CliRunner().invoke(commands, command)
    assert refused.exception is not None
    assert "--skip-bad leaves out" in str(refused.exception)
    done = CliRunner().invoke(commands, [*command, "--skip-bad"])
    assert done.exception is None, done.exception
    made = json.loads(done.stdout)
    assert made["images"] + made["skipped"] == 49 + 2
    assert made["left_out"]["is no image in a known format"] == 1
    assert sum(made["left_out"].values()) == made["skipped"] > 5
    assert made["images"] > 20
