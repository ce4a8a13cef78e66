"""GeoText files: both caption forms, platform and place from names, every fault in one line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from datafiles import GOOD, REAL, assert_message, real, save_image, write_json
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.data import read
from saywhere.data.geotext import place_of, platform_of, read_geotext
from saywhere.errors import DatasetError, InputError
from saywhere.types import Dataset, Platform


@pytest.mark.real
@real
@pytest.mark.parametrize(("name", "each"), [("train.json", 300), ("test_mini.json", 100)])
def test_real_geotext_has_equal_platforms(name: str, each: int) -> None:
    dataset = read(REAL / "geotext-mini" / name)
    assert dataset.kind == "geotext"
    assert Counter(r.platform for r in dataset.records) == dict.fromkeys(Platform, each)
    assert len(dataset.captions) == len(dataset.records) == 3 * each
    assert {c.image_id for c in dataset.captions} == {r.image_id for r in dataset.records}
    assert all(c.text == c.original and c.origin == "dataset" for c in dataset.captions)
    assert {r.place_id for r in dataset.records if r.platform is Platform.DRONE} == {
        r.place_id for r in dataset.records if r.platform is Platform.SATELLITE
    }


@pytest.mark.real
@real
def test_real_geotext_folder_asks_for_a_file() -> None:
    with pytest.raises(InputError) as caught:
        read(REAL / "geotext-mini")
    assert_message(caught.value, "train.json", "test_mini.json")


@pytest.mark.parametrize(
    ("image", "platform"),
    [
        ("train/0839/image-43.jpeg", Platform.DRONE),
        ("train/0839/image-43.JPG", Platform.DRONE),
        ("train/0839/0839.jpg", Platform.SATELLITE),
        ("train/0839/0839.tif", Platform.SATELLITE),
        ("train/0839/1.jpg", Platform.GROUND),
        ("train/0839/image.jpeg", Platform.GROUND),
        ("train/0839/image-43-crop.jpeg", Platform.GROUND),
        ("test/query(701)/0001/drone_view.jpg", Platform.DRONE),
        ("test/query(701)/0001/satellite_view.jpg", Platform.SATELLITE),
        ("test/query(701)/0001/street_view.jpg", Platform.GROUND),
    ],
)
def test_platform_follows_from_the_name(image: str, platform: Platform) -> None:
    assert platform_of(image) is platform


def test_place_is_the_folder() -> None:
    assert place_of("test/gallery_no_train(250)/0012/0012.jpg") == "0012"
    with pytest.raises(InputError, match="lies in no folder; write"):
        place_of("0012.jpg")


def test_both_caption_forms_and_repeats_give_one_record(tmp_path: Path) -> None:
    drone, satellite = "train/0001/image-01.jpeg", "train/0001/0001.jpg"
    for image in (drone, satellite):
        save_image(tmp_path / "images" / image)
    path = write_json(
        tmp_path / "train.json",
        [
            {"image_id": "0001/image-01.jpeg", "image": drone, "caption": "a hall", "bboxes": None},
            {"image_id": 7, "image": satellite, "caption": ["from above", " the hall "]},
            {"image": drone, "caption": " a hall\n", "sentences": ["a hall", None]},
            {"image": "./train//0001/image-01.jpeg", "caption": "a tall hall", "extra": 1},
        ],
    )
    dataset = read_geotext(path)
    assert [(r.image_id, r.platform, r.place_id) for r in dataset.records] == [
        (drone, Platform.DRONE, "0001"),
        (satellite, Platform.SATELLITE, "0001"),
    ]
    assert [r.path for r in dataset.records] == [
        tmp_path / "images" / drone,
        tmp_path / "images" / satellite,
    ]
    assert [(c.image_id, c.text) for c in dataset.captions] == [
        (drone, "a hall"),
        (satellite, "from above"),
        (satellite, "the hall"),
        (drone, "a tall hall"),
    ]


def test_official_form_repeats_each_image_three_times(tmp_path: Path) -> None:
    image = "train/0001/drone_view.jpg"
    save_image(tmp_path / image)  # beside the file: there is no folder called images
    entries = [{"image": image, "caption": f"text {number % 2}"} for number in range(3)]
    dataset = read(write_json(tmp_path / "a.json", entries))
    assert len(dataset.records) == 1
    assert [c.text for c in dataset.captions] == ["text 0", "text 1"]


def test_images_folder_can_be_named(tmp_path: Path) -> None:
    save_image(tmp_path / "elsewhere" / "p" / "p.jpg")
    path = write_json(tmp_path / "train.json", [{"image": "p/p.jpg", "caption": "x"}])
    assert len(read_geotext(path, images=tmp_path / "elsewhere").records) == 1
    with pytest.raises(InputError, match="no such folder; name the one"):
        read_geotext(path, images=tmp_path / "nowhere")


MALFORMED: list[tuple[str, bytes, str]] = [
    ("empty file", b"", "line 1 column 1"),
    ("not JSON", b"hello", "line 1 column 1"),
    ("cut short", b'[\n{"image": "p/p.jpg", "cap', "line 2 column"),
    ("JSON lines", b'{"image": "a"}\n{"image": "b"}', "line 2 column 1"),
    ("Latin-1", '[{"caption": "Zürich"}]'.encode("latin-1"), "not UTF-8"),
    ("UTF-16", '[{"caption": "x"}]'.encode("utf-16"), "not UTF-8"),
    ("NaN", b'[{"bboxes": [NaN]}]', "NaN"),
    ("Infinity", b"[-Infinity]", "-Infinity"),
    ("nesting bomb", b"[" * 100_000, "nested too deeply"),
    ("object bomb", b'{"a":' * 100_000, "nested too deeply"),
    ("digit bomb", b"[" + b"9" * 5_000 + b"]", "too long"),
    ("an object", json.dumps(GOOD).encode(), "an object where GeoText has a list"),
    ("null", b"null", "null where GeoText has a list"),
    ("a number", b"1.5", "a number where GeoText has a list"),
    ("empty list", b"[]", "no entries"),
]
MALFORMED_ENTRIES: list[tuple[object, str]] = [
    ("text", "a text, not an object"),
    (None, "null, not an object"),
    ([GOOD], "a list, not an object"),
    ({}, "'image' is missing"),
    ({"image": "p/p.jpg"}, "'caption' is missing"),
    ({"caption": "x"}, "'image' is missing"),
    (GOOD | {"image": 5}, "'image' is a number"),
    (GOOD | {"image": True}, "'image' is true or false"),
    (GOOD | {"image": ["p/p.jpg"]}, "'image' is a list"),
    (GOOD | {"image": "  "}, "is empty"),
    (GOOD | {"image": "/etc/passwd"}, "absolute path"),
    (GOOD | {"image": "C:/p/p.jpg"}, "absolute path"),
    (GOOD | {"image": "../../etc/passwd"}, "leaves the images folder"),
    (GOOD | {"image": "p/../p/p.jpg"}, "leaves the images folder"),
    (GOOD | {"image": "p\\p.jpg"}, "backslashes"),
    (GOOD | {"image": "p.jpg"}, "no place folder"),
    (GOOD | {"image": "p/\ud800.jpg"}, "half a character"),
    (GOOD | {"image": "p/absent.jpg"}, "is not in"),
    (GOOD | {"image": "p/nul\0.jpg"}, "is not in"),
    (GOOD | {"image": "p/" + "x" * 5000}, "is not in"),
    (GOOD | {"image": "p"}, "no place folder"),
    (GOOD | {"caption": ""}, "empty text"),
    (GOOD | {"caption": "\n \t"}, "empty text"),
    (GOOD | {"caption": []}, "empty list"),
    (GOOD | {"caption": ["fine", " "]}, "empty text"),
    (GOOD | {"caption": ["fine", None]}, "'caption' holds null"),
    (GOOD | {"caption": 3}, "'caption' holds a number"),
    (GOOD | {"caption": {"en": "x"}}, "'caption' holds an object"),
    (GOOD | {"caption": "half \udfff"}, "half a character"),
    (GOOD | {"image_id": []}, "'image_id' is a list"),
    (GOOD | {"sentences": "x"}, "'sentences' is a text"),
    (GOOD | {"bboxes": {"a": 1}}, "'bboxes' is an object"),
]


@pytest.mark.parametrize(
    ("content", "words"), [pytest.param(c, w, id=name) for name, c, w in MALFORMED]
)
def test_malformed_geotext_file(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_geotext(path)
    assert_message(caught.value, words, "train.json")


@pytest.mark.parametrize(("entry", "words"), MALFORMED_ENTRIES)
def test_malformed_geotext_entry(tmp_path: Path, entry: object, words: str) -> None:
    save_image(tmp_path / "images" / "p" / "p.jpg")
    path = write_json(tmp_path / "train.json", [GOOD, entry])
    with pytest.raises(DatasetError) as caught:
        read_geotext(path)
    assert_message(caught.value, "entry 2: ", words)
    assert str(path) in str(caught.value)


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    entries = [entry for entry, _ in MALFORMED_ENTRIES]
    save_image(tmp_path / "images" / "p" / "p.jpg")
    with pytest.raises(DatasetError) as caught:
        read_geotext(write_json(tmp_path / "train.json", entries))
    named = {problem.split(":")[0] for problem in caught.value.problems}
    assert named == {f"entry {number}" for number in range(1, len(entries) + 1)}


def test_a_missing_image_is_reported_once(tmp_path: Path) -> None:
    entries = [{"image": "p/gone.jpg", "caption": f"text {i}"} for i in range(3)]
    with pytest.raises(DatasetError) as caught:
        read_geotext(write_json(tmp_path / "train.json", entries))
    assert len(caught.value.problems) == 1


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=12)
    | st.sampled_from(["p/p.jpg", "../p/p.jpg", "p/\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["image", "caption", "image_id", "sentences", "bboxes", "x"]),
            inner,
            max_size=6,
        )
        | st.lists(
            st.fixed_dictionaries({"image": st.just("p/p.jpg"), "caption": inner}), max_size=3
        )
    ),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shared")
    save_image(folder / "images" / "p" / "p.jpg")
    return folder


@settings(max_examples=200, deadline=None)
@given(value=JSON)
def test_any_json_is_a_dataset_or_our_error(shared_folder: Path, value: object) -> None:
    path = write_json(shared_folder / "any.json", value)
    try:
        dataset = read(path)
    except InputError as error:
        assert_message(error)
    else:
        assert isinstance(dataset, Dataset)
        assert dataset.records
        assert all(caption.text.strip() for caption in dataset.captions)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_a_dataset_or_our_error(shared_folder: Path, content: bytes) -> None:
    path = shared_folder / "bytes.json"
    path.write_bytes(content)
    with pytest.raises(InputError):  # 60 bytes hold no sound entry
        read(path)


def test_geotext_without_its_bad_entries(tmp_path: Path) -> None:
    save_image(tmp_path / "images" / "p" / "p.jpg")
    entries = [entry for entry, _ in MALFORMED_ENTRIES]
    path = write_json(tmp_path / "train.json", [*entries, GOOD])
    with pytest.raises(DatasetError) as caught:
        read(path)
    dataset = read(path, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["p/p.jpg"]
    assert [caption.text for caption in dataset.captions] == ["a text"]
    assert dataset.skipped == caught.value.problems
    assert {line.split(":")[0] for line in dataset.skipped} == {
        f"entry {number}" for number in range(1, len(entries) + 1)
    }
    with pytest.raises(DatasetError):  # nothing is left
        read(write_json(path, entries), skip_bad=True)
