"""Checks that an index is whole, and whether it still describes the files it was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from saywhere.errors import IndexMismatchError, InputError
from saywhere.store import StoreInfo, check_vectors, index_folder
from saywhere.store.changes import is_unchanged
from saywhere.store.generations import read_manifest
from saywhere.store.lance import LanceStore
from saywhere.store.row import Row

_NAMED = 5  # examples a problem names


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found.

    Attributes:
        info: what the index says about itself; None where it cannot be opened.
        problems: what makes the index unfit for searching, one line each, with the remedy.
        missing, changed: image ids whose files are gone or unreadable, or hold other bytes than
            those indexed. Not the index's fault: an update brings it up to date.
    """

    info: StoreInfo | None
    problems: tuple[str, ...]
    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def verify_store(uri: str, *, content: bool = False) -> Verification:
    """Checks manifest, schema, rows, vectors and files of an index; changes nothing.

    Args:
        uri: a path, or ``lance://path``.
        content: hash every file, not only those whose size or time changed.

    Raises:
        InputError: ``uri`` names no folder, or an unknown scheme.
    """
    folder = index_folder(uri)
    while True:
        current = _generation(folder)
        found = _look(folder, content)
        # A rebuild that swept the table away in the middle of it is no damage.
        if not found.problems or _generation(folder) == current:
            return found


def _look(folder: str, content: bool) -> Verification:
    try:
        store = LanceStore(folder)
        info, rows = store.info(), store.rows()
        problems = (*_duplicates(rows), *_bad_vectors(store, info))
    except (InputError, IndexMismatchError) as error:
        return Verification(None, (str(error),))
    missing, changed = _files(rows, content)
    return Verification(info, problems, missing, changed)


def _generation(folder: str) -> str:
    try:
        return read_manifest(Path(folder).absolute()).generation
    except (InputError, IndexMismatchError):
        return ""


def _duplicates(rows: Sequence[Row]) -> list[str]:
    counts = Counter(row.image_id for row in rows)
    return _problem("images are held twice", [name for name, count in counts.items() if count > 1])


def _bad_vectors(store: LanceStore, info: StoreInfo) -> list[str]:
    bad, count = list[str](), 0
    for ids, vectors in store.vectors():
        count += len(ids)
        for image_id, vector in zip(ids, vectors, strict=True):
            try:
                check_vectors(vector[None], info.dimension, image_id)
            except InputError:
                bad.append(image_id)
    problems = _problem("images have a vector that is not finite", bad)
    if count != info.count:
        problems.append(f"{info.count} images but {count} vectors; rebuild with --rebuild")
    return problems


def _problem(what: str, names: Iterable[str]) -> list[str]:
    found = sorted(names)
    if not found:
        return []
    shown = ", ".join(map(repr, found[:_NAMED]))
    more = ", …" if len(found) > _NAMED else ""
    return [f"{len(found)} {what} ({shown}{more}); rebuild with `saywhere index DIR --rebuild`"]


def _files(rows: Sequence[Row], content: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    missing, changed = [], []
    unchanged = cache(partial(is_unchanged, content=content))
    for row in rows:
        try:
            # Tiles of one file share these, and a file is hashed once.
            if not unchanged(row.path, (row.size, row.mtime_ns), row.content_hash):
                changed.append(row.image_id)
        except OSError:
            missing.append(row.image_id)
    return tuple(sorted(missing)), tuple(sorted(changed))
