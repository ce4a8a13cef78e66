"""Rows as Arrow columns, in each schema an index may be written in.

Schema 2 added ``size`` and ``mtime_ns``. An index of schema 1 is read and searched as it is; its
files' sizes and times are unknown, so the next update hashes them, and writes schema 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from saywhere.errors import InputError
from saywhere.store import SCHEMA_VERSION, Row
from saywhere.types import FloatArray, Platform

if TYPE_CHECKING:
    import pyarrow as pa

VECTOR = "vector"
_SINCE_2 = ("size", "mtime_ns")


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
    return pa.schema([*fields, pa.field(VECTOR, pa.list_(pa.float32(), dimension), nullable=False)])


def arrow_rows(rows: Sequence[Row], vectors: FloatArray, version: int) -> pa.Table:
    """A table of n rows and (n, d) float32 vectors."""
    import pyarrow as pa

    schema = arrow_schema(vectors.shape[1], version)
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in schema.names if name != VECTOR
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
    return Row(**{**values, "platform": platform})


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
