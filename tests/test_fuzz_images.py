"""A thousand malformed images: each is decoded or refused in one clear line, and nothing else.

`pytest tests/test_fuzz_images.py -s` prints the counts; SAYWHERE_FUZZ_SEED takes another seed.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fuzz.images import FAMILIES, Case, malformed_images
from fuzz.limits import SEED, Tally, assert_clear, command, within
from fuzz.oddities import OTHER_ENCODINGS, READABLE_NAMES, SOUND_NAMES, plant_oddities
from fuzz.sound import sound_images
from test_features import CountingImageTower

from saywhere import index
from saywhere.data import read
from saywhere.embed import EmbeddedImages
from saywhere.errors import DatasetError, ImageError
from saywhere.expert_set import ExpertSet
from saywhere.features import ImageRequest, content_hashes, image_features
from saywhere.images import decode_image
from saywhere.types import Embeddings, Record
from saywhere.views import FIXED_VIEWS

pytestmark = pytest.mark.slow
COUNT = 1000
SECONDS_EACH = 5.0  # the slowest takes a tenth of it
MEMORY_KIB = 1_500_000  # two thirds of what the largest image that is allowed takes


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(malformed_images(SEED, COUNT))


@pytest.mark.parametrize("name", sorted(set(sound_images()) - {"GIF animated"}))
def test_what_is_damaged_was_sound(name: str) -> None:
    """Otherwise the fuzz would refuse everything and prove nothing."""
    assert decode_image(sound_images()[name][1], name).mode == "RGB"


def outcome(case: Case) -> str:
    try:
        with within(SECONDS_EACH):
            image = decode_image(case.content, case.name)
    except ImageError as error:
        assert_clear(str(error), case.name)
        return "refused"
    assert image.mode == "RGB"
    assert min(image.size) > 0
    return "accepted"


def test_every_image_is_decoded_or_refused(
    cases: list[Case], capfd: pytest.CaptureFixture[str]
) -> None:
    before, tally = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, Tally()
    for case in cases:
        tally.add(case.family, outcome(case))
    assert capfd.readouterr() == ("", ""), "Pillow, libtiff or GDAL wrote something"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEMORY_KIB
    with capfd.disabled():
        print(f"\n{COUNT} images, seed {SEED}\n{tally.table()}")  # noqa: T201
    assert {family for family, _ in tally.counts} == set(FAMILIES)
    # Neither side may win by default: a decoder that refuses all of them would pass otherwise.
    assert tally.total("accepted") > COUNT / 4
    assert tally.total("refused") > COUNT / 4


@pytest.fixture(scope="module")
def folder(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fuzz") / "photos"
    root.mkdir()
    for case in cases:
        (root / case.name).write_bytes(case.content)
    plant_oddities(root)
    return root


def remarks(text: str) -> list[str]:
    """Lines on stderr, without those that tell a slow machine's progress."""
    return [line for line in text.splitlines() if not line.startswith(("views: ", "images: "))]


class Tower:
    """Real decoding, views and cache; a tower that costs nothing in place of the real one."""

    @staticmethod
    def embedder(_experts: ExpertSet, **_: object) -> index.Embedder:
        return index.Embedder("f" * 64, "experts", Tower.embed)

    @staticmethod
    def embed(records: Sequence[Record]) -> EmbeddedImages:
        hashes, refused = content_hashes(records), dict[str, str]()
        views = (FIXED_VIEWS["full"], FIXED_VIEWS["rot+15"])
        pairs = list(zip(records, hashes, strict=True))
        requests = [ImageRequest(record.path, digest, views) for record, digest in pairs]
        features = image_features(CountingImageTower(), requests, 64, refused=refused)
        sound = [record.image_id for record, digest in pairs if digest not in refused]
        vectors = np.asarray([found.ravel() for found in features if len(found)], np.float32)
        bad = {r.image_id: f"{r.image_id!a}: {refused[h]}" for r, h in pairs if h in refused}
        kept = tuple(digest for digest in hashes if digest not in refused)
        return EmbeddedImages(Embeddings(tuple(sound), vectors, "f" * 64), kept, bad)


def test_the_whole_folder_is_read_and_indexed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("saywhere.bundle.load_experts", lambda _folder: None)
    monkeypatch.setattr(index, "embedder", Tower.embedder)
    with within(10):
        found = read(folder, skip_bad=True)
    # Every file that is an image by its suffix, whatever lies around it.
    assert len(found.records) == COUNT + READABLE_NAMES
    assert len(found.skipped) == OTHER_ENCODINGS
    assert all(r.lat is None or (abs(r.lat) <= 90 and r.lon is not None) for r in found.records)
    arguments = ("index", str(folder), "--experts", "any", "--index", str(tmp_path / "i"))
    strict = command(*arguments)
    assert strict.code == 2
    assert_clear(strict.err.removeprefix("saywhere: "), str(folder))
    assert "--skip-bad" in strict.err.split("\n", maxsplit=1)[0]
    with within(30):
        done = command(*arguments, "--skip-bad", "--json")
    assert done.code == 0, done.err
    report = json.loads(done.out)
    lines = [line for line in done.err.splitlines() if line.startswith("left out: ")]
    assert len(lines) == report["skipped"] == len(set(lines))
    assert report["images"] + report["skipped"] == COUNT + READABLE_NAMES + OTHER_ENCODINGS
    assert report["images"] >= COUNT / 4 + SOUND_NAMES
    notes = [line for line in done.err.splitlines() if line.startswith("note: ")]
    assert notes == [f"note: {line}" for line in found.notes]
    assert len(remarks(done.err)) == len(lines) + len(notes) + 3, "a warning among the remarks"
    assert capfd.readouterr() == ("", "")
    again = json.loads(command(*arguments, "--skip-bad", "--json").out)
    assert (again["added"], again["unchanged"]) == (0, report["images"])


def test_the_whole_folder_is_inspected(folder: Path, tmp_path: Path) -> None:
    """In a process of its own, where no test runner listens to the logs of Pillow and GDAL."""
    saywhere = Path(sys.executable).with_name("saywhere")
    arguments = ("data", "inspect", folder, "--skip-bad", "--decode", "--json",
                 "--sheet", tmp_path / "sheet.png")  # fmt: skip
    done = subprocess.run(
        [saywhere, *arguments], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    kinds = Counter(line.partition(":")[0] for line in remarks(done.stderr))
    assert kinds == {
        "left out": OTHER_ENCODINGS,
        "note": len(found["notes"]),
        "undecodable": len(found["undecodable"]),
        "contact sheet drawn to " + str(tmp_path / "sheet.png"): 1,
    }
    assert (tmp_path / "sheet.png").stat().st_size > 10_000


def test_the_oddities_alone_are_refused_in_one_error(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    plant_oddities(tmp_path / "photos")
    with pytest.raises(DatasetError) as error:
        read(tmp_path / "photos")
    assert len(error.value.problems) == OTHER_ENCODINGS
    assert_clear(str(error.value), str(tmp_path))


def test_gdal_writes_nothing_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A strip before the file's beginning: GDAL's libtiff told the terminal `_tiffSeekProc`."""
    *_, case = malformed_images(3, 692)
    (tmp_path / case.name).write_bytes(case.content)
    assert len(read(tmp_path).records) == 1
    assert capfd.readouterr() == ("", "")
