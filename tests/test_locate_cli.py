"""Search, locate and calibrate as a user meets them: real towers, a small rendered world."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import gpxpy
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from saywhere.cli import commands
from saywhere.errors import InputError
from saywhere.geodesy import distances_m

Run = Callable[..., Result]
QUERY = "a pond beside a building with a red roof"


@pytest.fixture(scope="module")
def index(small_world: Path, small_experts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The world's imagery, one photo under a name that is out for trouble."""
    folder = tmp_path_factory.mktemp("photos") / "imagery"
    shutil.copytree(small_world / "imagery", folder)
    photo = folder / "drone" / "0003_01.jpg"
    photo.rename(photo.with_name("=1+1[bold]<b>&\x1b[31m.jpg"))
    uri = tmp_path_factory.mktemp("index") / "campus"
    done = CliRunner().invoke(
        commands, ["index", str(folder), "--experts", str(small_experts), "--index", str(uri)]
    )
    assert done.exception is None, done.exception
    return uri


@pytest.fixture
def run(index: Path) -> Run:
    """Run a verb on the index."""

    def call(verb: str, *arguments: object, fails: bool = False) -> Result:
        done = CliRunner().invoke(commands, [verb, *map(str, arguments), "--index", str(index)])
        assert (done.exception is not None) == fails, done.exception
        return done

    return call


@pytest.fixture(scope="module")
def pairs(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Captions of all places with the places' centres."""
    places = {place["place_id"]: place for place in _world(small_world)}
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["query", "lat", "lon", "metres"])
        for name in ("train", "test_world"):
            for entry in json.loads((small_world / f"geotext/{name}.json").read_text()):
                place = places[entry["image_id"].split("/")[0]]
                text = entry["caption"]
                text = text[0] if isinstance(text, list) else text
                out.writerow([text, place["lat"], place["lon"], 60])
    return path


def _world(root: Path) -> list[dict[str, Any]]:
    places: list[dict[str, Any]] = json.loads((root / "world.json").read_text())["places"]
    return places


def test_locate_answers_with_places_in_metres(run: Run) -> None:
    found = json.loads(run("locate", QUERY, "--json").stdout)
    assert [place["rank"] for place in found["places"]] == [1, 2, 3, 4, 5]
    shares = [place["probability"] for place in found["places"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + found["elsewhere_probability"] == pytest.approx(1)
    assert found["uncalibrated"] is True
    assert found["none_probability"] is None
    for place in found["places"]:
        assert 0 < place["radius_50_m"] < place["radius_95_m"] < 1000
        assert {hit["platform"] for hit in place["evidence"]} == {"satellite", "drone", "ground"}


def test_locate_says_plainly_what_it_does_not_know(run: Run) -> None:
    done = run("locate", QUERY)
    assert "no confident match" in done.stderr
    assert "uncalibrated" in done.stderr
    assert "95 %" in done.stdout
    assert "a word each" in run("locate", "pond", "tower").stderr


def test_calibration_is_used_and_bound(run: Run, pairs: Path, index: Path, tmp_path: Path) -> None:
    path = index.with_name("campus.calibration.json")
    try:
        report = json.loads(run("calibrate", pairs, "--json").stdout)
        assert report["queries"] == 60
        assert report["places"] == 20
        for name in ("expected_calibration_error", "log_likelihood", "coverage_95"):
            assert name in report
        assert report["calibration"] == str(path)
        found = json.loads(run("locate", QUERY, "--json").stdout)
        assert found["uncalibrated"] is False
        assert 0 < found["none_probability"] < 1
        assert json.loads(run("search", QUERY, "--json").stdout)["calibrated"] is True
        # No pair was a photo, so photos stay uncalibrated.
        photo = next(Path(hit["path"]) for hit in found["places"][0]["evidence"])
        assert json.loads(run("locate", "--image", photo, "--json").stdout)["uncalibrated"] is True
        shutil.copytree(index, tmp_path / "other")
        value = json.loads(path.read_text())
        value["bound_to"]["fusion_hash"] = "0" * 64
        path.write_text(json.dumps(value))
        refused = run("locate", QUERY, fails=True).exception
        assert isinstance(refused, InputError)
        assert "belongs to other experts" in str(refused)
    finally:
        path.unlink(missing_ok=True)


def test_photos_of_the_index_are_no_pairs(run: Run, tmp_path: Path) -> None:
    hits = json.loads(run("search", QUERY, "--json", "-k", 2).stdout)["hits"]
    rows = [f"{hit['path']},{hit['lat']},{hit['lon']}" for hit in hits]
    (tmp_path / "pairs.csv").write_text("image,lat,lon\n" + "\n".join(rows) + "\n")
    refused = run("calibrate", tmp_path / "pairs.csv", fails=True).exception
    assert isinstance(refused, InputError)
    assert "would find themselves" in str(refused)


def test_a_photo_finds_itself_and_its_place(run: Run, small_world: Path) -> None:
    photo = small_world / "imagery/drone/0007_01.jpg"
    hits = json.loads(run("search", "--image", photo, "--json").stdout)["hits"]
    assert Path(hits[0]["image_id"]).name == "0007_01.jpg"
    place = next(place for place in _world(small_world) if place["place_id"] == "0007")
    found = json.loads(run("locate", "--image", photo, "--json", "-k", 1).stdout)["places"][0]
    assert float(distances_m(found["lat"], found["lon"], place["lat"], place["lon"])) < 60
    both = json.loads(run("search", QUERY, "--image", photo, "--json").stdout)
    assert both["query"] == QUERY
    assert both["hits"] != hits


def test_pages_neither_overlap_nor_leave_gaps(run: Run) -> None:
    def ids(*arguments: object) -> list[str]:
        hits = json.loads(run("search", QUERY, "--json", *arguments).stdout)["hits"]
        return [f"{hit['rank']} {hit['image_id']}" for hit in hits]

    assert ids("-k", 4) + ids("-k", 4, "--offset", 4) == ids("-k", 8)
    assert ids("--offset", 60) == []
    scores = [hit["score"] for hit in json.loads(run("search", QUERY, "--json").stdout)["hits"]]
    assert len(ids("--min-score", scores[2])) == 3
    assert isinstance(run("search", QUERY, "--offset", 9_995, fails=True).exception, InputError)


def test_filters(run: Run, small_world: Path, tmp_path: Path) -> None:
    place = _world(small_world)[4]
    lat, lon = place["lat"], place["lon"]

    def near(*arguments: object) -> list[dict[str, Any]]:
        hits: list[dict[str, Any]] = json.loads(
            run("search", QUERY, "-k", 60, "--json", *arguments).stdout
        )["hits"]
        return hits

    circle = near("--around", f"{lat},{lon},50")
    assert 0 < len(circle) < 6
    assert all(distances_m(lat, lon, hit["lat"], hit["lon"]) <= 50 for hit in circle)
    box = [lon - 1e-4, lat - 1e-4, lon + 1e-4, lat + 1e-4]
    assert {hit["image_id"] for hit in near("--box", ",".join(map(str, box)))} <= {
        hit["image_id"] for hit in circle
    }
    ring = [
        [box[0], box[1]],
        [box[2], box[1]],
        [box[2], box[3]],
        [box[0], box[3]],
        [box[0], box[1]],
    ]
    polygon = tmp_path / "area.geojson"
    polygon.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    assert near("--polygon", polygon) == near("--box", ",".join(map(str, box)))
    assert {hit["platform"] for hit in near("--platform", "drone", "--platform", "ground")} == {
        "drone", "ground",
    }  # fmt: skip
    for bad in ("1' OR '1'='1", "1,2,3", "0,5,1,1"):
        assert isinstance(run("search", QUERY, "--box", bad, fails=True).exception, InputError)


def test_priors(run: Run, small_world: Path) -> None:
    place = _world(small_world)[9]
    near = f"{place['lat']},{place['lon']}"
    found = json.loads(run("locate", QUERY, "--json", "--near", near, "--within", 40).stdout)
    first = found["places"][0]
    assert float(distances_m(first["lat"], first["lon"], place["lat"], place["lon"])) < 60
    assert first["probability"] > 0.8
    assert isinstance(run("locate", QUERY, "--near", near, fails=True).exception, InputError)


def test_exports(run: Run) -> None:
    collection = json.loads(run("locate", QUERY, "--geojson", "-k", 2).stdout)
    assert len(collection["features"]) == 2 * 3
    assert len(gpxpy.parse(run("search", QUERY, "--gpx", "-k", 7).stdout).waypoints) == 7
    assert run("locate", QUERY, "--kml").stdout.startswith("<?xml")
    rows = list(
        csv.DictReader(run("search", QUERY, "--csv", "--coords", "mgrs").stdout.splitlines())
    )
    assert all(re.fullmatch(r"32[TU][A-Z]{2}\d{10}", row["position"]) for row in rows)


def test_no_name_speaks_to_a_spreadsheet_or_a_terminal(run: Run) -> None:
    for form in ((), ("--json",), ("--csv",), ("--kml",), ("--gpx",), ("--geojson",)):
        done = run("search", QUERY, "-k", 60, *form)
        assert "\x1b" not in done.stdout
        assert "1+1" in done.stdout
    assert "[bold]" in run("search", QUERY, "-k", 60).stdout  # rich would have swallowed it


def test_bare_paths_are_those_on_disk(run: Run) -> None:
    hits = json.loads(run("search", QUERY, "-k", 60, "--json").stdout)["hits"]
    expected = [hit["path"] for hit in hits]
    assert run("search", QUERY, "-k", 60, "--paths").stdout.splitlines() == expected
    assert run("search", QUERY, "-k", 60, "-0").stdout == "".join(path + "\0" for path in expected)
    assert all(Path(path).is_file() for path in expected)


@pytest.mark.parametrize(
    "arguments", [(), (" ",), ("x", "--near", "1,2"), ("x", "--near", "91,0", "--within", "5")]
)
def test_bad_questions_are_refused(run: Run, arguments: tuple[str, ...]) -> None:
    assert isinstance(run("locate", *arguments, fails=True).exception, InputError)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def report(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out.html"
    text = f"{QUERY} <script>document.title='obeyed'</script>"
    done = CliRunner().invoke(
        commands, ["locate", text, "-k", "20", "--html", str(out), "--index", str(index)]
    )
    assert done.exception is None, done.exception
    return out


def test_the_report_is_whole_and_runs_nothing(report: Path) -> None:
    parser = _Tags()
    text = report.read_text()
    parser.feed(text)
    assert "script" not in {tag for tag, _ in parser.tags}
    policy = next(a["content"] for t, a in parser.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    links = [a.get("src") or a.get("href") for t, a in parser.tags if t in ("img", "image", "link")]
    assert len(links) == 1 + 20 * 3  # the map, and an image a platform of each place
    assert all(str(link).startswith("data:image/jpeg;base64,") for link in links)
    assert "\x1b" not in text
    assert sum(tag == "section" for tag, _ in parser.tags) == 20


def test_the_report_is_drawn_over_an_orthophoto(
    run: Run, small_world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.html"
    run("locate", QUERY, "-k", 20, "--html", out, "--map", small_world / "campus.tif")
    links = re.findall(r'href="data:image/jpeg;base64,([^"]+)"', out.read_text())
    with Image.open(io.BytesIO(base64.b64decode(links[0]))) as drawn:
        pixels = np.asarray(drawn.convert("RGB"), float)
    assert pixels.std() > 30
    wrong = small_world / "imagery/drone/0001_01.jpg"
    refused = run("locate", QUERY, "--html", out, "--map", wrong, fails=True).exception
    assert isinstance(refused, InputError)
    assert "shows nothing of the map" in str(refused)


def test_the_report_opens_in_a_browser(report: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium: apt-get install chromium")
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            f"--user-data-dir={tmp_path}", "--window-size=1100,1400", "--virtual-time-budget=2000",
            "--enable-logging=stderr", f"--screenshot={tmp_path / 'shot.png'}", "--dump-dom",
            report.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "<title>Places found</title>" in done.stdout  # not "obeyed"
    assert "CONSOLE" not in done.stderr  # neither blocked loads nor broken images
    with Image.open(tmp_path / "shot.png") as shot:
        pixels = np.asarray(shot.convert("RGB"), float)
    # Photographs on the map, not a flat page: green is grass, which nothing else on it is.
    green = (pixels[..., 1] > pixels[..., 0] + 25) & (pixels[..., 1] > pixels[..., 2] + 25)
    assert green.mean() > 0.02
