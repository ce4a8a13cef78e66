"""Five hundred malformed datasets: each is read or refused in clear lines, and nothing else.

`pytest tests/test_fuzz_data.py -s` prints the counts; SAYWHERE_FUZZ_SEED takes another seed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from fuzz.datasets import FAMILIES, Case, malformed_datasets, plant_images
from fuzz.limits import SEED, Done, Tally, assert_clear, command, within

from saywhere.data import read
from saywhere.data.inspect import inspect
from saywhere.data.track4 import Truth, read_truth
from saywhere.errors import SaywhereError
from saywhere.types import Dataset

pytestmark = pytest.mark.slow
COUNT = 500
SECONDS_EACH = 5.0
MEMORY = 100_000_000  # bytes; the largest file has 1.2 MB


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Case, Path]]:
    root = tmp_path_factory.mktemp("datasets")
    made = []
    for case in malformed_datasets(SEED, COUNT):
        folder = root / f"{case.number:03}"
        plant_images(folder, case.family)
        made.append((case, case.write(folder)))
    return made


def outcome(path: Path, *, skip_bad: bool) -> tuple[str, str]:
    """What came of reading, and the message of the refusal or nothing."""
    try:
        with within(SECONDS_EACH):
            found: Dataset | Truth
            if path.name == "ground_truth.json":
                found = read_truth(path)
            else:
                found = read(path, skip_bad=skip_bad)
    except SaywhereError as error:
        assert_clear(str(error), str(path), str(path.parent))
        return f"refused by {type(error).__name__}", str(error)
    if isinstance(found, Dataset):
        check_sound(found)
    return "accepted", ""


def check_sound(found: Dataset) -> None:
    """What a reader promises of what it returns."""
    ids = [record.image_id for record in found.records]
    assert len(set(ids)) == len(ids) > 0
    assert all(record.path.is_file() for record in found.records)
    assert all(".." not in record.path.parts[-3:] for record in found.records)
    assert {caption.image_id for caption in found.captions} <= set(ids)
    texts = [caption.text for caption in found.captions] + [query.text for query in found.queries]
    assert all(text == text.strip() != "" and text.encode() for text in texts)
    assert all("; " in line for line in found.skipped)


def test_every_dataset_is_read_or_refused(
    cases: list[tuple[Case, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    tally, skipping = Tally(), Tally()
    tracemalloc.start()
    for case, path in cases:
        strict, message = outcome(path, skip_bad=False)
        tally.add(case.family, strict)
        lenient, without = outcome(path, skip_bad=True)
        skipping.add(case.family, lenient)
        # Leaving bad entries out never loses what is sound, and never excuses an unusable file.
        assert strict != "accepted" or lenient == "accepted", path
        assert lenient == "accepted" or without == message, path
    assert tracemalloc.get_traced_memory()[1] < MEMORY
    tracemalloc.stop()
    assert capfd.readouterr() == ("", "")
    with capfd.disabled():
        print(f"\n{COUNT} datasets, seed {SEED}\n{tally.table()}")  # noqa: T201
        print(f"\nthe same with skip_bad\n{skipping.table()}")  # noqa: T201
    assert {family for family, _ in tally.counts} == set(FAMILIES)
    assert skipping.total("accepted") > tally.total("accepted") > COUNT / 10
    assert tally.total("accepted") < COUNT / 2


def test_every_dataset_is_inspected_or_refused(
    cases: list[tuple[Case, Path]], capfd: pytest.CaptureFixture[str]
) -> None:
    codes = []
    for _, path in cases:
        for more in ((), ("--skip-bad", "--json")):
            with within(SECONDS_EACH):
                done = command("data", "inspect", str(path), *more)
            check_command(done, path)
            codes.append(done.code)
    assert capfd.readouterr() == ("", "")
    assert min(codes.count(0), codes.count(2)) > COUNT / 10


def check_command(done: Done, path: Path) -> None:
    assert done.code in (0, 2), done.err
    assert "Traceback" not in done.err
    if done.code == 2:
        assert done.out == ""
        assert done.err.startswith("saywhere: ")
        assert_clear(done.err.removeprefix("saywhere: "), str(path), str(path.parent))
        return
    assert all(line.startswith("left out: ") for line in done.err.splitlines())
    if done.out.startswith("{"):
        found = json.loads(done.out)
        assert found["images" if "images" in found else "records"] > 0
        assert len(found["skipped"]) == len(done.err.splitlines())


@pytest.mark.parametrize("number", range(0, 60, 7))
def test_a_process_of_its_own_says_the_same(cases: list[tuple[Case, Path]], number: int) -> None:
    _, path = cases[number]
    here = command("data", "inspect", str(path))
    saywhere = Path(sys.executable).with_name("saywhere")
    done = subprocess.run([saywhere, "data", "inspect", path], capture_output=True, check=False)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (
        here.code, here.out, here.err,
    )  # fmt: skip


@pytest.mark.parametrize("coding", ["C.UTF-8", "C", "POSIX"])
def test_paths_that_are_not_utf8_are_printed(tmp_path: Path, coding: str) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    plant_images(folder, "folder")
    saywhere = Path(sys.executable).with_name("saywhere")
    for more in ((), ("--json",)):
        done = subprocess.run(
            [saywhere, "data", "inspect", folder, *more],
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": coding},
        )
        assert done.returncode == 0, done.stderr
        assert b"caf" in done.stdout
        assert done.stderr == b""
    # As strict as Python's own stdout is where the locale is UTF-8.
    strict = command("data", "inspect", str(folder), "--json")
    assert strict.code == 0
    assert json.loads(strict.out)["source"] == str(folder)


def test_inspection_counts_what_reading_gives(cases: list[tuple[Case, Path]]) -> None:
    for _, path in cases[:100]:
        if path.name != "ground_truth.json" and outcome(path, skip_bad=True)[0] == "accepted":
            dataset, found = read(path, skip_bad=True), inspect(path, skip_bad=True)
            assert found.records == len(dataset.records)
            assert found.skipped == dataset.skipped
