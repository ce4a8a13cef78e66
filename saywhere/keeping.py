"""Keep an index in order: rewrite it without waste, check it against its files and experts."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from saywhere.bundle import load_experts
from saywhere.errors import SaywhereError
from saywhere.store import index_folder, open_store, open_writer, require_experts
from saywhere.store.verify import Verification, verify_store


@dataclass(frozen=True, slots=True)
class Compaction:
    """What a compaction did: images in the index, and its bytes on disk before and after."""

    count: int
    bytes_before: int
    bytes_after: int


def compact_index(uri: str) -> Compaction:
    """Rewrites an index without what it no longer needs.

    A copy takes its place in one step, so that readers go on; an index of an earlier schema is
    written in the present one.

    Raises:
        InputError: no index at ``uri``, another process at work on it, or storage that cannot be
            read or written; the index stays as it was.
        IndexMismatchError: an index of a later schema.
    """
    size = index_bytes(uri)
    info = open_store(uri).info()  # asked first: taking a folder for writing would make it
    with open_writer(uri) as writer:
        made = writer.info() or info
        count = writer.write(made, {row.image_id: row for row in writer.rows()}).count
    return Compaction(count, size, index_bytes(uri))


def verify_index(uri: str, *, experts: Path | None = None, content: bool = False) -> Verification:
    """Checks an index, the files it was made of, and that its experts are at hand.

    Args:
        experts: where the index's experts are now, if moved.
        content: hash every file, not only those whose size or time changed.

    Raises:
        InputError: ``uri`` names no folder, or an unknown scheme.
    """
    found = verify_store(uri, content=content)
    if found.info is None:
        return found
    try:
        require_experts(found.info, load_experts(experts or Path(found.info.experts)).hash)
    except SaywhereError as error:
        return replace(found, problems=(*found.problems, str(error)))
    return found


def index_bytes(uri: str) -> int:
    """Size on disk of the index at ``uri``, with what updates left."""
    size = 0
    for path in Path(index_folder(uri)).rglob("*"):
        with suppress(FileNotFoundError):  # another build sweeps
            size += path.stat().st_size if path.is_file() else 0
    return size
