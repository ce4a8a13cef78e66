"""Atomic writes and content hashes."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from saywhere.errors import InputError
from saywhere.files import atomic_path, hash_bytes, hash_file, hash_text, write_bytes, write_text


def test_hashes_are_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9000  # more than two blocks
    (tmp_path / "a").write_bytes(content)
    assert hash_file(tmp_path / "a") == hash_bytes(content) == hashlib.sha256(content).hexdigest()
    assert hash_text("für") == hashlib.sha256("für".encode()).hexdigest()
    with pytest.raises(FileNotFoundError):
        hash_file(tmp_path / "b")


def test_writing_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "Straße\n")
    assert path.read_bytes() == "Straße\n".encode()
    write_bytes(path, b"2")
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failing_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)  # as long as a name may be
    write_text(path, "old")
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_a_reader_of_the_old_file_never_sees_half_of_the_new(tmp_path: Path) -> None:
    """A file that is written in place changes under whoever reads it, and a kill leaves half."""
    path = tmp_path / "a"
    write_text(path, "old")
    with path.open() as reader:
        write_text(path, "new and longer")
        assert reader.read() == "old"
    assert path.read_text() == "new and longer"


def test_places_that_cannot_be_written_are_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(InputError) as error:
            write_text(path, "x")
        assert str(error.value).startswith(f"{path}: cannot be written (")
        assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
