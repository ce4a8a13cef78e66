"""Readers: real layouts, both caption forms, every malformed kind, hostile files."""

from __future__ import annotations

import json
import os
import statistics
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from saywhere.commands.imagery import data as data_verbs
from saywhere.data import read, recognise
from saywhere.data.contents import SHEET_IMAGES, draw_sheet
from saywhere.data.folder import read_folder
from saywhere.data.geotext import place_of, platform_of, read_geotext
from saywhere.data.inspect import Spread, inspect
from saywhere.data.track4 import read_queries, read_track4, read_truth
from saywhere.errors import DatasetError, InputError
from saywhere.types import Dataset, Platform, Record

REAL = Path(os.environ.get("SAYWHERE_DATA", Path(__file__).parents[1].parent / "shared" / "data"))
real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real imagery in {REAL}")


def save_image(path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (90, 120, 60)).save(path, **options)
    return path


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def problems_of(error: InputError) -> tuple[str, ...]:
    return error.problems if isinstance(error, DatasetError) else (str(error),)


def assert_message(error: InputError, *words: str) -> None:
    """One line a problem, the expected words, and a remedy after a semicolon."""
    for problem in problems_of(error):
        assert "\n" not in problem
        assert "; " in problem, problem
    for word in words:
        assert word in "\n".join(problems_of(error))


# --- real data ------------------------------------------------------------------------------------


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


@pytest.mark.real
@real
def test_real_inspection() -> None:
    found = inspect(REAL / "geotext-mini" / "train.json")
    assert (found.records, found.captions, found.places, found.missing_files) == (900, 900, 600, ())
    assert found.platforms == {"satellite": 300, "drone": 300, "ground": 300, "unknown": 0}
    assert found.images_per_place == Spread(1, 1.5, 2)


@pytest.mark.real
@real
def test_real_geotext_folder_asks_for_a_file() -> None:
    with pytest.raises(InputError) as caught:
        read(REAL / "geotext-mini")
    assert_message(caught.value, "train.json", "test_mini.json")


# --- GeoText --------------------------------------------------------------------------------------


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


GOOD = {"image": "p/p.jpg", "caption": "a text"}
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


# --- Track 4 --------------------------------------------------------------------------------------


def track4_folder(root: Path, queries: str = "test_queries.txt") -> Path:
    for name in ("image_0b.jpeg", "image_0a.png"):
        save_image(root / "Track_4_Images" / name)
    (root / queries).write_text("q_00001\ta hall\nq_00002\ta pond\n", encoding="utf-8")
    return root


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


# --- folders --------------------------------------------------------------------------------------


def gps(lat: Any, lat_ref: Any, lon: Any, lon_ref: Any) -> bytes:
    """EXIF as bytes: Pillow's TIFF writer refuses an Exif object made by hand."""
    exif = Image.Exif()
    tags = {1: lat_ref, 2: lat, 3: lon_ref, 4: lon}
    exif[0x8825] = {tag: value for tag, value in tags.items() if value is not None}
    return exif.tobytes()


SYDNEY = ((33.0, 51.0, 35.9), (151.0, 12.0, 34.5))


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".webp", ".tif"])
def test_exif_position(tmp_path: Path, suffix: str) -> None:
    save_image(tmp_path / f"a{suffix}", exif=gps(SYDNEY[0], "S", SYDNEY[1], "E"))
    (record,) = read_folder(tmp_path).records
    assert record.lat == pytest.approx(-(33 + 51 / 60 + 35.9 / 3600), abs=1e-7)
    assert record.lon == pytest.approx(151 + 12 / 60 + 34.5 / 3600, abs=1e-7)
    assert record.platform is None


def test_exif_signs(tmp_path: Path) -> None:
    for lat_ref in "NS":
        for lon_ref in "EW":
            exif = gps((10.5, 0.0, 0.0), lat_ref, (20.25, 0.0, 0.0), lon_ref)
            save_image(tmp_path / f"{lat_ref}{lon_ref}.jpg", exif=exif)
    found = {r.image_id[:2]: (r.lat, r.lon) for r in read_folder(tmp_path).records}
    assert found == {
        "NE": (10.5, 20.25),
        "NW": (10.5, -20.25),
        "SE": (-10.5, 20.25),
        "SW": (-10.5, -20.25),
    }


@pytest.mark.parametrize(
    "exif",
    [
        gps((91.0, 0.0, 0.0), "N", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "N", (180.0, 0.0, 0.1), "E"),
        gps((IFDRational(0, 0), 0.0, 0.0), "N", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, IFDRational(1, 0)), "N", (5.0, 0.0, 0.0), "E"),
        gps((0.0, 0.0, 0.0), "N", (0.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "N", None, None),
        gps((9.0, 0.0, 0.0), None, (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "X", (5.0, 0.0, 0.0), "E"),
        gps((9.0, 0.0, 0.0), "E", (5.0, 0.0, 0.0), "N"),
        gps(9.0, "N", 5.0, "E"),
        Image.Exif().tobytes(),
    ],
)
def test_broken_exif_is_no_position(tmp_path: Path, exif: bytes) -> None:
    save_image(tmp_path / "drone" / "a.jpg", exif=exif)
    (record,) = read_folder(tmp_path).records
    assert (record.lat, record.lon, record.platform) == (None, None, Platform.DRONE)


def save_geotiff(path: Path, *, crs: str | None = "EPSG:32632") -> Path:
    """40 × 20 pixels of 2 m, upper left corner at 500,000 E 5,000,000 N."""
    import rasterio
    from affine import Affine

    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "width": 40, "height": 20, "count": 1, "dtype": "uint8"}
    origin = Affine(2, 0, 500_000, 0, -2, 5_000_000)
    with rasterio.open(path, "w", **profile, crs=crs, transform=origin) as image:
        image.write(np.zeros((1, 20, 40), np.uint8))
    return path


def utm_to_wgs84(easting: float, northing: float, central_meridian: float) -> tuple[float, float]:
    """(lat, lon) in degrees; Snyder, Map Projections (USGS 1395), equations 8-17 ff."""
    a, f, k0 = 6_378_137.0, 1 / 298.257223563, 0.9996
    e2 = f * (2 - f)
    ep2 = e2 / (1 - e2)
    mu = northing / k0 / (a * (1 - e2 / 4 - 3 * e2**2 / 64 - 5 * e2**3 / 256))
    e1 = (1 - np.sqrt(1 - e2)) / (1 + np.sqrt(1 - e2))
    phi = (
        mu
        + (3 * e1 / 2 - 27 * e1**3 / 32) * np.sin(2 * mu)
        + (21 * e1**2 / 16 - 55 * e1**4 / 32) * np.sin(4 * mu)
        + 151 * e1**3 / 96 * np.sin(6 * mu)
        + 1097 * e1**4 / 512 * np.sin(8 * mu)
    )
    n = a / np.sqrt(1 - e2 * np.sin(phi) ** 2)
    r = a * (1 - e2) / (1 - e2 * np.sin(phi) ** 2) ** 1.5
    t, c = np.tan(phi) ** 2, ep2 * np.cos(phi) ** 2
    d = (easting - 500_000) / (n * k0)
    lat = phi - n * np.tan(phi) / r * (d**2 / 2 - (5 + 3 * t + 10 * c) * d**4 / 24)
    lon = (d - (1 + 2 * t + c) * d**3 / 6) / np.cos(phi)
    return float(np.degrees(lat)), central_meridian + float(np.degrees(lon))


def test_geotiff_centre(tmp_path: Path) -> None:
    save_geotiff(tmp_path / "drone" / "ortho.TIF")
    (record,) = read_folder(tmp_path).records
    assert record.platform is Platform.SATELLITE  # what the file says outweighs its folder
    lat, lon = utm_to_wgs84(500_040, 4_999_980, 9.0)
    assert record.lat == pytest.approx(lat, abs=1e-6)
    assert record.lon == pytest.approx(lon, abs=1e-6)


def test_geotiff_outside_its_projection_is_satellite_without_position(tmp_path: Path) -> None:
    save_geotiff(tmp_path / "a.tif", crs="EPSG:4326")  # 500,000 degrees east
    (record,) = read_folder(tmp_path).records
    assert (record.lat, record.lon, record.platform) == (None, None, Platform.SATELLITE)


def test_tiffs_without_position(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "plain.tif")
    save_geotiff(tmp_path / "no_crs.tif", crs=None)
    (tmp_path / "damaged.tif").write_bytes(b"II*\0\xff\xff\xff\xff" + b"\1" * 50)
    (tmp_path / "empty.tiff").write_bytes(b"")
    truncated = save_geotiff(tmp_path / "truncated.tif")
    truncated.write_bytes(truncated.read_bytes()[:150])
    for record in read_folder(tmp_path).records:
        assert (record.lat, record.lon, record.platform) == (None, None, None), record.image_id
    assert capfd.readouterr() == ("", "")


def test_a_vrt_that_calls_itself_tif_is_not_followed(tmp_path: Path) -> None:
    import rasterio

    target = save_geotiff(tmp_path / "secret" / "target.tif")
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "photo.tif").write_text(
        '<VRTDataset rasterXSize="40" rasterYSize="20"><SRS>EPSG:32632</SRS>'
        "<GeoTransform>500000,2,0,5000000,0,-2</GeoTransform>"
        '<VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        f"<SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand>"
        "</SimpleSource></VRTRasterBand></VRTDataset>",
        encoding="utf-8",
    )
    with rasterio.open(folder / "photo.tif") as followed:  # the danger is real
        assert followed.driver == "VRT"
    (record,) = read_folder(folder).records
    assert (record.lat, record.lon, record.platform) == (None, None, None)


def test_platform_by_folder_and_name(tmp_path: Path) -> None:
    expected = {
        "Drone/0001/a.jpg": Platform.DRONE,
        "drone/street/a.jpg": Platform.GROUND,
        "SATELLITE/a.jpg": Platform.SATELLITE,
        "ground/drone_view.jpg": Platform.GROUND,
        "0001/drone_view.jpg": Platform.DRONE,
        "0001/satellite_view.png": Platform.SATELLITE,
        "0001/Street_View.jpg": Platform.GROUND,
        "drones/a.jpg": None,
        "a.jpg": None,
    }
    for name in expected:
        save_image(tmp_path / name)
    records = read_folder(tmp_path).records
    assert {r.image_id: r.platform for r in records} == expected
    assert [r.image_id for r in records] == sorted(expected)
    assert read_folder(tmp_path / "SATELLITE").records[0].platform is Platform.SATELLITE


def test_only_visible_images_are_read(tmp_path: Path) -> None:
    for name in ("a.jpg", "b/c.WEBP", ".hidden/d.jpg", "b/.trash/e.jpg", "b/._c.jpg"):
        save_image(tmp_path / name)
    for name in ("notes.txt", "b/list.csv", "jpg"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
    dataset = read(tmp_path)
    assert (dataset.kind, dataset.source) == ("folder", tmp_path)
    assert [r.image_id for r in dataset.records] == ["a.jpg", "b/c.WEBP"]
    assert all(r.path.is_file() for r in dataset.records)


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    save_image(tmp_path / "root" / "z" / "a.jpg")
    save_image(tmp_path / "other_disk" / "b.jpg")
    root = tmp_path / "root"
    (root / "a_link_to_z").symlink_to(root / "z")
    (root / "z" / "up").symlink_to(root)
    (root / "z" / "self").symlink_to(root / "z" / "self")
    (root / "drone").symlink_to(tmp_path / "other_disk")
    (tmp_path / "other_disk" / "back").symlink_to(root)
    assert [r.image_id for r in read_folder(root).records] == ["drone/b.jpg", "z/a.jpg"]


def test_damaged_images_stay_without_position(tmp_path: Path) -> None:
    whole = save_image(tmp_path / "a.jpg", exif=gps(SYDNEY[0], "S", SYDNEY[1], "E")).read_bytes()
    for cut in range(0, 160, 7):
        (tmp_path / f"cut{cut}.jpg").write_bytes(whole[:cut])
        (tmp_path / f"flip{cut}.jpg").write_bytes(whole[:cut] + b"\xff\xff" + whole[cut + 2 :])
    (tmp_path / "text.png").write_text("no image", encoding="utf-8")
    records = read_folder(tmp_path).records
    assert len(records) == 48
    assert sum(r.lat is not None for r in records) >= 1
    for record in records:
        assert (record.lat is None) == (record.lon is None)
        assert record.lat is None or -90 <= record.lat <= 90


def test_file_names_must_be_unicode(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system allows Unicode names only")
    with pytest.raises(DatasetError) as caught:
        read_folder(tmp_path)
    assert_message(caught.value, "not UTF-8", "caf")
    str(caught.value).encode()


def test_what_cannot_be_recognised(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    for path, words in (
        (tmp_path, "holds no image"),
        (tmp_path / "absent", "no such file or folder"),
        (tmp_path / "notes.txt", "is no dataset"),
        (tmp_path / ("x" * 5000), "no such file or folder"),
    ):
        with pytest.raises(InputError) as caught:
            read(path)
        assert_message(caught.value, words)
    with pytest.raises(InputError, match="no such folder"):
        read_folder(tmp_path / "absent")
    assert recognise(tmp_path) == "folder"


# --- inspection -----------------------------------------------------------------------------------


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


# --- leaving out what is bad ----------------------------------------------------------------------


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


def test_a_folder_without_what_cannot_be_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(tmp_path / "a.jpg")
    save_image(tmp_path / "closed" / "b.jpg")
    listing = Path.iterdir
    closed = {tmp_path / "closed"}

    def iterdir(folder: Path) -> object:
        if folder in closed:  # tests may run as root, whom rights do not stop
            raise PermissionError(13, "Permission denied")
        return listing(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DatasetError) as caught:
        read(tmp_path)
    assert_message(caught.value, "'closed': cannot be listed (Permission denied)")
    dataset = read(tmp_path, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["a.jpg"]
    assert dataset.skipped == caught.value.problems
    closed.add(tmp_path)
    with pytest.raises(InputError, match="cannot be listed"):
        read_folder(tmp_path, skip_bad=True)


# --- what the files hold --------------------------------------------------------------------------


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
