"""A table of one's own images: CSV or TSV with a header, a row an image or a caption."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_unicode, path_fault, shown, stream_lines
from saywhere.errors import InputError
from saywhere.types import Caption, Dataset, Platform, Record

DELIMITERS: Mapping[str, str] = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
COLUMNS = ("image", "caption", "platform", "place_id", "lat", "lon")
# Left unread, a column by one of these names would lose its content without a word.
_MISNAMED: Mapping[str, str] = {
    "filename": "image", "file": "image", "path": "image", "text": "caption", "place": "place_id",
    "latitude": "lat", "longitude": "lon", "lng": "lon", "long": "lon",
}  # fmt: skip
_FIELD_LIMIT = 20_000  # characters; the longest captions in use have some hundreds
_DEGREES: Mapping[str, int] = {"lat": 90, "lon": 180}
# Not all that float() takes: NaN, inf and 1_000 are slips in a table of positions.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_table(path: Path, *, skip_bad: bool = False) -> Dataset:
    """Read a table of images; every image it names must exist.

    Columns, in any order and case: ``image``, a path relative to the table's own folder or, where
    it is not there, to ``images`` beside the table; and, all optional, ``caption``, ``platform``
    (satellite, drone or ground), ``place_id``, ``lat`` and ``lon`` (WGS84 degrees, both or
    neither). Others are ignored. An empty cell says nothing. Rows that repeat an image add captions
    to it; what they say of it otherwise must agree with its first row. Texts are only texts:
    nothing is evaluated.

    Args:
        path: ``.csv`` (commas), ``.tsv`` or ``.tab`` (tabs), UTF-8 with or without a byte order
            mark, fields with delimiters or line ends in double quotes (RFC 4180).
        skip_bad: leave bad rows out and list them in ``Dataset.skipped``.

    Raises:
        DatasetError: rows that cannot be used or images that are missing, all of them listed by
            the line they begin on.
        InputError: a file that is missing or no text, another suffix, or an unusable header.
    """
    return scan_table(path).dataset(skip_bad=skip_bad)


def scan_table(path: Path) -> Scan:
    """As ``read_table``, but faults of rows are collected.

    Raises:
        InputError: a file that is missing or no text, another suffix, or an unusable header.
    """
    delimiter = DELIMITERS.get(path.suffix.lower())
    if delimiter is None:
        raise InputError(f"{path}: is no table by its suffix; name it {' or '.join(DELIMITERS)}")
    collector = _Collector(path.parent)
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
    return Scan(
        "table",
        path,
        tuple(collector.records.values()),
        tuple(collector.captions.values()),
        problems=tuple(collector.problems),
        missing=collector.missing,
    )


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
    known = [name for name in header if name in COLUMNS]
    twice = sorted({name for name in known if known.count(name) > 1})
    if "image" not in header:
        wrong = [other for other in header if _MISNAMED.get(other) == "image"]
        remedy = f"rename {wrong[0]!r} to it" if wrong else f"add it; {delimiter!r} divides columns"
        found = shown(delimiter.join(row))
        raise InputError(f"{path}: the header {found} has no column 'image'; {remedy}")
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} stands twice; keep one of them")
    for name in header:
        meant = _MISNAMED.get(name)
        if meant and meant not in header:
            raise InputError(
                f"{path}: the column {name!r} is not known; rename it to {meant!r} or drop it"
            )
    return header


def _cells(header: list[str], row: list[str]) -> dict[str, str]:
    """The cells that say something, by column."""
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    return {name: cells[name] for name in COLUMNS if cells.get(name)}


@dataclass(frozen=True, slots=True)
class _Collector:
    """Records, captions and faults of the rows seen so far."""

    folder: Path
    records: dict[str, Record] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    captions: dict[tuple[str, str], Caption] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, line: int, cells: Mapping[str, str]) -> None:
        faults = list(_faults(cells))
        if not faults:
            record = self._record(cells)
            first = self.records.setdefault(record.image_id, record)
            faults = self._contradictions(first, record)
        if faults:
            self.problems.extend(f"line {line}: {fault}" for fault in faults)
            return
        image = record.image_id
        if image not in self.lines:
            self.lines[image] = line
            if not is_file(record.path):
                self.missing[image] = (
                    f"line {line}: image {shown(image)} is not in {self.folder}; "
                    "write its path relative to the table"
                )
        if text := cells.get("caption"):
            self.captions.setdefault((image, text), Caption(image, text, text))

    def _record(self, cells: Mapping[str, str]) -> Record:
        image = str(PurePosixPath(cells["image"]))
        path = self.folder / image
        if not is_file(path) and is_file(beside := self.folder / "images" / image):
            path = beside
        return Record(
            image,
            path,
            Platform(cells["platform"].lower()) if "platform" in cells else None,
            cells.get("place_id"),
            float(cells["lat"]) if "lat" in cells else None,
            float(cells["lon"]) if "lon" in cells else None,
        )

    def _contradictions(self, first: Record, record: Record) -> list[str]:
        return [
            f"image {shown(record.image_id)} has {name} {getattr(record, name)} here and "
            f"{getattr(first, name)} on line {self.lines[record.image_id]}; write the same or none"
            for name in ("platform", "place_id", "lat", "lon")
            if getattr(record, name) not in (None, getattr(first, name))
        ]


def _faults(cells: Mapping[str, str]) -> Iterator[str]:
    """Everything that is wrong with one row, each with its remedy."""
    for name, cell in cells.items():
        if len(cell) > _FIELD_LIMIT:
            yield f"{name!r} has {len(cell):,} characters, over {_FIELD_LIMIT:,}; shorten it"
        elif not is_unicode(cell):
            yield f"{name!r} {shown(cell)} is not UTF-8; save the file with that encoding"
        elif fault := _cell_fault(name, cell):
            yield f"{name!r} {shown(cell)} {fault}"
    if "image" not in cells:
        yield "'image' is empty; write the path of the image"
    if ("lat" in cells) != ("lon" in cells):
        yield "only one of 'lat' and 'lon'; write both or neither"


def _cell_fault(name: str, cell: str) -> str | None:
    if name == "image":
        return path_fault(cell)
    if name == "platform" and cell.lower() not in tuple(Platform):
        return "is none of satellite, drone, ground; write one of them or nothing"
    if name in _DEGREES:
        limit = _DEGREES[name]
        if _NUMBER.fullmatch(cell) is None:
            return "is no number; write degrees with a decimal point, as in -33.8599"
        if abs(float(cell)) > limit:
            return f"is outside -{limit} … {limit} degrees; check whether lat and lon are swapped"
    return None
