"""The feature cache: one SQLite file a tower, vectors by key.

It survives ``kill -9`` (rows are committed in batches), is shared by every run with the same tower,
and everything in it can be computed again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from saywhere.errors import SaywhereError
from saywhere.towers import cache_folder
from saywhere.types import FloatArray

_WAIT_S = 60.0  # for others who write into the cache


class NoSpaceError(SaywhereError):
    """The cache cannot be written."""


class FeatureCache:
    """Feature vectors of one dimension by key, as float32 bytes."""

    def __init__(self, connection: sqlite3.Connection, dimension: int) -> None:
        self._connection = connection
        self._dimension = dimension
        _turn_log_on(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that have a vector."""
        return {key for part in _chunks(keys) for key, _ in self._select("length(vector)", part)}

    def load(self, keys: Sequence[str]) -> FloatArray:
        """(n, dimension) float32 of ``keys``, all of which are known; repeats are fine."""
        found = {key: blob for part in _chunks(keys) for key, blob in self._select("vector", part)}
        out = np.empty((len(keys), self._dimension), np.float32)
        for row, key in enumerate(keys):
            out[row] = np.frombuffer(found[key], np.float32)
        return out

    def store(self, keys: Sequence[str], vectors: FloatArray) -> None:
        """Keep (n, dimension) float32 ``vectors`` under ``keys``, all or none."""
        rows = [
            (key, np.ascontiguousarray(v, np.float32).tobytes())
            for key, v in zip(keys, vectors, strict=True)
        ]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)

    def _select(self, column: str, keys: Sequence[str]) -> sqlite3.Cursor:
        marks = ",".join("?" * len(keys))
        return self._connection.execute(
            f"SELECT key, {column} FROM features "  # noqa: S608 - marks and our own column names
            f"WHERE key IN ({marks}) AND length(vector) = ?",
            [*keys, 4 * self._dimension],
        )


def _turn_log_on(connection: sqlite3.Connection) -> None:
    """Tried again by ourselves: where another does the same, SQLite fails without waiting."""
    deadline = time.monotonic() + _WAIT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), 500):
        yield keys[start : start + 500]


@contextmanager
def open_cache(fingerprint: str, dimension: int) -> Iterator[FeatureCache]:
    """The cache of the tower with this fingerprint; several processes may have it open.

    Raises:
        NoSpaceError: no room to write.
        SaywhereError: it cannot be opened, or failed.
    """
    path = cache_folder() / "features" / f"{fingerprint}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_WAIT_S)
    except (OSError, sqlite3.Error) as error:
        raise SaywhereError(
            f"{path}: the feature cache cannot be opened ({error}); set SAYWHERE_CACHE to a "
            "folder that can be written to"
        ) from None
    try:
        yield FeatureCache(connection, dimension)
    except sqlite3.Error as error:
        # Extended codes keep the basic one in their low byte. Databases need no space to be read,
        # but their side files do: where these cannot be made it is an input/output error.
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            raise NoSpaceError(
                f"{path}: the feature cache cannot be written ({error}); free disk space and run "
                "again, what is in it is kept; or set SAYWHERE_CACHE to a folder on another disk"
            ) from None
        raise SaywhereError(
            f"{path}: the feature cache failed ({error}); free disk space, or delete the file"
        ) from None
    finally:
        connection.close()
