"""What became of the files since they were indexed: which vectors stay, which images to embed.

A file whose path, size and time are as recorded is not opened. Else its bytes are hashed, once
however many tiles it has, and its vectors stay where the hash does. Tiles that a raster no longer
has, because it is cut otherwise now, go; so does the whole image that it was before. A file counts
as deleted only where the folder around it can be seen without it: a disk that isn't mounted, or a
link that leads nowhere, deletes nothing. Nor does a file that has become unreadable: its row stays
as it was, and every update tries the file again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from saywhere.data.ground import Placed
from saywhere.data.raster import Known
from saywhere.data.source import is_unicode
from saywhere.data.sources import Sources, name_sources
from saywhere.errors import InputError
from saywhere.files import hash_file
from saywhere.rasters import TIFF_SUFFIXES
from saywhere.store.row import Row
from saywhere.types import Record

# A file this young may change again without its time changing: FAT counts in steps of two seconds,
# and clocks of file servers are a little off.
YOUNG_NS = 3_000_000_000

Stamp = tuple[int | None, int | None]  # size in bytes, mtime in ns; None: cannot vouch for it


@dataclass(frozen=True, slots=True)
class Pending:
    """An image to embed, its file's size, time and real path from before, and its row if any."""

    record: Record
    stamp: Stamp
    path: str
    old: Row | None

    def row(self, content_hash: str) -> Row:
        """The row to record once the bytes of that hash are embedded."""
        return _row(self.record, self.stamp, self.path, content_hash)


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update has to do.

    Attributes:
        kept: by image_id, rows whose vectors stay, as they are to be recorded.
        pending: images to embed, new ones and changed ones.
        added, changed: numbers of images; changed counts other bytes and all else a row tells.
        deleted: ids of images that are gone.
        unreachable: ids in ``kept`` whose files are missing, but not known to be deleted, or whose
            entries may be among those the dataset left out.
        moved: whether a row in ``kept`` differs from what is recorded.
        recut: how many of ``deleted`` went because their file, which is there, is cut otherwise.
    """

    kept: Mapping[str, Row]
    pending: tuple[Pending, ...]
    added: int
    changed: int
    deleted: tuple[str, ...]
    unreachable: tuple[str, ...]
    moved: bool
    recut: int = 0

    @property
    def rewrites(self) -> bool:
        """Whether anything differs from what is recorded."""
        return self.moved or bool(self.pending or self.deleted)

    @property
    def with_coordinates(self) -> int:
        """How many images have a position afterwards."""
        rows = sum(row.lat is not None for row in self.kept.values())
        return rows + sum(pending.record.lat is not None for pending in self.pending)

    def without(self, bad: Collection[str], *, prune: bool) -> Changes:
        """The same where some pending images turned out unreadable.

        Those in the index stay there as they were, or are deleted with ``prune``.
        """
        failed = [pending for pending in self.pending if pending.record.image_id in bad]
        held = {pending.old.image_id: pending.old for pending in failed if pending.old}
        return replace(
            self,
            kept=self.kept if prune else {**self.kept, **held},
            pending=tuple(p for p in self.pending if p.record.image_id not in bad),
            added=self.added - (len(failed) - len(held)),
            changed=self.changed - len(held),
            deleted=(*self.deleted, *held) if prune else self.deleted,
        )


def known_files(rows: Sequence[Row]) -> dict[str, Known]:
    """By path, rasters that are as they were when they were indexed, and how they were cut."""
    by_path: dict[str, list[Row]] = {}
    for row in rows:
        if Path(row.path).suffix.lower() in TIFF_SUFFIXES:
            by_path.setdefault(row.path, []).append(row)
    known = {}
    for path, held in by_path.items():
        stamp = _stamp(Path(path))
        if None in stamp or any((row.size, row.mtime_ns) != stamp for row in held):
            continue
        windows = frozenset(row.window for row in held if row.window is not None)
        row = held[0]
        whole = None if windows else Placed(row.lat, row.lon, row.footprint)
        known[path] = Known(whole, windows)
    return known


def find_changes(
    rows: Sequence[Row],
    records: Sequence[Record],
    root: Path | Sources,
    *,
    prune: bool = False,
    incomplete: bool = False,
) -> Changes:
    """Compares what is recorded with what is on disk.

    Args:
        rows: what the index holds.
        records: what the indexed folder or dataset holds now, each image_id once.
        root: that folder or file, or several.
        prune: takes missing files for deleted even where their folder is empty or gone.
        incomplete: the dataset left entries out: an image that it lacks, but whose file is there,
            may be one of them.

    Raises:
        InputError: an image_id twice.
    """
    sources = name_sources([root]) if isinstance(root, Path) else root
    before = {row.image_id: row for row in rows}
    kept, pending, seen, added, changed = dict[str, Row](), list[Pending](), set[str](), 0, 0
    files = _Files()
    for record in records:
        if record.image_id in seen:
            raise InputError(f"image {record.image_id!r}: listed twice; give each image once")
        seen.add(record.image_id)
        old = before.get(record.image_id)
        row = _vouched(old, record, files) if old else None
        if row is None:
            pending.append(Pending(record, files.stamp(record.path), files.real(record.path), old))
        else:
            kept[record.image_id] = row
        added += old is None
        changed += old is not None and (row is None or _described(row) != _described(old))
    moved = any(row != before[image_id] for image_id, row in kept.items())
    lost = [row for row in rows if row.image_id not in seen]
    recut = _recut(lost, records, files)
    left = [row for row in lost if row.image_id not in recut]
    deleted, cut_off = _missing(left, sources, prune=prune, incomplete=incomplete)
    kept.update({row.image_id: row for row in cut_off})
    unreachable = tuple(row.image_id for row in cut_off)
    gone = (*recut, *deleted)
    return Changes(kept, tuple(pending), added, changed, gone, unreachable, moved, len(recut))


class _Files:
    """What is asked of a file is asked once, not once a tile."""

    def __init__(self) -> None:
        self.stamp = cache(_stamp)
        self.hash = cache(_hash)
        self.real = cache(_real)


def _recut(lost: Sequence[Row], records: Sequence[Record], files: _Files) -> tuple[str, ...]:
    """Ids of rows whose file was read and is cut otherwise now, or no longer, or only now."""
    whole: dict[str, bool] = {}
    for record in records if lost else ():
        whole[files.real(record.path)] = record.window is None
    return tuple(
        row.image_id
        for row in lost
        if row.path in whole and (row.window is not None or not whole[row.path])
    )


def _vouched(old: Row, record: Record, files: _Files) -> Row | None:
    """The row to record with the old vector; None where the image must be embedded again."""
    # The platform chooses the expert, the window the pixels.
    if (record.platform, record.window) != (old.platform, old.window):
        return None
    stamp = files.stamp(record.path)
    row = _row(record, stamp, files.real(record.path), old.content_hash)
    same_file = None not in stamp and (old.size, old.mtime_ns) == stamp and old.path == row.path
    return row if same_file or files.hash(record.path) == old.content_hash else None


def is_unchanged(path: str, stamp: Stamp, content_hash: str, *, content: bool) -> bool:
    """Whether a file is as it was indexed.

    Args:
        path, stamp, content_hash: as its row has them; the stamp is size and time.
        content: hash the bytes even where size and time are as recorded.

    Raises:
        OSError: a file that is missing or cannot be read.
    """
    status = Path(path).stat()
    if not content and stamp == (status.st_size, status.st_mtime_ns):
        return True
    return hash_file(Path(path)) == content_hash


def _row(record: Record, stamp: Stamp, path: str, content_hash: str) -> Row:
    return Row(
        image_id=record.image_id,
        path=path,
        content_hash=content_hash,
        platform=record.platform,
        place_id=record.place_id,
        lat=record.lat,
        lon=record.lon,
        size=stamp[0],
        mtime_ns=stamp[1],
        window=record.window,
        footprint=record.footprint,
        taken=record.taken,
    )


def _real(path: Path) -> str:
    """Where links lead, unless to a name that no store can hold."""
    real = os.path.realpath(path)
    return real if is_unicode(real) else str(path.absolute())


def _described(row: Row) -> tuple[object, ...]:
    return row.path, row.place_id, row.lat, row.lon, row.footprint, row.taken


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError:  # whoever embeds it will say why
        return None, None
    young = status.st_mtime_ns > time.time_ns() - YOUNG_NS
    return (None, None) if young else (status.st_size, status.st_mtime_ns)


def _hash(path: Path) -> str | None:
    try:
        return hash_file(path)
    except OSError:
        return None


def _missing(
    rows: Sequence[Row], root: Sources, *, prune: bool, incomplete: bool
) -> tuple[tuple[str, ...], list[Row]]:
    """Ids of the images that are deleted, and the rows of those that may be out of reach only."""
    hollow = cache(_is_hollow)  # whole folders go missing, and every row would climb the same way
    deleted, cut_off = [], []
    for row in rows:
        # Both as the file was found and where links led then: either may be cut off.
        places = Path(row.path).parent, root.place(row.image_id).parent
        known = _is_known(row)
        left_out = incomplete and known and Path(row.path).exists()
        gone = known and (prune or not (left_out or any(hollow(place) for place in places)))
        deleted.append(row.image_id) if gone else cut_off.append(row)
    return tuple(deleted), cut_off


def _is_known(row: Row) -> bool:
    """Whether the system can say if the file is there; one that is was left out by its dataset."""
    try:
        Path(row.path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return True


def _is_hollow(folder: Path) -> bool:
    """Whether ``folder`` can't be listed, or what is left of it may be an unused mount point."""
    for place in (folder, *folder.parents):
        try:
            if place.is_symlink() and not place.exists():
                return True
            if place.exists():
                return place.is_dir() and all(p.name.startswith(".") for p in place.iterdir())
        except OSError:
            return True
    return True
