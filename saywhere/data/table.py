"""A table of one's own images, a row an image or a caption: CSV, TSV, Parquet or GeoJSON."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from saywhere.data.geojson import scan_geojson
from saywhere.data.parquet import scan_parquet
from saywhere.data.rows import COLUMNS, RowCollector, check_columns
from saywhere.data.scan import Scan
from saywhere.data.source import shown, stream_lines
from saywhere.errors import InputError
from saywhere.types import Dataset

DELIMITERS: Mapping[str, str] = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
PARQUET, GEOJSON = ".parquet", (".geojson", ".json")
SUFFIXES = (*DELIMITERS, PARQUET, GEOJSON[0])  # .json is more often something else


def read_table(path: Path, *, skip_bad: bool = False) -> Dataset:
    """Read a table of images; every image it names must exist.

    Columns, in any order and case: ``image``, a path relative to the table's own folder or, where
    it is not there, to ``images`` beside the table; and, all optional, ``caption``, ``platform``
    (satellite, drone or ground), ``place_id``, ``lat`` and ``lon`` (WGS84 degrees, both or
    neither) and ``taken`` (ISO 8601; UTC without a zone). Others are ignored. An empty cell says
    nothing. Rows that repeat an image add captions to it; what they say of it otherwise must agree
    with its first row. Texts are only texts: nothing is evaluated.

    Args:
        path: ``.csv`` (commas), ``.tsv`` or ``.tab`` (tabs), UTF-8 with or without a byte order
            mark, fields with delimiters or line ends in double quotes (RFC 4180); ``.parquet``,
            see ``scan_parquet``; ``.geojson``, see ``scan_geojson``.
        skip_bad: leave bad rows out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: rows that cannot be used or images that are missing, all of them listed by
            the line they begin on, or their number.
        InputError: a file that is missing or no text, another suffix, or an unusable header.
    """
    return scan_table(path).dataset(skip_bad=skip_bad)


def scan_table(path: Path) -> Scan:
    """As ``read_table``, but faults of rows are collected.

    Raises:
        InputError: a file that is missing or no text, another suffix, or an unusable header.
    """
    suffix = path.suffix.lower()
    if suffix == PARQUET:
        return scan_parquet(path)
    if suffix in GEOJSON:
        return scan_geojson(path)
    if suffix not in DELIMITERS:
        raise InputError(f"{path}: is no table by its suffix; name it {' or '.join(SUFFIXES)}")
    return _scan_csv(path, DELIMITERS[suffix])


def _scan_csv(path: Path, delimiter: str) -> Scan:
    collector = RowCollector(path.parent, "line")
    rows = _rows(path, delimiter, collector.problems)
    _, first = next(rows, (0, []))
    if collector.problems:
        raise InputError(f"{path}: {collector.problems[0]}")
    header = _header(path, first, delimiter)
    for line, row in rows:
        if len(row) == len(header):
            collector.add(line, _cells(header, row))
        else:
            collector.problems.append(
                f"line {line}: {len(row)} fields where the header has {len(header)}; "
                "put texts that hold the delimiter in double quotes"
            )
    if not collector.records and not collector.problems:
        raise InputError(f"{path}: holds no row below its header; add a row an image")
    return collector.scan(path)


def _rows(path: Path, delimiter: str, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and fields of every row that is not blank, one at a time."""
    # strict: otherwise a quote that is never closed swallows the rest of the file unnoticed.
    reader = csv.reader(stream_lines(path), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"line {line}: {error}; write a quote inside a quoted text twice"
            if reader.line_num > line:  # where the next row begins cannot be told any more
                problems.append(f"{problem}, and close it: the rest of the file was not read")
                return
            problems.append(problem)
            continue
        if any(cell.strip() for cell in row):
            yield line, row


def _header(path: Path, row: list[str], delimiter: str) -> list[str]:
    header = [cell.strip().lower() for cell in row]
    found = f"the header {shown(delimiter.join(row))}"
    check_columns(path, header, found, f"add it; {delimiter!r} divides columns")
    return header


def _cells(header: list[str], row: list[str]) -> dict[str, str]:
    """The cells that say something, by column."""
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    return {name: cells[name] for name in COLUMNS if cells.get(name)}
