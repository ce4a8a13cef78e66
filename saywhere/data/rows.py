"""Rows of any table of images, whatever file they come from: checked, collected, faults listed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath

from saywhere.data.geometry import Ground
from saywhere.data.scan import Scan
from saywhere.data.source import is_file, is_unicode, path_fault, shown, shown_value
from saywhere.errors import InputError
from saywhere.types import Caption, Platform, Record

COLUMNS = ("image", "caption", "platform", "place_id", "lat", "lon", "taken")
# Left unread, a column by one of these names would lose its content without a word.
_MISNAMED: Mapping[str, str] = {
    "filename": "image", "file": "image", "path": "image", "text": "caption", "place": "place_id",
    "latitude": "lat", "longitude": "lon", "lng": "lon", "long": "lon",
}  # fmt: skip
_FIELD_LIMIT = 20_000  # characters; the longest captions in use have some hundreds
_DEGREES: Mapping[str, int] = {"lat": 90, "lon": 180}
# Not all that float() takes: NaN, inf and 1_000 are slips in a table of positions.
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NOWHERE = Ground()


def parse_instant(text: str) -> datetime | None:
    """A moment by ISO 8601, in UTC; without a zone it is taken for UTC. None where it is none."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def check_columns(path: Path, header: Sequence[str], found: str, remedy: str) -> None:
    """Refuse columns, by their lower-case names, that would lose what a user wrote.

    Args:
        found: what the columns are called in the message.
        remedy: what helps where there is no image column, nor one by another name.

    Raises:
        InputError: no column of images, one twice, or one whose name is not quite right.
    """
    if "image" not in header:
        wrong = [other for other in header if _MISNAMED.get(other) == "image"]
        remedy = f"rename {wrong[0]!r} to it" if wrong else remedy
        raise InputError(f"{path}: {found} has no column 'image'; {remedy}")
    twice = sorted({name for name in COLUMNS if list(header).count(name) > 1})
    if twice:
        raise InputError(f"{path}: the column {twice[0]!r} stands twice; keep one of them")
    for name in header:
        meant = _MISNAMED.get(name)
        if meant and meant not in header:
            raise InputError(
                f"{path}: the column {name!r} is not known; rename it to {meant!r} or drop it"
            )


@dataclass(frozen=True, slots=True)
class RowCollector:
    """Records, captions and faults of the rows seen so far.

    Attributes:
        folder: what the paths of images are relative to.
        unit: what a row is called in messages: line, row, feature.
    """

    folder: Path
    unit: str
    records: dict[str, Record] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    captions: dict[tuple[str, str], Caption] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def add(self, row: int, cells: Mapping[str, str], ground: Ground = _NOWHERE) -> bool:
        """Take a row, or list its faults; whether it was taken.

        Args:
            row: its number, for messages.
            cells: what it says, by the names of ``COLUMNS``; no empty ones.
            ground: what its geometry says, where the file has geometries.
        """
        faults = list(_faults(cells))
        if not faults:
            record = self._record(cells, ground)
            first = self.records.setdefault(record.image_id, record)
            faults = self._contradictions(first, record)
        if faults:
            self.problems.extend(f"{self.unit} {row}: {fault}" for fault in faults)
            return False
        image = record.image_id
        if image not in self.rows:
            self.rows[image] = row
            if not is_file(record.path):
                self.missing[image] = (
                    f"{self.unit} {row}: image {shown(image)} is not in {self.folder}; "
                    "write its path relative to the table"
                )
        if text := cells.get("caption"):
            self.captions.setdefault((image, text), Caption(image, text, text))
        return True

    def add_values(self, row: int, values: Mapping[str, object], ground: Ground = _NOWHERE) -> None:
        """As ``add``, of values with types; a list of captions counts as that many rows."""
        cells = dict[str, str]()
        captions = values.get("caption")
        texts = list(captions) if isinstance(captions, list) else [captions]
        first, *others = texts or [None]
        faults = [text for text in others if not isinstance(text, str)][:1]
        for name in COLUMNS:
            value = first if name == "caption" else values.get(name)
            text = _cell(name, value)
            if text is None:
                faults.append(value)
            elif text:
                cells[name] = text
        if faults:
            self.problems.extend(
                f"{self.unit} {row}: {shown_value(fault)} where a text or a number belongs; "
                "write one"
                for fault in faults
            )
        elif self.add(row, cells, ground):
            for caption in others:
                self.add(row, {"image": cells["image"], "caption": str(caption).strip()})

    def scan(self, path: Path) -> Scan:
        """What was collected of the table at ``path``.

        Raises:
            InputError: nothing was.
        """
        if not self.records and not self.problems:
            raise InputError(f"{path}: holds no {self.unit} of an image; add one an image")
        return Scan(
            "table",
            path,
            tuple(self.records.values()),
            tuple(self.captions.values()),
            problems=tuple(self.problems),
            missing=self.missing,
        )

    def _record(self, cells: Mapping[str, str], ground: Ground) -> Record:
        image = str(PurePosixPath(cells["image"]))
        path = self.folder / image
        if not is_file(path) and is_file(beside := self.folder / "images" / image):
            path = beside
        return Record(
            image,
            path,
            Platform(cells["platform"].lower()) if "platform" in cells else None,
            cells.get("place_id"),
            float(cells["lat"]) if "lat" in cells else ground.lat,
            float(cells["lon"]) if "lon" in cells else ground.lon,
            footprint=ground.footprint,
            taken=parse_instant(cells["taken"]) if "taken" in cells else None,
        )

    def _contradictions(self, first: Record, record: Record) -> list[str]:
        said = {
            name: (getattr(record, name), getattr(first, name))
            for name in ("platform", "place_id", "lat", "lon", "taken")
        }
        where = f"{self.unit} {self.rows.get(record.image_id, 0)}"
        faults = [
            f"image {shown(record.image_id)} has {name} {here} here and {there} on {where}; "
            "write the same or none"
            for name, (here, there) in said.items()
            if here not in (None, there)
        ]
        if record.footprint not in (None, first.footprint):
            faults.append(
                f"image {shown(record.image_id)} has another polygon on {where}; write the same "
                "or none"
            )
        return faults


def _cell(name: str, value: object) -> str | None:
    """A value as a CSV file would have it, stripped; None of a type that has no text."""
    text: str | None = None
    if value is None:
        text = ""
    elif isinstance(value, str):
        text = value.strip()
    elif isinstance(value, datetime | date):
        text = value.isoformat()
    elif name == "place_id" and isinstance(value, float) and value.is_integer():
        text = str(int(value))  # a column of integers with gaps is read as one of floats
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        with suppress(ValueError):  # an integer of thousands of digits
            text = str(value)
    return text


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
    if name == "taken" and parse_instant(cell) is None:
        return "is no time; write ISO 8601, as in 2025-06-01T09:30:00Z"
    if name in _DEGREES:
        limit = _DEGREES[name]
        if _NUMBER.fullmatch(cell) is None:
            return "is no number; write degrees with a decimal point, as in -33.8599"
        if abs(float(cell)) > limit:
            return f"is outside -{limit} … {limit} degrees; check whether lat and lon are swapped"
    return None
