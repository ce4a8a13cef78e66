"""RSICD lists: both forms, splits by list, every fault, the real data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saywhere.cli import commands
from saywhere.data import read, recognise
from saywhere.data.inspect import inspect
from saywhere.data.rsicd import benchmark_split, read_rsicd
from saywhere.errors import DatasetError, InputError
from saywhere.types import Dataset, Platform


def write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def texts(image: str, count: int = 5) -> list[str]:
    return [f"caption {number} of {image} ." for number in range(count)]


@pytest.fixture
def rsicd(tmp_path: Path) -> Path:
    """Three training images, one of them for validation, and a test split of two in its form."""
    root = tmp_path / "rsicd"
    (root / "images").mkdir(parents=True)
    train, test = ("airport_1.jpg", "00001.jpg", "park_2.jpg"), ("pond_1.jpg", "pond_2.jpg")
    for name in (*train, *test):
        Image.new("RGB", (4, 4)).save(root / "images" / name)
    write_lines(root / "train_filename.txt", train)
    write_lines(root / "train_caps.txt", [text for name in train for text in texts(name)])
    write_lines(root / "valid_filename.txt", ["00001.jpg"])
    write_lines(root / "test_filename.txt", [name for name in test for _ in range(5)])
    write_lines(root / "test_caps.txt", [text for name in test for text in texts(name)])
    return root


def by_image(dataset: Dataset) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {record.image_id: [] for record in dataset.records}
    for caption in dataset.captions:
        found[caption.image_id].append(caption.text)
    return found


def edit(path: Path, change: Callable[[list[str]], object]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    change(lines)
    write_lines(path, lines)


def assert_remedy(error: InputError) -> None:
    for problem in error.problems if isinstance(error, DatasetError) else (str(error),):
        assert "\n" not in problem
        assert "; " in problem, problem


def problems(root: Path, split: str = "train") -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        read_rsicd(root, split)
    assert_remedy(caught.value)
    return caught.value.problems


# --- real data ------------------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "images"), [("", 9828), ("valid_filename.txt", 1094), ("train-without-valid", 8734)]
)
def test_real_splits(data_root: Path, name: str, images: int) -> None:
    dataset = read(data_root / "rsicd" / name)
    assert dataset.kind == "rsicd"
    assert (len(dataset.records), len(dataset.captions)) == (images, 5 * images)
    assert set(Counter(caption.image_id for caption in dataset.captions).values()) == {5}
    assert {record.platform for record in dataset.records} == {Platform.SATELLITE}
    assert len({record.place_id for record in dataset.records}) == images


@pytest.mark.real
def test_real_captions_are_bound_as_the_files_are_written(data_root: Path) -> None:
    root = data_root / "rsicd"
    names, captions = (
        (root / f"train_{kind}.txt").read_text(encoding="utf-8").splitlines()
        for kind in ("filename", "caps")
    )
    found, valid = by_image(read_rsicd(root)), by_image(read_rsicd(root, "valid"))
    for index in (0, 1, 4711, 9827):
        expected = [text.strip() for text in captions[5 * index : 5 * index + 5]]
        assert found[names[index]] == expected
    assert all(found[name] == texts_of for name, texts_of in valid.items())


# --- forms and splits -----------------------------------------------------------------------------


def test_both_forms_give_five_captions_an_image(rsicd: Path) -> None:
    for split, names in (
        ("train", ["airport_1.jpg", "00001.jpg", "park_2.jpg"]),
        ("test", ["pond_1.jpg", "pond_2.jpg"]),
    ):
        dataset = read_rsicd(rsicd, split)
        assert by_image(dataset) == {name: texts(name) for name in names}
        assert [r.place_id for r in dataset.records] == [
            name.removesuffix(".jpg") for name in names
        ]
        assert all(record.path == rsicd / "images" / record.image_id for record in dataset.records)
        assert all((r.platform, r.lat) == (Platform.SATELLITE, None) for r in dataset.records)


def test_equal_captions_of_an_image_are_all_kept(rsicd: Path) -> None:
    write_lines(rsicd / "train_caps.txt", ["a park ."] * 15)
    assert len(read_rsicd(rsicd).captions) == 15


def test_test_form_needs_no_order(rsicd: Path) -> None:
    write_lines(rsicd / "test_filename.txt", ["pond_1.jpg", "pond_2.jpg", "pond_1.jpg"])
    write_lines(rsicd / "test_caps.txt", ["a", "b", "c"])
    assert by_image(read_rsicd(rsicd, "test")) == {"pond_1.jpg": ["a", "c"], "pond_2.jpg": ["b"]}


@pytest.mark.parametrize(
    ("path", "split", "images"),
    [
        ("", "train", ["airport_1.jpg", "00001.jpg", "park_2.jpg"]),
        ("train_filename.txt", "train", ["airport_1.jpg", "00001.jpg", "park_2.jpg"]),
        ("valid_filename.txt", "valid", ["00001.jpg"]),
        ("valid", "valid", ["00001.jpg"]),
        ("test_filename.txt", "test", ["pond_1.jpg", "pond_2.jpg"]),
        ("train-without-valid", "train-without-valid", ["airport_1.jpg", "park_2.jpg"]),
        (
            "train-without-valid_filename.txt",
            "train-without-valid",
            ["airport_1.jpg", "park_2.jpg"],
        ),
    ],
)
def test_a_path_names_the_split(rsicd: Path, path: str, split: str, images: list[str]) -> None:
    assert recognise(rsicd / path) == "rsicd"
    dataset = read(rsicd / path)
    assert list(by_image(dataset)) == images
    assert by_image(dataset) == {name: texts(name) for name in images}
    assert dataset.source == rsicd / f"{split}_filename.txt"
    assert read(dataset.source) == dataset  # the source can be read again


def test_a_list_with_captions_of_its_own_uses_them(rsicd: Path) -> None:
    write_lines(rsicd / "valid_caps.txt", texts("another text"))
    assert by_image(read_rsicd(rsicd, "valid")) == {"00001.jpg": texts("another text")}


def test_windows_ends_marks_and_blank_ends(rsicd: Path) -> None:
    expected = by_image(read_rsicd(rsicd))
    for name in ("train_filename.txt", "train_caps.txt"):
        content = (rsicd / name).read_bytes().replace(b"\n", b"\r\n")
        (rsicd / name).write_bytes(b"\xef\xbb\xbf" + content + b"\r\n \r\n")
    assert by_image(read_rsicd(rsicd)) == expected


# --- faults ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("tset", "no such split; name one of those there: test, train, valid"),
        ("train-without-tset", "no such split"),
        ("../train", "is no name"),
        ("", "is no name"),
    ],
)
def test_unknown_splits(rsicd: Path, split: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_rsicd(rsicd, split)


def test_half_a_folder(rsicd: Path) -> None:
    with pytest.raises(InputError, match="is no dataset; name"):
        read(rsicd / "train_caps.txt")
    assert recognise(rsicd / "images") == "folder"
    (rsicd / "valid_filename.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(InputError, match="holds no name; write"):
        read_rsicd(rsicd, "valid")
    (rsicd / "train_caps.txt").unlink()
    with pytest.raises(InputError, match="no such file; give"):
        read(rsicd)
    (rsicd / "images").rename(rsicd / "pictures")
    with pytest.raises(InputError, match="has no folder images; unpack"):
        read(rsicd)


@pytest.mark.parametrize("drop", [1, 5, 14])
def test_counts_that_do_not_fit(rsicd: Path, drop: int) -> None:
    def shorten(lines: list[str]) -> None:
        del lines[:drop]

    edit(rsicd / "train_caps.txt", shorten)
    (problem,) = problems(rsicd)
    assert f"3 names and train_caps.txt {15 - drop} captions" in problem
    with pytest.raises(DatasetError):  # nothing can be told apart from the bad
        read_rsicd(rsicd, skip_bad=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/etc/passwd", "absolute path"),
        ("../train_caps.txt", "leaves the images folder"),
        ("a\\b.jpg", "backslashes"),
        ("", "is empty"),
        (".", "names no file"),
        ("airport_1.jpg", "stands on line 1 already"),
    ],
)
def test_names_that_cannot_be_used(rsicd: Path, name: str, words: str) -> None:
    edit(rsicd / "train_filename.txt", lambda lines: lines.__setitem__(1, name))
    (problem,) = problems(rsicd)
    assert problem.startswith("train_filename.txt line 2: ")
    assert words in problem


def test_bytes_that_are_not_utf8(rsicd: Path) -> None:
    edit(rsicd / "train_caps.txt", lambda lines: lines.__setitem__(3, "caf"))
    path = rsicd / "train_caps.txt"
    path.write_bytes(path.read_bytes().replace(b"caf\n", b"caf\xe9\n"))
    (problem,) = problems(rsicd)
    assert problem.startswith("train_caps.txt line 4: not UTF-8; ")
    path.write_text("a", encoding="utf-16")
    with pytest.raises(InputError, match="is UTF-16; save"):
        read(rsicd)


def test_an_endless_line_is_refused(rsicd: Path) -> None:
    (rsicd / "train_caps.txt").write_text("x" * (1 << 21), encoding="utf-8")
    with pytest.raises(InputError, match="line 1 is longer than"):
        read(rsicd)


def spoil(root: Path) -> None:
    edit(root / "train_caps.txt", lambda lines: lines.__setitem__(1, ""))
    edit(root / "train_filename.txt", lambda lines: lines.__setitem__(1, "../x.jpg"))
    (root / "images" / "park_2.jpg").unlink()


def test_all_problems_are_reported_at_once(rsicd: Path) -> None:
    spoil(rsicd)
    found = problems(rsicd)
    assert len(found) == 3
    for start in ("train_filename.txt line 2: ", "train_caps.txt line 2: ", "image 'park_2.jpg'"):
        assert sum(problem.startswith(start) for problem in found) == 1


def test_bad_entries_can_be_left_out(rsicd: Path) -> None:
    spoil(rsicd)
    dataset = read(rsicd, skip_bad=True)
    first, _, *rest = texts("airport_1.jpg")
    assert by_image(dataset) == {"airport_1.jpg": [first, *rest]}
    assert dataset.skipped == problems(rsicd)
    found = inspect(rsicd, skip_bad=True)
    assert (found.records, found.skipped) == (1, dataset.skipped)
    assert found.missing_files == ("park_2.jpg",)


def test_a_list_may_name_only_known_images(rsicd: Path) -> None:
    write_lines(rsicd / "valid_filename.txt", ["00001.jpg", "pond_1.jpg"])
    (problem,) = problems(rsicd, "valid")
    assert "line 2: 'pond_1.jpg' has no captions in train_caps.txt" in problem
    assert list(by_image(read_rsicd(rsicd, "valid", skip_bad=True))) == ["00001.jpg"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("any")
    (root / "images").mkdir()
    (root / "images" / "a.jpg").write_bytes(b"")
    return root


LINES = st.lists(st.sampled_from([b"a.jpg", b"", b" ", b"../a", b"\xff", b"a b", b"/", b"b.jpg"]))


@settings(max_examples=150, deadline=None)
@given(names=LINES, captions=LINES, skip=st.booleans())
def test_any_lists_are_a_dataset_or_our_error(
    shared: Path, names: list[bytes], captions: list[bytes], skip: bool
) -> None:
    (shared / "train_filename.txt").write_bytes(b"\n".join(names))
    (shared / "train_caps.txt").write_bytes(b"\n".join(captions))
    try:
        dataset = read(shared, skip_bad=skip)
    except InputError as error:
        assert_remedy(error)
    else:
        assert list(by_image(dataset)) == ["a.jpg"]
        assert dataset.captions
        assert skip or not dataset.skipped


def test_the_benchmark_takes_test_and_without_it_valid(rsicd: Path) -> None:
    assert benchmark_split(rsicd) == "test"
    (rsicd / "test_caps.txt").unlink()
    assert benchmark_split(rsicd) == "valid"
    (rsicd / "valid_filename.txt").unlink()
    for folder, words in ((rsicd, "neither test_filename.txt"), (rsicd / "none", "is no folder")):
        with pytest.raises(InputError, match=words) as caught:
            benchmark_split(folder)
        assert_remedy(caught.value)


def _evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(commands, ["evaluate", *map(str, arguments)])


def test_the_benchmark_scores_five_captions_an_image_both_ways(
    rsicd: Path, small_experts: Path
) -> None:
    for seed, name in enumerate(("pond_1.jpg", "pond_2.jpg")):
        noise = np.random.default_rng(seed).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(rsicd / "images" / name)
    # Both images have the same captions: every answer to words is a coin's toss.
    write_lines(rsicd / "test_caps.txt", texts("a pond") * 2)
    options = ("--benchmark", "rsicd", "--data", rsicd, "--experts", small_experts, "--json")
    done = _evaluate(*options)
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    context = found["context"]
    assert (context["queries"], context["images"], context["platforms_known"]) == (10, 2, 2)
    assert [found[f"{way}_r5"] for way in ("t2i", "i2t")] == [100, 100]
    assert found["i2t_r1"] == 0  # its own captions tie with another's: against us
    assert found["t2i_r1"] == 50
    six = [found[f"{way}_r{k}"] for way in ("t2i", "i2t") for k in (1, 5, 10)]
    assert found["r_mean"] == pytest.approx(sum(six) / 6)
    # In a random order the first caption is one of its own half the time.
    even = next(row for row in found["rows"] if row["direction"] == "i2t")["even_ties"]
    assert even["recall_at_1"] == pytest.approx(50)
    assert found["r_mean_even_ties"] == pytest.approx(found["r_mean"] + 50 / 6, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--benchmark", "rsicd"), "--data DIR"),
        (("x", "--benchmark", "rsicd", "--data", "."), "reads no PATH"),
        (("x", "--data", "."), "--benchmark rsicd"),
        ((), "nothing to evaluate on"),
        (("--benchmark", "rsicd", "--data", "nowhere"), "nowhere: is no folder"),
    ],
)
def test_the_benchmark_refuses_in_one_line(arguments: tuple[str, ...], words: str) -> None:
    done = _evaluate(*arguments)
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
    assert_remedy(done.exception)
