"""Five hundred malformed photos, rasters, tables and catalogues: read, noted or left out, once.

`pytest tests/test_malformed_imagery.py -s` prints the counts; SAYWHERE_FUZZ_SEED takes another
seed. All goes through `saywhere index --skip-bad`, whose only stand-in is the tower.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from drone_photos import P1, exif, gps_tags, jpeg, packet
from fuzz.datasets import Case, cases_of, plant_images
from fuzz.imagery import PHOTOS, TABLES, Photo, malformed_photos
from fuzz.limits import SEED, Done, Tally, assert_clear, command, within
from fuzz.oddities import OTHER_ENCODINGS, READABLE_NAMES, plant_oddities
from test_fuzz_data import outcome
from test_fuzz_images import Tower

from saywhere import index
from saywhere.data import read
from saywhere.store import open_writer

pytestmark = pytest.mark.slow
PHOTO_COUNT, TABLE_COUNT = 288, 212
SECONDS_EACH = 5.0


@pytest.fixture(autouse=True)
def quick_tower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("saywhere.bundle.load_experts", lambda _folder: None)
    monkeypatch.setattr(index, "embedder", Tower.embedder)


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return list(malformed_photos(SEED, PHOTO_COUNT))


@pytest.fixture(scope="module")
def folder(photos: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("imagery") / "photos"
    root.mkdir()
    for photo in photos:
        (root / photo.name).write_bytes(photo.content)
    (root / "sound.jpg").write_bytes(
        jpeg(exif("DJI", "P1", gps_tags(47.9921, 11.0253)), packet(P1))
    )
    plant_oddities(root)
    return root


def indexed(path: Path, uri: Path, *more: str) -> Done:
    """`saywhere index PATH --skip-bad`, and what holds whatever PATH is."""
    common = ("--experts", "any", "--index", str(uri), "--json", *more)
    with within(SECONDS_EACH if path.is_file() else 60):
        done = command("index", str(path), *common)
    assert done.code in (0, 2), done.err
    assert "Traceback" not in done.err
    assert "SECRET" not in done.err
    return done


def lines_of(done: Done, kind: str) -> list[str]:
    lines = [line for line in done.err.splitlines() if line.startswith(f"{kind}: ")]
    assert len(set(lines)) == len(lines), "told twice"
    odd = [line for line in lines if not ("; " in line and line.isprintable() and len(line) < 700)]
    assert not odd
    return lines


def test_photos_and_rasters(
    photos: list[Photo], folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    strict = indexed(folder, tmp_path / "i")
    assert strict.code == 2
    assert_clear(strict.err.removeprefix("saywhere: "), str(folder))
    done = indexed(folder, tmp_path / "i", "--skip-bad")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    left, notes = lines_of(done, "left out"), lines_of(done, "note")
    assert report["skipped"] == len(left)
    assert report["images"] + len(left) == (PHOTO_COUNT + 1 + READABLE_NAMES + OTHER_ENCODINGS)
    tally = Tally()
    for photo in photos:
        unreadable = sum(line.startswith(f"left out: '{photo.name}': ") for line in left)
        noted = sum(line.startswith(f"note: '{photo.name}': ") for line in notes)
        assert unreadable <= 1, photo
        assert noted <= 1, photo
        assert unreadable + noted >= photo.told, (photo.name, photo.family)
        tally.add(photo.family, "left out" if unreadable else "noted" if noted else "taken")
    assert capfd.readouterr() == ("", ""), "a library wrote something"
    with capfd.disabled():
        print(f"\n{PHOTO_COUNT} photos and rasters, seed {SEED}\n{tally.table()}")  # noqa: T201
    assert {family for family, _ in tally.counts} == set(PHOTOS)
    for kind in ("left out", "noted", "taken"):
        assert tally.total(kind) > PHOTO_COUNT / 12


def test_what_lies_about_one_photo_says_nothing_of_another(folder: Path, tmp_path: Path) -> None:
    indexed(folder, tmp_path / "i", "--skip-bad")
    with open_writer(str(tmp_path / "i")) as writer:
        rows = {row.image_id: row for row in writer.rows()}
    assert (rows["sound.jpg"].lat, rows["sound.jpg"].lon) == (47.992104811, 11.025301237)
    assert all(row.lat is None or abs(row.lat) <= 90 for row in rows.values())
    found = {record.image_id: record for record in read(folder, skip_bad=True).records}
    assert found["sound.jpg"].footprint is not None


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Path]]:
    root = tmp_path_factory.mktemp("tables")
    made = []
    for case in cases_of(TABLES, SEED, TABLE_COUNT):
        folder = root / f"{case.number:03}"
        plant_images(folder, case.family)
        (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
        (folder / "loop").symlink_to(folder)
        made.append((case, case.write(folder)))
    return made


def test_tables_and_catalogues_are_read_or_refused(cases: list[tuple[Case, Path]]) -> None:
    strict, lenient = Tally(), Tally()
    for case, path in cases:
        first, message = outcome(path, skip_bad=False)
        second, without = outcome(path, skip_bad=True)
        strict.add(case.family, first)
        lenient.add(case.family, second)
        assert first != "accepted" or second == "accepted", path
        assert second == "accepted" or without == message, path
    print(f"\n{TABLE_COUNT} tables, seed {SEED}\n{strict.table()}\n\n{lenient.table()}")  # noqa: T201
    assert lenient.total("accepted") > strict.total("accepted") > 0
    assert strict.total("accepted") < TABLE_COUNT / 2
    assert lenient.total("accepted") > TABLE_COUNT / 4


def test_tables_and_catalogues_are_indexed_or_refused(
    cases: list[tuple[Case, Path]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    codes = Counter[int]()
    for case, path in cases:
        done = indexed(path, tmp_path / f"{case.number}", "--skip-bad")
        codes[done.code] += 1
        if done.code == 2:
            assert done.out == ""
            assert_clear(done.err.removeprefix("saywhere: "), str(path), str(path.parent))
        else:
            assert len(lines_of(done, "left out")) == json.loads(done.out)["skipped"]
    assert capfd.readouterr() == ("", "")
    assert min(codes[0], codes[2]) > TABLE_COUNT / 10
