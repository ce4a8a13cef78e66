"""Track 4 folders: queries and images, never the truth; every fault in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from datafiles import REAL, assert_message, real, save_image, track4_folder, write_json
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.data import read
from saywhere.data.track4 import read_queries, read_track4, read_truth
from saywhere.errors import DatasetError, InputError
from saywhere.types import Platform


@pytest.mark.real
@real
def test_real_track4_matches_its_truth() -> None:
    root = REAL / "track4-mini"
    dataset, truth = read(root), read_truth(root / "ground_truth.json")
    assert (dataset.kind, len(dataset.records), len(dataset.queries)) == ("track4", 300, 300)
    assert all((r.platform, r.place_id, r.lat) == (None, None, None) for r in dataset.records)
    assert {q.query_id for q in dataset.queries} == set(truth.query_image)
    assert {r.image_id for r in dataset.records} == set(truth.image_platform)
    assert Counter(truth.query_platform.values()) == dict.fromkeys(Platform, 100)
    for query_id, image_id in truth.query_image.items():
        assert truth.image_place[image_id] == truth.query_place[query_id]


@pytest.mark.parametrize("queries", ["test_queries.txt", "test_queries_v2.txt"])
def test_track4_folder(tmp_path: Path, queries: str) -> None:
    root = track4_folder(tmp_path, queries)
    for stray in ("notes.txt", ".image_0c.jpeg"):
        (root / "Track_4_Images" / stray).write_bytes(b"")
    dataset = read(root)
    assert dataset.kind == "track4"
    assert [r.image_id for r in dataset.records] == ["image_0a", "image_0b"]
    assert [(q.query_id, q.text) for q in dataset.queries] == [("q1", "a hall"), ("q2", "a pond")]


def test_the_usual_query_file_is_preferred(tmp_path: Path) -> None:
    root = track4_folder(tmp_path)
    (root / "test_queries_old.txt").write_text("q_9\told\n", encoding="utf-8")
    assert [q.query_id for q in read_track4(root).queries] == ["q1", "q2"]
    (root / "test_queries.txt").rename(root / "test_queries_new.txt")
    with pytest.raises(InputError, match="several query files"):
        read_track4(root)


def test_track4_never_opens_the_truth(tmp_path: Path) -> None:
    root = track4_folder(tmp_path)
    (root / "ground_truth.json").write_text("not even JSON", encoding="utf-8")
    assert len(read(root).records) == 2


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda root: (root / "test_queries.txt").unlink(), "has no test_queries.txt"),
        (lambda root: (root / "Track_4_Images").rename(root / "pictures"), "Track_4_Images"),
        (lambda root: save_image(root / "Track_4_Images" / "image_0b.jpg"), "but for the suffix"),
        (lambda root: save_image(root / "Track_4_Images" / "image 0c.jpg"), "white space"),
        (
            lambda root: [p.unlink() for p in (root / "Track_4_Images").iterdir()],
            "holds no images",
        ),
    ],
)
def test_half_a_track4_folder(tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(track4_folder(tmp_path))
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    assert_message(caught.value, words)


def test_queries_with_mark_windows_ends_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "test_queries.txt"
    path.write_bytes("\ufeffq_00001\tZürich\u2028hall \r\n\r\n  \nq_00300\tb\tc\r\n".encode())
    queries = read_queries(path)
    assert [(q.query_id, q.text) for q in queries] == [("q1", "Zürich\u2028hall"), ("q300", "b\tc")]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("q_00002", "no tab"),
        ("q_00002 a text", "no tab"),
        ("q_00002,text", "no tab"),
        ("q_00002\t", "no text"),
        ("q_00002\t  \t ", "no text"),
        ("q_1\tagain", "q1 stands on line 1 already"),
        ("q00001\tagain", "q1 stands on line 1 already"),
        ("\ttext", "not of the form"),
        ("2\ttext", "not of the form"),
        ("q_\ttext", "not of the form"),
        ("Q_00002\ttext", "not of the form"),
        ("query_2\ttext", "not of the form"),
        ("q_-2\ttext", "not of the form"),
        ("q_2.5\ttext", "not of the form"),
        ("q_٢\ttext", "not of the form"),
        ("q_2 q_3\ttext", "not of the form"),
        ("q__2\ttext", "not of the form"),
    ],
)
def test_malformed_query_line(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "test_queries.txt"
    path.write_text(f"q_00001\ta hall\n\n{line}\n", encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_queries(path)
    assert_message(caught.value, "line 3: ", words)


def test_malformed_query_files(tmp_path: Path) -> None:
    path = tmp_path / "test_queries.txt"
    for content, words in ((b"\n\r\n", "no query"), (b"q_1\t\xff", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=words):
            read_queries(path)
    path.write_bytes(b"bad\nq_1\tfine\nq_2\nq_1\ttwice\n")
    with pytest.raises(DatasetError) as caught:
        read_queries(path)
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 1", "line 3", "line 4"]
    with pytest.raises(InputError, match="no such file"):
        read_queries(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="is a folder"):
        read_queries(tmp_path)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared")


@settings(max_examples=250, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
    | st.lists(st.sampled_from(["q_", "q1", "0", "7", "\t", "\n", "\r", " ", "hall"])).map("".join)
)
def test_any_text_is_queries_or_our_error(shared_folder: Path, text: str) -> None:
    path = shared_folder / "test_queries.txt"
    path.write_bytes(text.encode())
    try:
        queries = read_queries(path)
    except InputError as error:
        assert_message(error)
    else:
        assert len({q.query_id for q in queries}) == len(queries) > 0
        assert all(q.text.strip() for q in queries)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queries": []}, "no object 'queries'"),
        ({"images": {}}, "no object 'images'"),
        ({"images": {"a": 5}}, "image 'a': not an object"),
        ({"images": {"a": {"platform": "boat", "place": "1"}}}, "none of satellite"),
        ({"images": {"a": {"platform": "drone", "place": 1}}}, "'place' is not a text"),
        ({"images": {"b": {"platform": "drone", "place": "1"}}}, "not among the images"),
        ({"queries": {"q1": {"image": ["a"], "platform": {}}}}, "not among the images"),
    ],
)
def test_malformed_truth(tmp_path: Path, change: dict[str, object], words: str) -> None:
    entry = {"platform": "drone", "place": "0001"}
    good = {"queries": {"q1": entry | {"image": "a"}}, "images": {"a": entry}}
    truth = read_truth(write_json(tmp_path / "good.json", good))
    assert (truth.query_image, truth.query_platform) == ({"q1": "a"}, {"q1": Platform.DRONE})
    with pytest.raises(InputError) as caught:
        read_truth(write_json(tmp_path / "bad.json", good | change))
    assert_message(caught.value, words)
    with pytest.raises(InputError):
        read_truth(write_json(tmp_path / "list.json", [good]))


def test_track4_without_its_bad_entries(tmp_path: Path) -> None:
    root = track4_folder(tmp_path)
    assert read(root, skip_bad=True).skipped == ()
    for name in ("image_0b.jpg", "image 0c.jpg"):
        save_image(root / "Track_4_Images" / name)
    with (root / "test_queries.txt").open("a", encoding="utf-8") as file:
        file.write("no tab\nq_1\tagain\n")
    dataset = read(root, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["image_0a"]
    assert [query.query_id for query in dataset.queries] == ["q1", "q2"]
    with pytest.raises(DatasetError) as caught:
        read(root)
    assert_message(
        caught.value, "white space", "suffix", "test_queries.txt line 3", "line 4: id q1"
    )
    assert dataset.skipped == caught.value.problems
    assert len(dataset.skipped) == 4
    (root / "test_queries.txt").write_text("no tab\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="no tab"):
        read(root, skip_bad=True)
