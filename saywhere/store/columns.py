"""Rows as Arrow columns, in each schema an index may be written in.

Schema 2 added ``size`` and ``mtime_ns``. An index of schema 1 is read and searched as it is; its
files' sizes and times are unknown, so the next update hashes them, and writes the present schema.

Schema 3 added the window, the footprint and the time an image was taken. What an earlier index
doesn't say counts as unknown until the next update.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from saywhere.errors import InputError
from saywhere.scored_images import Details
from saywhere.store import SCHEMA_VERSION
from saywhere.store.row import Row
from saywhere.types import FloatArray, Footprint, Platform, Window

if TYPE_CHECKING:
    import pyarrow as pa

VECTOR = "vector"
WINDOW = ("window_column", "window_row", "window_width", "window_height")
DETAILS = (*WINDOW, "footprint", "approximate")
TAKEN = "taken"
_SINCE_2 = ("size", "mtime_ns")
_WKB_POLYGON, _WKB_MULTIPOLYGON = 3, 6
_RING = "<BIII"  # little-endian, the polygon's type, one ring, points in it


def arrow_schema(dimension: int, version: int = SCHEMA_VERSION) -> pa.Schema:
    """Columns of a table of ``dimension``-long vectors, as schema ``version`` has them."""
    import pyarrow as pa

    fields = [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("platform", pa.string()),
        pa.field("place_id", pa.string()),
        pa.field("lat", pa.float64()),
        pa.field("lon", pa.float64()),
    ]
    if version >= 2:
        fields += [pa.field(name, pa.int64()) for name in _SINCE_2]
    if version >= 3:
        fields += [pa.field(name, pa.int64()) for name in WINDOW]
        fields += [
            pa.field("footprint", pa.binary()),  # WKB, (lon, lat) as everywhere in it
            pa.field("approximate", pa.bool_()),
            pa.field(TAKEN, pa.timestamp("us", tz="UTC")),
        ]
    return pa.schema([*fields, pa.field(VECTOR, pa.list_(pa.float32(), dimension), nullable=False)])


def arrow_rows(rows: Sequence[Row], vectors: FloatArray, version: int) -> pa.Table:
    """A table of n rows and (n, d) float32 vectors."""
    import pyarrow as pa

    schema = arrow_schema(vectors.shape[1], version)
    corners = [_corners(row) for row in rows]
    derived: dict[str, Any] = {name: [c[at] for c in corners] for at, name in enumerate(WINDOW)}
    derived["footprint"] = [_wkb(row.footprint) for row in rows]
    derived["approximate"] = [row.footprint and row.footprint.approximate for row in rows]
    columns: dict[str, Any] = {
        name: derived[name] if name in derived else [getattr(row, name) for row in rows]
        for name in schema.names
        if name != VECTOR
    }
    columns[VECTOR] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    return pa.table(columns, schema=schema)


def row_from(values: Mapping[str, Any]) -> Row:
    """The row of one table entry.

    Raises:
        InputError: values that no row can have.
    """
    try:
        platform = Platform(values["platform"]) if values["platform"] is not None else None
    except ValueError as error:
        raise InputError(
            f"image {values['image_id']!r}: {values['platform']!r} is no platform; "
            "rebuild the index with `saywhere index DIR --rebuild`"
        ) from error
    plain = {name: value for name, value in values.items() if name not in DETAILS}
    more = details_from(values)
    return Row(
        **{**plain, "platform": platform, TAKEN: moment(values.get(TAKEN))},
        window=more.window,
        footprint=more.footprint,
    )


def details_from(values: Mapping[str, Any]) -> Details:
    """Window and footprint of one table entry.

    Raises:
        InputError: bytes that are no footprint.
    """
    corners = [values.get(name) for name in WINDOW]
    window = None if None in corners else Window(*corners)  # type: ignore[arg-type]
    found = values.get("footprint")
    try:
        footprint = None if found is None else _footprint(found, bool(values["approximate"]))
    except (struct.error, ValueError) as error:
        raise InputError(
            f"an image's footprint cannot be read ({error}); rebuild the index with "
            "`saywhere index DIR --rebuild`"
        ) from error
    return Details(window, footprint)


def moment(found: datetime | None) -> datetime | None:
    """A time of a table, in the time zone of the standard library."""
    return None if found is None else found.astimezone(UTC)


def _corners(row: Row) -> tuple[int | None, ...]:
    if (part := row.window) is None:
        return (None,) * len(WINDOW)
    return part.column, part.row, part.width, part.height


def _wkb(footprint: Footprint | None) -> bytes | None:
    """Well-known binary (OGC 06-103r4, 8.2) of a polygon, or of several."""
    if footprint is None:
        return None
    polygons = []
    for ring in footprint.rings:
        numbers = [number for lat, lon in (*ring, ring[0]) for number in (lon, lat)]
        head = struct.pack(_RING, 1, _WKB_POLYGON, 1, len(ring) + 1)
        polygons.append(head + struct.pack(f"<{len(numbers)}d", *numbers))
    if len(polygons) == 1:
        return polygons[0]
    return struct.pack("<BII", 1, _WKB_MULTIPOLYGON, len(polygons)) + b"".join(polygons)


def _footprint(content: bytes, approximate: bool) -> Footprint:
    """What ``_wkb`` wrote; struct.error or ValueError for anything else."""
    _, kind, count = struct.unpack_from("<BII", content)
    start = 0 if kind == _WKB_POLYGON else struct.calcsize("<BII")
    rings = []
    for _ in range(1 if kind == _WKB_POLYGON else count):
        _, kind, inner, points = struct.unpack_from(_RING, content, start)
        if (kind, inner) != (_WKB_POLYGON, 1):
            raise ValueError(f"geometry {kind} of {inner} rings")
        start += struct.calcsize(_RING)
        numbers = struct.unpack_from(f"<{2 * points}d", content, start)
        start += 16 * points
        lonlat = zip(numbers[:-2:2], numbers[1:-2:2], strict=True)
        rings.append(tuple((lat, lon) for lon, lat in lonlat))
    return Footprint(tuple(rings), approximate)


def check_rows(rows: Sequence[Row], count: int) -> None:
    """Refuses rows that don't belong to ``count`` vectors, one an image.

    Raises:
        InputError: another number of rows, or an image_id twice.
    """
    if len(rows) != count:
        raise InputError(f"{len(rows)} images but {count} vectors; give one vector an image")
    seen: set[str] = set()
    for row in rows:
        if row.image_id in seen:
            raise InputError(f"image {row.image_id!r}: given twice at once; give each image once")
        seen.add(row.image_id)
