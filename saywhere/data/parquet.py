"""A Parquet file of one's own images, read batch by batch; GeoParquet's geometries, too."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from saywhere.data.geometry import Ground, read_geometry
from saywhere.data.rows import COLUMNS, RowCollector, check_columns
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_folder, shown
from saywhere.errors import InputError

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_BATCH_ROWS = 1024
_WGS84 = ("OGC:CRS84", "EPSG:4326")
_GEOMETRY_LIMIT = 1 << 20  # bytes of one geometry


def scan_parquet(path: Path) -> Scan:
    """Columns as those of a CSV table; ``caption`` may be a list of texts, ``taken`` a timestamp.

    Where the file is GeoParquet (1.0), its primary geometry gives what ``read_geometry`` reads of
    it; ``lat`` and ``lon`` columns come first.

    Raises:
        InputError: a file that is missing, no Parquet, damaged, in another CRS than WGS84, or
            without a column of images.
    """
    if not is_file(path):
        cause = "is a folder" if is_folder(path) else "no such file"
        raise InputError(f"{path}: {cause}; give the path of a file")
    try:
        return _scan(path)
    except InputError:
        raise
    except Exception as error:  # Arrow raises many unrelated types on damaged files
        cause = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise InputError(
            f"{path}: is no whole Parquet file ({shown(cause)}); export it again"
        ) from None


def _scan(path: Path) -> Scan:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        names = list(file.schema_arrow.names)
        header = [name.strip().lower() for name in names]
        found = f"the columns {shown(', '.join(names))}"
        check_columns(path, header, found, "add it, with the paths of the images")
        geometry = _geometry_column(path, file)
        wanted = {name: low for name, low in zip(names, header, strict=True) if low in COLUMNS}
        collector = RowCollector(path.parent, "row")
        for number, row in enumerate(_rows(file, [*wanted, *geometry]), start=1):
            values = {low: row[name] for name, low in wanted.items()}
            try:
                ground = _ground(row[geometry[0]]) if geometry else Ground()
            except InputError as error:
                collector.problems.append(f"row {number}: {error}")
                continue
            collector.add_values(number, values, ground)
    return collector.scan(path)


def _rows(file: ParquetFile, columns: list[str]) -> Iterator[Mapping[str, object]]:
    """Rows one by one; times as texts, since Arrow's may lie beyond what Python can hold."""
    import pyarrow

    fields = [file.schema_arrow.field(name) for name in columns]
    times = {f.name: f.type for f in fields if pyarrow.types.is_timestamp(f.type)}
    zones = {name: pyarrow.timestamp(kind.unit, kind.tz and "UTC") for name, kind in times.items()}
    texts = dict.fromkeys(times, pyarrow.string())
    for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
        table = pyarrow.table(batch).select(columns)
        for kinds in (zones, texts):
            schema = [pyarrow.field(f.name, kinds.get(f.name, f.type)) for f in fields]
            table = table.cast(pyarrow.schema(schema))
        yield from table.to_pylist()


def _geometry_column(path: Path, file: ParquetFile) -> list[str]:
    """The name of GeoParquet's primary geometry column, or nothing."""
    raw = (file.schema_arrow.metadata or {}).get(b"geo")
    if raw is None:
        return []
    try:
        geo = json.loads(raw)
        name = geo["primary_column"]
        column = geo["columns"][name]
        crs = column.get("crs", "absent")  # absent is CRS84, null is unknown
        code = crs.get("id", {}) if isinstance(crs, dict) else {}
        named = f"{code.get('authority')}:{code.get('code')}"
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        raise InputError(
            f"{path}: its 'geo' metadata is no GeoParquet's; export it again"
        ) from None
    if name not in file.schema_arrow.names:
        raise InputError(f"{path}: has no column {shown(str(name))}; export it again")
    if crs != "absent" and named not in _WGS84:
        raise InputError(f"{path}: its geometries are in {shown(named)}; export them in EPSG:4326")
    if column.get("encoding") != "WKB":
        raise InputError(f"{path}: its geometries are no WKB; export it as GeoParquet 1.0")
    return [str(name)]


def _ground(content: object) -> Ground:
    """What a geometry in WKB says.

    Raises:
        InputError: no geometry, too long, or none that ``read_geometry`` takes.
    """
    import shapely
    from shapely.geometry import mapping

    if content is None:
        return Ground()
    if not isinstance(content, bytes) or len(content) > _GEOMETRY_LIMIT:
        raise InputError("geometry is no short WKB; simplify or export it again")
    try:
        shape = shapely.from_wkb(content)
    except shapely.errors.ShapelyError:
        raise InputError("geometry is no WKB; export it again") from None
    return Ground() if shape is None or shape.is_empty else read_geometry(mapping(shape))
