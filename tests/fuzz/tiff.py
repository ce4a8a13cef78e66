"""TIFF files written entry by entry, so that each may lie: sizes, offsets, loops, positions."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d"}
Entry = tuple[int, int, Sequence[float]]  # tag, type, values
WIDTH, HEIGHT = 16, 12
# Tags of a grey uncompressed image; the strip's offset is filled in by ``tiff``.
PLAIN: tuple[Entry, ...] = (
    (256, 4, (WIDTH,)), (257, 4, (HEIGHT,)), (258, 3, (8,)), (259, 3, (1,)), (262, 3, (1,)),
    (273, 4, (0,)), (277, 3, (1,)), (278, 4, (HEIGHT,)), (279, 4, (WIDTH * HEIGHT,)),
)  # fmt: skip
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORM, _GEO_KEYS = 33550, 33922, 34264, 34735
_WGS84_KEYS = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
_ODD = (0.0, -0.0, float("nan"), float("inf"), -float("inf"), 1e308, 5e-324, 1e9, -200.0)


def tiff(entries: Sequence[Entry], *, next_ifd: int = 0, claimed: int | None = None) -> bytes:
    """A little-endian TIFF of one directory.

    Args:
        next_ifd: offset of the directory that is claimed to follow; 8 is this one again.
        claimed: number of entries the directory claims, if not the true one.
    """
    entries = sorted(entries)
    data_at = 8 + 2 + 12 * len(entries) + 4
    directory, data = b"", bytes(range(WIDTH * HEIGHT))
    for tag, kind, given in entries:
        values = (data_at,) if tag == 273 and given == (0,) else given
        packed = struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)
        if len(packed) > 4:
            place = struct.pack("<I", data_at + len(data))
            data += packed
        else:
            place = packed.ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, kind, len(values)) + place
    count = len(entries) if claimed is None else claimed
    head = struct.pack("<2sHIH", b"II", 42, 8, count)
    return head + directory + struct.pack("<I", next_ifd) + data


def lying_tiff(draw: random.Random) -> bytes:
    """One to three tags that say something else, a loop, or a directory longer than the file."""
    entries = dict(zip((entry[0] for entry in PLAIN), PLAIN, strict=True))
    for tag in draw.sample(sorted(entries), draw.randint(1, 3)):
        kind = entries[tag][1]
        top = 0xFFFF if kind == 3 else 0xFFFFFFFF
        value = draw.choice((0, 1, 2, 7, 255, 65535, top, top // 2, draw.randint(0, top)))
        entries[tag] = tag, kind, (min(value, top),)
    if draw.random() < 0.3:
        entries[273] = 273, 4, tuple(draw.randint(0, 400) for _ in range(draw.randint(2, 40)))
    if draw.random() < 0.2:  # tiles of no size, beside the strips
        entries |= {tag: (tag, 4, (draw.choice((0, 1, 16, 1 << 30)),)) for tag in (322, 323, 324)}
    return tiff(
        list(entries.values()),
        next_ifd=draw.choice((0, 8, 9, 2**31)),
        claimed=draw.choice((None, None, 0, 1, 200, 65535)),
    )


def geotiff(draw: random.Random) -> bytes:
    """A GeoTIFF whose transform, tie points or keys may be odd, missing or damaged."""

    def number() -> float:
        return draw.choice((*_ODD, draw.uniform(-180, 180)))

    entries = list(PLAIN)
    if draw.random() < 0.8:
        keys = list(_WGS84_KEYS)
        for _ in range(draw.choice((0, 0, 1, 3))):
            keys[draw.randrange(len(keys))] = draw.randrange(65536)
        entries.append((_GEO_KEYS, 3, keys[: draw.choice((len(keys), len(keys), 5, 2))]))
    if draw.random() < 0.5:
        entries.append((_TRANSFORM, 12, [number() for _ in range(draw.choice((16, 16, 3)))]))
    else:
        entries.append((_PIXEL_SCALE, 12, [number(), number(), 0.0]))
        entries.append((_TIE_POINTS, 12, [number() for _ in range(draw.choice((6, 6, 600, 5)))]))
    return tiff(entries)
