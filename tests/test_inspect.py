"""Inspection: what a dataset holds, what is missing or cannot be decoded, the contact sheet."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from click.testing import CliRunner
from datafiles import GOOD, REAL, SYDNEY, gps, real, save_image, track4_folder, write_json
from PIL import Image

from saywhere.commands.imagery import data as data_verbs
from saywhere.data.contents import SHEET_IMAGES, draw_sheet
from saywhere.data.folder import read_folder
from saywhere.data.inspect import Spread, inspect
from saywhere.errors import DatasetError, InputError
from saywhere.types import Platform, Record


@pytest.mark.real
@real
def test_real_inspection() -> None:
    found = inspect(REAL / "geotext-mini" / "train.json")
    assert (found.records, found.captions, found.places, found.missing_files) == (900, 900, 600, ())
    assert found.platforms == {"satellite": 300, "drone": 300, "ground": 300, "unknown": 0}
    assert found.images_per_place == Spread(1, 1.5, 2)


def test_inspection_counts_missing_images_instead_of_raising(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "p" / "p.jpg")
    captions = ["one two three", "one", "one two"]
    entries = [
        {"image": "p/p.jpg", "caption": captions},
        {"image": "p/gone.jpg", "caption": "a b c d"},
        {"image": "r/image-1.jpeg", "caption": "a b c d e"},
    ]
    path = write_json(tmp_path / "train.json", entries)
    found = inspect(path)
    assert found.missing_files == ("p/gone.jpg", "r/image-1.jpeg")
    assert found.platforms == {"satellite": 1, "drone": 1, "ground": 1, "unknown": 0}
    assert found.images_per_place == Spread(1, statistics.median([1, 2]), 2)
    assert found.captions_per_image == Spread(1, 1, 3)
    assert found.words_per_caption == Spread(1, 3, 5)
    assert json.loads(json.dumps(found.to_dict()))["images_per_place"]["median"] == 1.5
    text = found.to_text()
    assert "2: p/gone.jpg, r/image-1.jpeg" in text
    assert len({line.index(line.split("  ")[-1].strip()) for line in text.splitlines()}) == 1
    write_json(path, [{"image": "p/p.jpg"}])
    with pytest.raises(DatasetError, match="'caption' is missing"):
        inspect(path)


def test_inspection_of_a_folder_and_of_track4(tmp_path: Path) -> None:
    save_image(tmp_path / "f" / "a.jpg", exif=gps(SYDNEY[0], "S", SYDNEY[1], "E"))
    save_image(tmp_path / "f" / "drone" / "b.jpg")
    folder, track4 = inspect(tmp_path / "f"), inspect(track4_folder(tmp_path / "t"))
    assert (folder.kind, folder.records, folder.with_coordinates) == ("folder", 2, 1)
    assert (folder.places, folder.images_per_place, folder.captions_per_image) == (0, None, None)
    assert "1 of 2" in folder.to_text()
    assert "captions" not in folder.to_text()
    assert (track4.queries, track4.words_per_query) == (2, Spread(2, 2, 2))


def mixed_folder(root: Path) -> Path:
    """Three equal files under two names of place, one of equal size, two that are no image."""
    whole = save_image(root / "drone" / "a.png").read_bytes()
    for name in ("drone/b.png", "satellite/c.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(whole)
    (root / "drone" / "same_size.png").write_bytes(whole[:-1] + b"x")
    (root / "ground").mkdir()
    (root / "ground" / "cut.png").write_bytes(whole[:40])
    (root / "ground" / "empty.jpg").write_bytes(b"")
    return root


def test_duplicates_and_undecodable_images(tmp_path: Path) -> None:
    root = mixed_folder(tmp_path)
    found = inspect(root)
    assert found.duplicates == (("drone/a.png", "drone/b.png", "satellite/c.png"),)
    assert found.undecodable is None
    assert "undecodable" not in found.to_text()
    assert "3 images have equal files" in found.to_text()
    assert "drone/a.png = drone/b.png = satellite/c.png" in found.to_text()
    seen: list[tuple[int, int]] = []
    decoded = inspect(root, decode=True, progress=lambda done, of: seen.append((done, of)))
    assert decoded.undecodable is not None
    assert [line.split(": ")[0] for line in decoded.undecodable] == [
        str(root / "ground" / name) for name in ("cut.png", "empty.jpg")
    ]
    assert all("; " in line for line in decoded.undecodable)
    assert seen == [(done, 6) for done in range(1, 7)]
    assert json.loads(json.dumps(decoded.to_dict()))["duplicates"] == [list(found.duplicates[0])]


def test_the_sheet_shows_every_platform_and_marks_what_is_broken(tmp_path: Path) -> None:
    root = mixed_folder(tmp_path / "mixed")
    records = read_folder(root).records
    assert draw_sheet(records, tmp_path / "sheet.png") == 6
    with Image.open(tmp_path / "sheet.png") as sheet:
        found = sheet.convert("RGB").getcolors(1 << 20) or []
    colours = {pixel: count for count, pixel in found}
    assert (colours[90, 120, 60], colours[200, 60, 60]) == (4 * 160 * 160, 2 * 160 * 160)
    many = [Record(f"{i}", records[0].path, Platform.DRONE, f"{i:04}") for i in range(500)]
    few = [Record("s", records[0].path, Platform.SATELLITE, "line\nend " * 9)]
    assert draw_sheet([*many, *few], tmp_path / "many.png") == SHEET_IMAGES
    with pytest.raises(InputError, match="no image to draw; put"):
        draw_sheet([], tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_verb_lists_what_it_left_out(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "p" / "p.jpg")
    entries = [GOOD, {"image": "p/p.jpg"}, GOOD | {"image": "p/gone.jpg"}]
    path = write_json(tmp_path / "train.json", entries)
    sheet = tmp_path / "sheet.png"
    run = CliRunner().invoke
    done = run(
        data_verbs,
        ["inspect", str(path), "--skip-bad", "--decode", "--json", "--sheet", str(sheet)],
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["records"], found["undecodable"], len(found["skipped"])) == (1, [], 2)
    assert [line[:19] for line in done.stderr.splitlines() if line] == [
        "left out: entry 2: ", "left out: entry 3: ", "contact sheet drawn",
    ]  # fmt: skip
    assert sheet.read_bytes().startswith(b"\x89PNG")
    done = run(data_verbs, ["inspect", str(path), "--skip-bad"])
    assert "2 bad entries" in done.stdout
    assert isinstance(run(data_verbs, ["inspect", str(path)]).exception, DatasetError)
