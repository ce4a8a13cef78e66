"""The caches on disk: features and exported towers; what they hold, and how they are freed.

Everything in them can be made again, at the price of time; see ``features`` and ``towers.cache``.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saywhere.errors import InputError, TowerError
from saywhere.towers.cache import cache_folder
from saywhere.towers.onnxfile import read_onnx

Kind = Literal["features", "tower", "leftover"]
_SIDECARS = ("-wal", "-shm")  # SQLite's log and its index, part of the cache they stand beside
_LEFTOVER_AGE = 24 * 3600.0  # seconds after which an unfinished file was left by a killed process


@dataclass(frozen=True, slots=True)
class CacheFile:
    """One cache.

    Attributes:
        kind: ``leftover`` is an unfinished file of a process that was killed.
        tower: name of the tower that made it; None where the tower is not cached, or unreadable.
        bytes: on disk, SQLite's log included.
        rows: feature vectors in it; None for other kinds, and where it cannot be read.
        used: when it was last read or written, as far as the disk records reading; seconds since
            1970.
        problem: why it cannot be used; empty where it can.
    """

    kind: Kind
    path: Path
    tower: str | None
    bytes: int
    rows: int | None
    used: float
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Cleared:
    """What was deleted, and what was left because a process is using it."""

    deleted: tuple[CacheFile, ...]
    busy: tuple[CacheFile, ...]

    @property
    def bytes(self) -> int:
        """Size of what was deleted."""
        return sum(file.bytes for file in self.deleted)


def list_caches() -> list[CacheFile]:
    """Every cache, towers first; leaves the caches as they are."""
    folder = cache_folder().absolute()
    towers = [_tower(path) for path in sorted((folder / "towers").glob("*.onnx"))]
    names = {fingerprint: file.tower for file, fingerprint in towers if fingerprint}
    features = [
        _features(path, names.get(path.stem))
        for path in sorted((folder / "features").glob("*.sqlite"))
    ]
    return [*(file for file, _ in towers), *features, *_leftovers(folder)]


def clear_caches(kinds: Sequence[Kind], older_than_days: float = 0) -> Cleared:
    """Delete caches that were not used for some days; what is in use stays.

    Raises:
        InputError: a file that cannot be deleted.
    """
    limit = time.time() - older_than_days * 24 * 3600
    deleted, busy = [], []
    for file in list_caches():
        if file.kind not in kinds or file.used > limit:
            continue
        if file.kind == "features" and _in_use(file.path):
            busy.append(file)
            continue
        try:
            for path in _with_sidecars(file.path):
                path.unlink(missing_ok=True)
        except OSError as error:
            raise InputError(
                f"{file.path}: cannot be deleted ({error.strerror}); check its folder's rights"
            ) from None
        deleted.append(file)
    return Cleared(tuple(deleted), tuple(busy))


def _tower(path: Path) -> tuple[CacheFile, str | None]:
    """The file and its fingerprint."""
    size, used = _size_and_time(path)
    try:
        with _unread(path):
            metadata = read_onnx(path).metadata
    except (OSError, TowerError) as error:
        return CacheFile("tower", path, None, size, None, used, str(error)), None
    return CacheFile("tower", path, metadata.get("name"), size, None, used), metadata.get(
        "fingerprint"
    )


def _features(path: Path, tower: str | None) -> CacheFile:
    size, used = _size_and_time(path)
    rows, problem = None, ""
    try:
        # Writable but never made: a read-only connection would leave its log and index behind.
        address = f"{path.as_uri()}?mode=rw"
        with _unread(path), closing(sqlite3.connect(address, uri=True, timeout=5)) as connection:
            (rows,) = connection.execute("SELECT count(*) FROM features").fetchone()
    except (OSError, sqlite3.Error) as error:
        if "locked" not in str(error):  # else another process is at work in it, and it is whole
            problem = f"{path}: the feature cache cannot be read ({error}); delete the file"
    return CacheFile("features", path, tower, size, rows, used, problem)


def _leftovers(folder: Path) -> Iterator[CacheFile]:
    for path in sorted(folder.glob("*/.saywhere.*.part")):
        size, used = _size_and_time(path)
        if time.time() - used > _LEFTOVER_AGE:
            yield CacheFile("leftover", path, None, size, None, used)


def _size_and_time(path: Path) -> tuple[int, float]:
    """Bytes on disk, and the last use; zeros where it vanished meanwhile."""
    size, used = 0, 0.0
    for part in _with_sidecars(path):
        with suppress(OSError):
            status = part.stat()
            size += status.st_size
            used = max(used, status.st_mtime, status.st_atime)
    return size, used


@contextmanager
def _unread(path: Path) -> Iterator[None]:
    """Looking at a cache is not using it: its access time is put back."""
    before = path.stat()
    try:
        yield
    finally:
        with suppress(OSError):  # not ours, or gone
            if path.stat().st_mtime_ns == before.st_mtime_ns:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _with_sidecars(path: Path) -> list[Path]:
    # The log goes first: an old log must never be found beside a new database.
    return [*(path.with_name(path.name + suffix) for suffix in _SIDECARS), path]


def _in_use(path: Path) -> bool:
    """Whether another process has the feature cache open; leaves it without a log if not."""
    try:
        with closing(sqlite3.connect(path, timeout=0)) as connection:
            # Leaving write-ahead logging needs the file to itself.
            connection.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.OperationalError as error:
        return "locked" in str(error)
    except sqlite3.Error:  # no database at all: nobody can be using it
        return False
    return False
