"""What became of the files since they were indexed: which vectors stay, which images to embed.

A file whose path, size and time are as recorded is not opened. Else its bytes are hashed, and its
vector stays where the hash does. A file counts as deleted only where the folder around it can be
seen without it: a disk that isn't mounted, or a link that leads nowhere, deletes nothing. Nor does
a file that has become unreadable: its row stays as it was, and every update tries the file again.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from saywhere.data.source import is_unicode
from saywhere.errors import InputError
from saywhere.files import hash_file
from saywhere.store import Row
from saywhere.types import Record

# A file this young may change again without its time changing: FAT counts in steps of two seconds,
# and clocks of file servers are a little off.
YOUNG_NS = 3_000_000_000

_Stamp = tuple[int | None, int | None]  # size in bytes, mtime in ns; None: cannot vouch for it


@dataclass(frozen=True, slots=True)
class Pending:
    """An image to embed, its file's size and time from before it is read, and its row if any."""

    record: Record
    stamp: _Stamp
    old: Row | None

    def row(self, content_hash: str) -> Row:
        """The row to record once the bytes of that hash are embedded."""
        return _row(self.record, self.stamp, content_hash)


@dataclass(frozen=True, slots=True)
class Changes:
    """What an update has to do.

    Attributes:
        kept: by image_id, rows whose vectors stay, as they are to be recorded.
        pending: images to embed, new ones and changed ones.
        added, changed: numbers of images; changed counts other bytes, platform, position or place.
        deleted: ids of images that are gone.
        unreachable: ids in ``kept`` whose files are missing, but not known to be deleted, or whose
            entries may be among those the dataset left out.
        moved: whether a row in ``kept`` differs from what is recorded.
    """

    kept: Mapping[str, Row]
    pending: tuple[Pending, ...]
    added: int
    changed: int
    deleted: tuple[str, ...]
    unreachable: tuple[str, ...]
    moved: bool

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


def find_changes(
    rows: Sequence[Row],
    records: Sequence[Record],
    root: Path,
    *,
    prune: bool = False,
    incomplete: bool = False,
) -> Changes:
    """Compares what is recorded with what is on disk.

    Args:
        rows: what the index holds.
        records: what the indexed folder or dataset holds now, each image_id once.
        root: that folder or file.
        prune: takes missing files for deleted even where their folder is empty or gone.
        incomplete: the dataset left entries out: an image that it lacks, but whose file is there,
            may be one of them.

    Raises:
        InputError: an image_id twice.
    """
    before = {row.image_id: row for row in rows}
    kept, pending, seen, added, changed = dict[str, Row](), list[Pending](), set[str](), 0, 0
    for record in records:
        if record.image_id in seen:
            raise InputError(f"image {record.image_id!r}: listed twice; give each image once")
        seen.add(record.image_id)
        old, stamp = before.get(record.image_id), _stamp(record.path)
        row = _vouched(old, record, stamp) if old else None
        if row is None:
            pending.append(Pending(record, stamp, old))
        else:
            kept[record.image_id] = row
        added += old is None
        changed += old is not None and (row is None or _described(row) != _described(old))
    moved = any(row != before[image_id] for image_id, row in kept.items())
    lost = [row for row in rows if row.image_id not in seen]
    deleted, cut_off = _missing(lost, root, prune=prune, incomplete=incomplete)
    kept.update({row.image_id: row for row in cut_off})
    unreachable = tuple(row.image_id for row in cut_off)
    return Changes(kept, tuple(pending), added, changed, deleted, unreachable, moved)


def _vouched(old: Row, record: Record, stamp: _Stamp) -> Row | None:
    """The row to record with the old vector; None where the image must be embedded again."""
    if record.platform != old.platform:  # it chooses the expert
        return None
    row = _row(record, stamp, old.content_hash)
    same_file = None not in stamp and (old.size, old.mtime_ns) == stamp and old.path == row.path
    return row if same_file or _hash(record.path) == old.content_hash else None


def is_unchanged(row: Row, *, content: bool) -> bool:
    """Whether a row's file is as it was indexed.

    Args:
        content: hash the bytes even where size and time are as recorded.

    Raises:
        OSError: a file that is missing or cannot be read.
    """
    path = Path(row.path)
    status = path.stat()
    if not content and (row.size, row.mtime_ns) == (status.st_size, status.st_mtime_ns):
        return True
    return hash_file(path) == row.content_hash


def _row(record: Record, stamp: _Stamp, content_hash: str) -> Row:
    real = str(record.path.resolve())
    return Row(
        image_id=record.image_id,
        # A link may lead to a name that no store can hold.
        path=real if is_unicode(real) else str(record.path.absolute()),
        content_hash=content_hash,
        platform=record.platform,
        place_id=record.place_id,
        lat=record.lat,
        lon=record.lon,
        size=stamp[0],
        mtime_ns=stamp[1],
    )


def _described(row: Row) -> tuple[object, ...]:
    return row.path, row.place_id, row.lat, row.lon


def _stamp(path: Path) -> _Stamp:
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
    rows: Sequence[Row], root: Path, *, prune: bool, incomplete: bool
) -> tuple[tuple[str, ...], list[Row]]:
    """Ids of the images that are deleted, and the rows of those that may be out of reach only."""
    hollow = cache(_is_hollow)  # whole folders go missing, and every row would climb the same way
    deleted, cut_off = [], []
    for row in rows:
        # Both as the file was found and where links led then: either may be cut off.
        places = Path(row.path).parent, (root / row.image_id).parent
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
