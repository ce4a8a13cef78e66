"""Atomic writes and content hashes."""

from __future__ import annotations

import errno
import hashlib
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saywhere.errors import InputError
from saywhere.files import (
    atomic_path,
    exchange,
    hash_arrays,
    hash_bytes,
    hash_file,
    hash_text,
    temporary_folder,
    write_bytes,
    write_text,
)


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


def test_places_that_cannot_be_written_are_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "folder", tmp_path / ("n" * 300)):
        with pytest.raises(InputError) as error:
            write_text(path, "x")
        assert str(error.value).startswith(f"{path}: cannot be written (")
        assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith(".saywhere."))


DIE = """
import os, signal, sys
from pathlib import Path
from saywhere import files
if sys.argv[2] == "file":
    with files.atomic_path(Path(sys.argv[1]) / "a") as temporary:
        temporary.write_text("half")
        print("made", flush=True)
        sys.stdin.readline()
else:
    with files.temporary_folder(Path(sys.argv[1])) as temporary:
        (temporary / "b").write_text("half")
        print("made", flush=True)
        sys.stdin.readline()
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_kill_left_is_swept_and_what_lives_is_not(tmp_path: Path, kind: str) -> None:
    keep = tmp_path / ".saywhere.mine"
    keep.write_text("not ours: no such ending")
    with subprocess.Popen(
        [sys.executable, "-c", DIE, str(tmp_path), kind], stdout=-1, stdin=-1, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        write_text(tmp_path / "c", "1")
        assert len(leftovers(tmp_path)) == 2, "a living process lost its temporary"
        process.kill()
    assert len(leftovers(tmp_path)) == 2
    write_text(tmp_path / "c", "2")
    assert leftovers(tmp_path) == [".saywhere.mine"]
    assert not (tmp_path / "a").exists()


def test_many_writers_into_one_folder_lose_nothing(tmp_path: Path) -> None:
    """Every write sweeps while others claim: none may take a living one's file."""

    def write(number: int) -> None:
        for turn in range(40):
            write_text(tmp_path / f"{number}", f"{turn}")
            with temporary_folder(tmp_path) as folder:
                (folder / "x").write_text("1")
                folder.replace(tmp_path / f"{number}-{turn}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert all((tmp_path / f"{number}").read_text() == "39" for number in range(8))
    assert len(list(tmp_path.glob("*-*/x"))) == 8 * 40
    assert leftovers(tmp_path) == []


def _fill(path: Path, number: int) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise OSError(number, "full")


def test_a_full_disk_is_our_error_whoever_writes(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_text(path, "old")
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with pytest.raises(InputError, match=r"cannot be written .*free space"):
            _fill(path, number)
    with pytest.raises(FileNotFoundError), atomic_path(path):
        (tmp_path / "missing").read_text()
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_exchange_swaps_in_one_step_or_does_nothing(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_text(tmp_path / name / "file", name)
    assert not exchange(tmp_path / "a", tmp_path / "missing")
    swapped = exchange(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a/file").read_text() == ("b" if swapped else "a")
    assert (tmp_path / "b/file").read_text() == ("a" if swapped else "b")


def test_arrays_are_told_apart_by_name_type_shape_and_content() -> None:
    base = np.arange(6, dtype=np.int64)
    cases: list[dict[str, NDArray[Any]]] = [
        {"a": base},
        {"b": base},
        {"a": base.reshape(2, 3)},
        {"a": base.astype(np.int32)},
        {"a": base[::-1]},
        {"a": base, "b": np.empty(0)},
        {"a": np.asarray(0)},
    ]
    assert len({hash_arrays(case) for case in cases}) == len(cases)
    assert hash_arrays({"b": base, "a": base[:2]}) == hash_arrays({"a": base[:2], "b": base})
    assert hash_arrays({"a": base.reshape(2, 3).T}) == hash_arrays(
        {"a": base.reshape(2, 3).T.copy()}
    )
