"""What the image files themselves hold: equal ones, ones that cannot be decoded, a look at some."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.errors import ImageError, InputError
from saywhere.files import atomic_path, hash_file
from saywhere.images import contact_sheet, read_image
from saywhere.types import PLATFORMS, Record

if TYPE_CHECKING:
    from PIL.Image import Image

SHEET_IMAGES = 24
_LABEL_CHARACTERS = 25  # what fits below a tile
_UNDECODABLE = (200, 60, 60)


def duplicates(records: Sequence[Record]) -> tuple[tuple[str, ...], ...]:
    """Image ids of files with equal bytes, a group each, in file order.

    Only files that share their size with another are read, so a large folder of different images
    costs little. Files that cannot be read count as different.
    """
    by_size: defaultdict[int, list[Record]] = defaultdict(list)
    by_hash: defaultdict[str, list[str]] = defaultdict(list)
    for record in records:
        try:
            by_size[record.path.stat().st_size].append(record)
        except OSError:
            continue
    for alike in by_size.values():
        for record in alike if len(alike) > 1 else ():
            try:
                by_hash[hash_file(record.path)].append(record.image_id)
            except OSError:
                continue
    order = {record.image_id: index for index, record in enumerate(records)}
    groups = [tuple(ids) for ids in by_hash.values() if len(ids) > 1]
    return tuple(sorted(groups, key=lambda ids: order[ids[0]]))


def undecodable(
    records: Sequence[Record], progress: Callable[[int, int], None] | None = None
) -> tuple[str, ...]:
    """One line an image that cannot be decoded: its path, the cause, a remedy.

    Args:
        records: all of them are decoded, which takes some milliseconds each.
        progress: told how many are done, and of how many.
    """
    lines = []
    for done, record in enumerate(records, start=1):
        try:
            read_image(record.path)
        except ImageError as error:
            lines.append(str(error))
        if progress is not None:
            progress(done, len(records))
    return tuple(lines)


def draw_sheet(records: Sequence[Record], out: Path) -> int:
    """Draw up to 24 images, as many of each platform as there are, labelled; returns how many.

    An image that cannot be decoded is a red tile. The sheet is a PNG, written atomically.

    Raises:
        InputError: no images, or a place that cannot be written to.
    """
    chosen = _sample(records, SHEET_IMAGES)
    if not chosen:
        raise InputError(f"{out}: there is no image to draw; put the missing images in place")
    sheet = contact_sheet([_tile(record) for record in chosen], [_label(r) for r in chosen])
    with atomic_path(out) as temporary:
        sheet.save(temporary, "PNG")
    return len(chosen)


def _sample(records: Sequence[Record], count: int) -> list[Record]:
    """Evenly spaced records of every platform, in equal shares as far as there are enough."""
    groups = [[r for r in records if r.platform is platform] for platform in (*PLATFORMS, None)]
    shares: dict[int, int] = {}
    by_size = sorted(range(len(groups)), key=lambda index: len(groups[index]))
    for turn, index in enumerate(by_size):  # the smallest first: what they lack others may take
        left = count - sum(shares.values())
        shares[index] = min(len(groups[index]), left // (len(groups) - turn))
    return [
        group[step * len(group) // shares[index]]
        for index, group in enumerate(groups)
        for step in range(shares[index])
    ]


def _tile(record: Record) -> Image:
    import PIL.Image

    try:
        return read_image(record.path)
    except ImageError:
        return PIL.Image.new("RGB", (8, 8), _UNDECODABLE)


def _label(record: Record) -> str:
    parts = [text for text in (record.platform, record.place_id) if text]
    label = " ".join(parts) if record.place_id else " ".join([*parts, record.path.name])
    cut = len(label) > _LABEL_CHARACTERS
    # One line: a file name may hold a line end.
    return "".join(c if c.isprintable() else "?" for c in label[:_LABEL_CHARACTERS]) + "…" * cut
