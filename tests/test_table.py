"""Tables: every column, encodings, every fault by line, hostile files."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from saywhere.data import read, recognise
from saywhere.data.inspect import inspect
from saywhere.data.table import read_table
from saywhere.errors import DatasetError, InputError
from saywhere.types import Caption, Platform, Record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "sub/b c.png", "images/d.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


def table(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def assert_remedy(error: InputError) -> None:
    for problem in error.problems if isinstance(error, DatasetError) else (str(error),):
        assert "\n" not in problem
        assert "; " in problem, problem


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(DatasetError) as caught:
        read_table(path)
    assert_remedy(caught.value)
    assert all(problem.startswith("line ") for problem in caught.value.problems)
    return caught.value.problems


def test_every_column(folder: Path) -> None:
    path = table(
        folder,
        "image,caption,platform,place_id,lat,lon,camera\n"
        'a.jpg,"a ""red"" hall, by day",Drone,0007,-33.5,+151,X1\n'
        "sub/b c.png,,satellite,,,,\n"
        "\n"
        "d.jpg,\"two\nlines\",,7,0,1.5e1,\n"
        "a.jpg,a tall hall,,,,,\n"
        "./a.jpg, a tall hall ,drone,0007,-33.50,151,\n",
    )  # fmt: skip
    dataset = read(path)
    assert (dataset.kind, recognise(path), dataset.skipped) == ("table", "table", ())
    assert dataset.records == (
        Record("a.jpg", folder / "a.jpg", Platform.DRONE, "0007", -33.5, 151.0),
        Record("sub/b c.png", folder / "sub/b c.png", Platform.SATELLITE),
        Record("d.jpg", folder / "images/d.jpg", None, "7", 0.0, 15.0),
    )
    assert dataset.captions == tuple(
        Caption(image, text, text)
        for image, text in (
            ("a.jpg", 'a "red" hall, by day'),
            ("d.jpg", "two\nlines"),
            ("a.jpg", "a tall hall"),
        )
    )


def test_only_images(folder: Path) -> None:
    dataset = read(table(folder, "image\na.jpg\nimages/d.jpg"))
    assert [record.image_id for record in dataset.records] == ["a.jpg", "images/d.jpg"]
    assert dataset.captions == ()


@pytest.mark.parametrize("name", ["t.tsv", "T.TAB"])
def test_tabs_marks_windows_ends_and_upper_case_headers(folder: Path, name: str) -> None:
    path = table(folder, "\ufeffLat\t Image \tLON\r\n1,5\ta.jpg\t2\r\n", name)
    assert "'lat' '1,5' is no number" in problems(path)[0]
    path = table(folder, "\ufeffLat\t Image \tLON\r\n1.5\ta.jpg\t2\r\n", name)
    assert read(path).records == (Record("a.jpg", folder / "a.jpg", lat=1.5, lon=2.0),)


def test_formulas_are_only_text(folder: Path) -> None:
    text = "=HYPERLINK(A1)"
    dataset = read(table(folder, f"image,caption,place_id\na.jpg,{text},@x\n"))
    assert (dataset.captions[0].text, dataset.records[0].place_id) == (text, "@x")


ROWS = [
    (",x,,,,", "'image' is empty"),
    ("/etc/passwd,,,,,", "absolute path"),
    ("C:/a.jpg,,,,,", "absolute path"),
    ("../a.jpg,,,,,", "leaves the images folder"),
    ("sub\\b c.png,,,,,", "backslashes"),
    (".,,,,,", "names no file"),
    ("gone.jpg,,,,,", "is not in"),
    ("sub,,,,,", "is not in"),
    ("nul\0.jpg,,,,,", "is not in"),
    ("a.jpg,caf\udce9,,,,", "is not UTF-8"),
    ("caf\udce9.jpg,,,,,", "is not UTF-8"),
    ("a.jpg,,boat,,,", "none of satellite, drone, ground"),
    ("a.jpg,,,,1,", "only one of 'lat' and 'lon'"),
    ("a.jpg,,,,,1", "only one of 'lat' and 'lon'"),
    ("a.jpg,,,,nan,1", "is no number"),
    ("a.jpg,,,,1,inf", "is no number"),
    ("a.jpg,,,,1_0,1", "is no number"),
    ("a.jpg,,,,٣,1", "is no number"),
    ("a.jpg,,,,33°,1", "is no number"),
    ("a.jpg,,,,=1+1,1", "is no number"),
    ('a.jpg,,,,"1,5",1', "is no number"),
    ("a.jpg,,,,90.01,1", "outside -90 … 90"),
    ("a.jpg,,,,1,-180.5", "outside -180 … 180"),
    ("a.jpg,,,,1e999,1", "outside -90 … 90"),
    ("a.jpg", "1 fields where the header has 6"),
    ("a.jpg,a hall, by day,,,,", "7 fields where the header has 6"),
    (f"a.jpg,{'x' * 20_001},,,,", "20,001 characters"),
    ('a.jpg,"a "red" hall",,,,', "twice"),
    ("d.jpg,,ground,,,", "has platform ground here and drone on line 2"),
    ("d.jpg,,,,1,3", "has lon 3.0 here and 2.0 on line 2"),
]
HEADER = "image,caption,platform,place_id,lat,lon\n"


@pytest.mark.parametrize(("row", "words"), ROWS)
def test_malformed_rows(folder: Path, row: str, words: str) -> None:
    path = table(folder, f"{HEADER}d.jpg,x,drone,1,1,2\n{row}\nd.jpg,fine,,,,\n")
    (problem,) = problems(path)
    assert problem.startswith("line 3: ")
    assert words in problem
    dataset = read(path, skip_bad=True)
    assert [record.image_id for record in dataset.records] == ["d.jpg"]
    assert [caption.text for caption in dataset.captions] == ["x", "fine"]
    assert dataset.skipped == (problem,)


def test_all_problems_are_reported_at_once(folder: Path) -> None:
    rows = [row for row, _ in ROWS]
    text = f"{HEADER}d.jpg,x,drone,1,1,2\n" + "\n".join(rows)
    lines = {int(problem.split(":")[0][5:]) for problem in problems(table(folder, text))}
    assert lines == set(range(3, 3 + len(rows)))
    several = problems(table(folder, f"{HEADER}../a.jpg,,boat,,x,400\n"))
    assert len(several) == 4


def test_lines_are_counted_through_quoted_line_ends(folder: Path) -> None:
    path = table(folder, 'image,caption\n\na.jpg,"one\ntwo\nthree"\na.jpg,"x\ny"\n,z\n')
    assert [problem.split(":")[0] for problem in problems(path)] == ["line 8"]


def test_a_quote_that_is_never_closed_loses_nothing_in_silence(folder: Path) -> None:
    path = table(folder, 'image,caption\na.jpg,x\na.jpg,"open\nd.jpg,y\n')
    (problem,) = problems(path)
    assert problem.startswith("line 3: ")
    assert "the rest of the file was not read" in problem
    huge = table(folder, 'image,caption\na.jpg,x\na.jpg,"open\n' + "d.jpg,y\n" * 20_000)
    assert "field larger than field limit" in problems(huge)[0]
    assert len(read(huge, skip_bad=True).records) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no column 'image'; add it"),
        ("\n\n", "has no column 'image'"),
        ("a.jpg,a hall\n", "has no column 'image'"),
        ("image;caption\na.jpg;x\n", "',' divides columns"),
        ("filename,caption\na.jpg,x\n", "rename 'filename' to it"),
        ("image,latitude,lon\na.jpg,1,2\n", "rename it to 'lat'"),
        ("image,text\na.jpg,x\n", "rename it to 'caption'"),
        ("image,Image\na.jpg,a.jpg\n", "'image' stands twice"),
        ("image,caption\n\n", "holds no row"),
        ('"image"x,caption\n', "twice"),
        ("x" * (1 << 21), "line 1 is longer"),
    ],
)
def test_unusable_files(folder: Path, text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read(table(folder, text))
    assert words in str(caught.value)
    assert "; " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_files(folder: Path) -> None:
    (folder / "u.csv").write_text("image\na.jpg\n", encoding="utf-16")
    for name, words in (
        ("u.csv", "is UTF-16; save"),
        ("absent.csv", "no such file or folder"),
        ("a.jpg", "is no dataset; name"),
    ):
        with pytest.raises(InputError, match=words):
            read(folder / name)
    with pytest.raises(InputError, match=r"no table by its suffix; name it \.csv"):
        read_table(folder / "a.txt")
    folder_csv = folder / "folder.csv"
    folder_csv.mkdir()
    with pytest.raises(InputError, match="is a folder; give"):
        read_table(folder_csv)


def test_nothing_left_is_an_error(folder: Path) -> None:
    path = table(folder, "image\ngone.jpg\n/x.jpg\n")
    with pytest.raises(DatasetError) as caught:
        read(path, skip_bad=True)
    assert len(caught.value.problems) == 2


def test_inspection(folder: Path) -> None:
    path = table(folder, f"{HEADER}a.jpg,x y,drone,1,1,2\ngone.jpg,z,ground,1,,\n")
    found = inspect(path)
    assert (found.kind, found.records, found.missing_files) == ("table", 2, ("gone.jpg",))
    assert (found.places, found.with_coordinates, found.captions) == (1, 1, 2)
    left = inspect(path, skip_bad=True)
    assert (left.records, left.captions, len(left.skipped)) == (1, 1, 1)


CELLS = st.sampled_from(
    [
        "a.jpg",
        "d.jpg",
        "",
        " ",
        "drone",
        "1",
        "-91",
        "nan",
        "../a",
        '"',
        "x\ny",
        "é",
        "\0",
        ",",
        "\t",
    ]
)


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.lists(CELLS, min_size=5, max_size=7), max_size=6),
    quoted=st.booleans(),
    skip=st.booleans(),
)
def test_any_rows_are_a_dataset_or_our_error(
    shared: Path, rows: list[list[str]], quoted: bool, skip: bool
) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    for row in rows:
        if quoted:
            writer.writerow(row)
        else:
            text.write(",".join(row) + "\n")
    path = table(shared, HEADER + text.getvalue())
    try:
        dataset = read(path, skip_bad=skip)
    except InputError as error:
        assert_remedy(error)
    else:
        assert {record.image_id for record in dataset.records} <= {"a.jpg", "d.jpg"}
        assert dataset.records
        assert skip or not dataset.skipped
        assert all((r.lat is None) == (r.lon is None) for r in dataset.records)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("any")
    for name in ("a.jpg", "d.jpg"):
        (root / name).write_bytes(b"")
    return root
