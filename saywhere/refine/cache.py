"""Answers that were paid for once: SQLite, keyed by model, prompt, caption and parameters.

Raw answers are kept, not verdicts: with stricter guards or another output file they are judged
anew without a call. sqlite-utils keeps them as plain columns that any SQLite tool reads; caches
that pickle run code from the file.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.errors import InputError, MissingExtraError
from saywhere.files import hash_text
from saywhere.refine.answers import Answer

if TYPE_CHECKING:
    from sqlite_utils import Database

_TABLE = "answers"
_WAIT_SECONDS = 30


class AnswerCache:
    """Use ``open_cache``. Its methods raise ``InputError`` where the file fails."""

    def __init__(self, database: Database, path: Path) -> None:
        self._path = path
        self._table = database.table(_TABLE)
        self._table.create(
            {"key": str, "content": str, "finish": str, "refused": int, "tokens_in": int,
             "tokens_out": int, "seconds": float},
            pk="key",
            if_not_exists=True,
        )  # fmt: skip

    def get(self, key: str) -> Answer | None:
        """The answer of a key, None where there's none."""
        try:
            rows = list(self._table.rows_where("key = ?", [key]))
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from None
        if not rows:
            return None
        row = {name: value for name, value in rows[0].items() if name != "key"}
        return Answer(**{**row, "refused": bool(row["refused"])})

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer; each is committed at once."""
        row = asdict(answer)
        row["content"] = answer.content.encode("utf-8", "replace").decode("utf-8")
        try:
            self._table.upsert({"key": key, **row}, pk="key")
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from None


def answer_key(model: str, prompt: str, caption: str, parameters: Mapping[str, float | int]) -> str:
    """What an answer is kept under; ``prompt`` is its hash."""
    return hash_text(json.dumps([model, prompt, caption, dict(sorted(parameters.items()))]))


@contextmanager
def open_cache(path: Path) -> Iterator[AnswerCache]:
    """Open or create a cache file.

    Raises:
        MissingExtraError: sqlite-utils is not installed.
        InputError: the file is no such cache, or cannot be written.
    """
    try:
        import sqlite_utils
    except ImportError:
        raise MissingExtraError("refine", "refine", "sqlite_utils") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=_WAIT_SECONDS)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(path, error) from None
    try:
        database = sqlite_utils.Database(connection)
        database.enable_wal()  # two refinements may share it
        cache = AnswerCache(database, path)
    except sqlite3.Error as error:
        connection.close()
        raise _unusable(path, error) from None
    try:
        yield cache
    finally:
        connection.close()


def _unusable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: is no usable answer cache ({error}); delete it, or choose another --cache"
    )
