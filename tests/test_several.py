"""Several folders and files in one index: names, updates, and sources out of reach."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from test_cli import Run, run
from test_index import Case, put

from saywhere.data.several import read_sources
from saywhere.data.sources import Sources, name_sources, remembered_paths
from saywhere.errors import IndexMismatchError, InputError
from saywhere.index import IndexReport, update_index

__all__ = ["run"]  # the fixture


@pytest.fixture
def case(tmp_path: Path) -> Case:
    for folder in ("a/flight", "b/flight"):
        for number in range(3):
            put(tmp_path / folder / "drone" / f"{number}.jpg", f"{folder} {number}")
    put(tmp_path / "pictures" / "x.jpg", "x")
    (tmp_path / "list.csv").write_text("image,platform\npictures/x.jpg,ground\n", "utf-8")
    return Case(tmp_path, str(tmp_path / "index"))


def paths(case: Case) -> list[Path]:
    return [case.root / "b/flight", case.root / "list.csv", case.root / "a/flight"]


def update(case: Case, sources: Sources, *, prune: bool = False) -> IndexReport:
    case.fake.asked.clear()
    return update_index(case.fake.by, read_sources(sources).records, sources, case.uri, prune=prune)


def test_equal_ids_do_not_collide_and_nothing_is_embedded_twice(case: Case) -> None:
    first = update(case, name_sources(paths(case)))
    assert (first.count, first.embedded) == (7, 7)
    rows = set(case.held())
    assert {"flight/drone/0.jpg", "flight-2/drone/0.jpg", "list/pictures/x.jpg"} <= rows
    # The order in which they are named is no matter.
    again = update(case, name_sources(paths(case)[::-1]))
    assert (again.count, again.embedded, again.deleted) == (7, 0, 0)
    assert not case.fake.asked
    (case.root / "b/flight/drone/0.jpg").unlink()
    assert update(case, name_sources(paths(case))).deleted == 1
    assert "flight-2/drone/0.jpg" not in set(case.held())


def test_one_source_alone_is_named_as_ever(case: Case) -> None:
    only = name_sources([case.root / "a/flight"])
    assert only.text == str((case.root / "a/flight").resolve())
    assert {record.image_id for record in read_sources(only).records} == {
        f"drone/{number}.jpg" for number in range(3)
    }


def test_a_source_out_of_reach_deletes_nothing(case: Case) -> None:
    sources = name_sources(paths(case))
    update(case, sources)
    away = case.root / "away"
    (case.root / "b/flight").rename(away)
    with pytest.raises(InputError, match="no such"):
        update(case, sources)
    (case.root / "b/flight").mkdir()  # its mount point
    with pytest.raises(InputError, match="holds no image"):
        update(case, sources)
    # One folder of it is a mount point that came up empty.
    shutil.rmtree(case.root / "b/flight")
    away.rename(case.root / "b/flight")
    put(case.root / "b/flight/more/9.jpg", "nine")
    assert update(case, sources).count == 8
    for image in (case.root / "b/flight/drone").iterdir():
        image.unlink()
    kept = update(case, sources)
    assert (kept.count, kept.deleted, kept.unreachable) == (8, 0, 3)
    assert update(case, sources, prune=True).deleted == 3


def test_most_of_one_source_is_never_dropped_however_large_the_others(case: Case) -> None:
    sources = name_sources(paths(case))
    update(case, sources)
    for number in range(2):
        (case.root / f"b/flight/drone/{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"2 of its 3 images are gone from .*b/flight"):
        update(case, sources)
    assert len(case.held()) == 7
    assert update(case, sources, prune=True).deleted == 2


def test_an_index_stays_with_its_set_of_sources(case: Case) -> None:
    update(case, name_sources(paths(case)))
    for fewer in (paths(case)[:2], [case.root / "a/flight"]):
        with pytest.raises(IndexMismatchError, match="--rebuild") as refused:
            update(case, name_sources(fewer))
        assert "\n" not in str(refused.value)
        assert "name the same" in str(refused.value)
        assert str(case.root / "list.csv") in str(refused.value)


@pytest.mark.parametrize(
    ("names", "cause"),
    [((), "nothing to index"), (("a", "a"), "given twice"), (("a", "a/flight"), "lies inside")],
)
def test_sources_that_count_images_twice_are_refused(
    case: Case, names: tuple[str, ...], cause: str
) -> None:
    with pytest.raises(InputError, match=cause):
        name_sources([case.root / name for name in names])


def test_places_and_paths_come_back(case: Case) -> None:
    sources = name_sources(paths(case))
    assert sources.place("flight-2/drone/0.jpg") == case.root / "b/flight/drone/0.jpg"
    assert remembered_paths(sources.text) == [
        str(case.root / name) for name in ("a/flight", "b/flight", "list.csv")
    ]
    assert remembered_paths("/one=two") == ["/one=two"]
    odd = case.root / "caf\udce9"
    odd.mkdir()
    assert name_sources([case.root / "a/flight", odd]).named[1][0] == "caf?"


def test_a_folder_a_table_and_a_catalogue_in_one_run(
    run: Run, small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    images = sorted((small_world / "imagery").rglob("*.jpg"))[:4]
    for folder, chosen in (("photos", images[:2]), ("listed", images[2:])):
        (tmp_path / folder).mkdir()
        for image in chosen:
            shutil.copy(image, tmp_path / folder)
    point = {"type": "Point", "coordinates": [11.0, 48.0]}
    (tmp_path / "places.geojson").write_text(json.dumps({
        "type": "FeatureCollection",
        "features": [{"type": "Feature", "geometry": point,
                      "properties": {"image": f"listed/{images[2].name}"}}],
    }), "utf-8")  # fmt: skip
    (tmp_path / "item.json").write_text(json.dumps({
        "type": "Feature", "stac_version": "1.0.0", "id": "one", "geometry": point,
        "bbox": [11.0, 48.0, 11.0, 48.0], "properties": {"datetime": "2025-06-01T10:00:00Z"},
        "links": [], "assets": {"visual": {"href": f"listed/{images[3].name}",
                                           "type": "image/jpeg", "roles": ["data"]}},
    }), "utf-8")  # fmt: skip
    sources = [tmp_path / name for name in ("photos", "places.geojson", "item.json")]
    options: list[object] = ["--experts", small_experts, "--index", tmp_path / "index"]
    done = run("index", *sources, *options, "--json")
    report = json.loads(done.stdout)
    assert (report["images"], report["embedded"]) == (4, 4)
    assert json.loads(run("index", *sources, *options, "--json").stdout)["embedded"] == 0
    assert "sound: 4 images" in run("index", "verify", "--index", tmp_path / "index").stderr
