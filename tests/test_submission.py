"""Submissions: what is written passes the check, and the check finds every fault."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.errors import DatasetError, InputError
from saywhere.submission import MAX_BYTES, check_submission, write_submission

IMAGES = [f"image_{number:08x}" for number in range(30)]
QUERIES = [f"q{number}" for number in range(1, 13)]
RANKED = {query: [IMAGES[(i + k) % 30] for k in range(12)] for i, query in enumerate(QUERIES)}


def sound_lines() -> list[str]:
    return [" ".join([query, *RANKED[query][:10]]) for query in QUERIES]


def zip_of(entries: list[tuple[str, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return buffer.getvalue()


def problems_in(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    report = check_submission(path, queries=QUERIES, images=IMAGES)
    assert report.ok == (not report.problems)
    assert all("; " in text and "\n" not in text for text in report.problems), report.problems
    return "\n".join(report.problems)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "submission.txt"
    zipped = write_submission(path, RANKED)
    assert zipped == tmp_path / "new" / "submission.zip"
    assert sorted(p.name for p in path.parent.iterdir()) == ["submission.txt", "submission.zip"]
    assert path.read_bytes() == ("\n".join(sound_lines()) + "\n").encode()
    with zipfile.ZipFile(zipped) as archive:
        assert archive.namelist() == ["submission.txt"]
        assert archive.read("submission.txt") == path.read_bytes()
    for written in (path, zipped):
        report = check_submission(written, queries=QUERIES, images=IMAGES)
        assert (report.ok, report.lines, report.problems, report.notes) == (True, 12, (), ())
        assert report.to_text() == f"{written}: 12 lines, ready to send"
        assert check_submission(written, queries=None, images=None).ok


def test_the_same_answers_give_the_same_bytes(tmp_path: Path) -> None:
    first = write_submission(tmp_path / "a.txt", RANKED)
    before = first.read_bytes()
    os.utime(first, (0, 0))
    assert write_submission(tmp_path / "a.txt", RANKED).read_bytes() == before
    other = write_submission(tmp_path / "run.v2.txt", RANKED)
    assert other.name == "run.v2.zip"
    assert other.read_bytes() == before  # the member is submission.txt whatever the stem


def test_a_small_gallery_shortens_the_lines(tmp_path: Path) -> None:
    ranked = {"q1": IMAGES[:4], "q2": IMAGES[3::-1]}
    zipped = write_submission(tmp_path / "submission.txt", ranked, gallery=4)
    assert check_submission(zipped, queries=["q1", "q2"], images=IMAGES[:4]).ok
    assert not check_submission(zipped, queries=["q1", "q2"], images=IMAGES).ok
    with pytest.raises(DatasetError, match="4 images where 10 are due"):
        write_submission(tmp_path / "submission.txt", ranked)


@pytest.mark.parametrize(
    ("query", "images", "words"),
    [
        ("q1", IMAGES[:9], "9 images where 10"),
        ("q1", [], "0 images where 10"),
        ("q1", [IMAGES[0], *IMAGES[:9]], "twice"),
        ("q1", ["image 1", *IMAGES[:9]], "white space"),
        ("q1", ["image\n1", *IMAGES[:9]], "white space"),
        ("q1", ["", *IMAGES[:9]], "white space"),
        ("q1", ["image_0.jpeg", *IMAGES[:9]], "extension"),
        ("q_00001", IMAGES[:10], "not of the form q1"),
        ("q 1", IMAGES[:10], "not of the form q1"),
        ("", IMAGES[:10], "not of the form q1"),
        ("q01", IMAGES[:10], "not of the form q1"),
    ],
)
def test_answers_that_cannot_be_written(
    tmp_path: Path, query: str, images: list[str], words: str
) -> None:
    path = tmp_path / "submission.txt"
    write_submission(path, RANKED)
    before = path.read_bytes()
    with pytest.raises(DatasetError, match=words):
        write_submission(path, {"q9": IMAGES[:10], query: images})
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["submission.txt", "submission.zip"]


def test_all_answers_are_judged_at_once(tmp_path: Path) -> None:
    bad = {"q1": IMAGES[:9], "x": IMAGES[:10], "q3": [*IMAGES[:9], IMAGES[0]]}
    with pytest.raises(DatasetError) as caught:
        write_submission(tmp_path / "submission.txt", bad)
    assert len(caught.value.problems) == 3


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a \.txt file; name it"):
        write_submission(tmp_path / "submission.csv", RANKED)
    with pytest.raises(InputError, match="no answers"):
        write_submission(tmp_path / "submission.txt", {})
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_submission(tmp_path / "file" / "submission.txt", RANKED)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_submission(tmp_path / "folder.txt", RANKED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.txt"]


def edit(number: int, change: Callable[[str], str]) -> bytes:
    lines = sound_lines()
    lines[number - 1] = change(lines[number - 1])
    return ("\n".join(lines) + "\n").encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no line"),
        (b" \n\n", "holds no line"),
        (b"\xff\xfe", "not UTF-8"),
        ("\n".join(sound_lines()[1:]).encode(), "1 query has no line: q1; add"),
        ("\n".join(sound_lines()[7:]).encode(), "7 queries have no line: q1, q2, q3, q4, q5 and 2"),
        (edit(3, lambda line: line.replace("q3 ", "q99 ")), "line 3: q99 is none of the queries"),
        (edit(3, lambda line: line.replace("q3 ", "q2 ")), "line 3: q2 was answered on line 2"),
        (edit(3, lambda line: line.replace("q3 ", "q_00003 ")), "line 3: id q_00003 is not of the"),
        (edit(4, lambda line: line.rpartition(" ")[0]), "line 4: 9 images where 10"),
        (edit(4, lambda line: line + " " + IMAGES[20]), "line 4: 11 images where 10"),
        (edit(4, lambda line: "q4"), "line 4: 0 images where 10"),
        (edit(5, lambda line: line[:-8] + line.split()[1][-8:]), "line 5: names an image twice"),
        (
            edit(6, lambda line: line[:-8] + "deadbeef"),
            "line 6: not in the gallery: image_deadbeef",
        ),
        (edit(6, lambda line: line + ".jpeg"), "line 6: names with extension"),
        (edit(7, lambda line: line.replace(" ", "\t")), "line 7: has white space other"),
        (edit(7, lambda line: line.replace(" ", "  ")), "line 7: has white space other"),
        (edit(7, lambda line: line + " "), "line 7: has white space other"),
        (edit(7, lambda line: line.replace(" ", ",")), "line 7: 0 images where 10"),
        (edit(8, lambda line: "\n" + line), "line 8: is empty"),
        (b"\xef\xbb\xbf" + edit(1, str), "line 1: begins with a byte order mark"),
        (edit(9, lambda line: line[:-8] + "\x1b[2Jx"), r"\x1b"),
    ],
)
def test_malformed_text(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in problems_in(tmp_path / "submission.txt", content)
    assert words in problems_in(tmp_path / "s.zip", zip_of([("submission.txt", content)]))


def test_all_problems_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    lines = sound_lines()
    lines[1], lines[3], lines[5] = "q2 a", lines[0], ""
    found = problems_in(tmp_path / "submission.txt", "\n".join(lines).encode())
    for words in ("line 2: 1 images", "line 2: not in", "line 4: q1 was", "line 6: is", "q4, q6"):
        assert words in found
    report = check_submission(tmp_path / "submission.txt", queries=QUERIES, images=IMAGES)
    assert report.lines == 11
    assert report.to_text().count("\n") == len(report.problems)


def test_order_and_line_ends_are_notes(tmp_path: Path) -> None:
    path = tmp_path / "submission.txt"
    path.write_bytes("\r\n".join(reversed(sound_lines())).encode())
    report = check_submission(path, queries=QUERIES, images=IMAGES)
    assert report.ok
    assert len(report.notes) == 2
    assert "another order" in report.to_text()
    assert "Windows" in report.to_text()


SOUND = "\n".join(sound_lines()).encode()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cannot be unpacked"),
        (SOUND, "cannot be unpacked"),
        (zip_of([("submission.txt", SOUND)])[:-30], "cannot be unpacked"),
        (zip_of([]), "no submission.txt at its root"),
        (zip_of([("answers.txt", SOUND)]), "no submission.txt at its root"),
        (zip_of([("run/submission.txt", SOUND)]), "no submission.txt at its root"),
        (zip_of([("submission.txt", SOUND), ("run/a.txt", b"")]), "holds more: run/a.txt"),
        (zip_of([("submission.txt", SOUND), ("__MACOSX/._s", b"")]), "holds more"),
        (zip_of([("submission.txt", b"\0" * (MAX_BYTES + 1))]), "over 64 MB"),
        (zip_of([("submission.txt", b"\0" * 2**20)], zipfile.ZIP_BZIP2), "not deflated"),
        (zip_of([("submission.txt", SOUND)], zipfile.ZIP_LZMA), "not deflated"),
    ],
)
def test_malformed_zip(tmp_path: Path, content: bytes, words: str) -> None:
    assert words in problems_in(tmp_path / "submission.zip", content)


def test_a_zip_that_lies_about_its_size_is_not_unpacked(tmp_path: Path) -> None:
    size = (MAX_BYTES + 1).to_bytes(4, "little")
    honest = zip_of([("submission.txt", b"\0" * (MAX_BYTES + 1))])
    assert honest.count(size) == 2
    lying = honest.replace(size, (10).to_bytes(4, "little"))
    assert problems_in(tmp_path / "submission.zip", lying).startswith("cannot be unpacked")


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of([("submission.txt", SOUND)]))
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + offset] |= 1
    assert "cannot be unpacked" in problems_in(tmp_path / "submission.zip", bytes(data))


def test_a_zip_under_another_name_is_unpacked(tmp_path: Path) -> None:
    assert problems_in(tmp_path / "upload.txt", zip_of([("submission.txt", SOUND)])) == ""


def test_files_that_cannot_be_checked(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.txt"):
        with pytest.raises(InputError, match="no such file"):
            check_submission(path, queries=None, images=None)
    huge = tmp_path / "huge.txt"
    with huge.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    report = check_submission(huge, queries=None, images=None)
    assert report.problems[0].startswith("larger than 64 MB")


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("submission")


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=80) | st.text(max_size=80).map(lambda s: s.encode("utf-8")))
def test_any_bytes_get_a_report(shared_folder: Path, content: bytes) -> None:
    assert problems_in(shared_folder / "any.txt", content)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_to_a_zip_gets_a_report(shared_folder: Path, data: st.DataObject) -> None:
    whole = bytearray(zip_of([("submission.txt", SOUND)]))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = shared_folder / "damaged.zip"
    path.write_bytes(bytes(whole))
    report = check_submission(path, queries=QUERIES, images=IMAGES)
    assert report.ok == (not report.problems)
