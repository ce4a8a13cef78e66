"""Known pairs, to calibrate with: a query in words or a photo, and where it is of."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from saywhere.coordinates import check_position, parse_numbers
from saywhere.data.source import is_file, stream_lines
from saywhere.errors import DatasetError, InputError

_NEEDED = ("lat", "lon")
_ASKS = ("query", "image")


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and its truth.

    Attributes:
        query, image: one of them: words, or a photo.
        lat, lon: WGS84 degrees of what is described.
        metres: how near a place must be to be the right one.
    """

    query: str | None
    image: Path | None
    lat: float
    lon: float
    metres: float


def read_pairs(path: Path, metres: float) -> list[Pair]:
    """Read a CSV file of pairs, UTF-8, with a header; other columns are ignored.

    Args:
        path: columns ``query`` or ``image`` (a path relative to the file), or both, one of them
            filled in each row; ``lat``, ``lon``; and, optional, ``metres``.
        metres: where a row doesn't say.

    Raises:
        DatasetError: rows that cannot be used, all of them listed by line.
        InputError: a file that is missing or no text, or a header without those columns.
    """
    reader = csv.reader(stream_lines(path), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        missing = [name for name in _NEEDED if name not in header]
        if missing or not set(_ASKS) & set(header) or len(set(header)) < len(header):
            raise InputError(
                f"{path}: the header must name lat, lon and query or image, each once; "
                f"found {', '.join(header) or 'nothing'}"
            )
        pairs, problems = list[Pair](), list[str]()
        for row in reader:
            cells = dict(zip(header, (cell.strip() for cell in row), strict=False))
            if not any(cells.values()):
                continue
            try:
                pairs.append(_pair(path.parent, cells, metres))
            except InputError as error:
                problems.append(f"line {reader.line_num}: {error}")
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}; mend the quotes") from None
    if problems:
        raise DatasetError(path, problems)
    return pairs


def _pair(folder: Path, cells: dict[str, str], metres: float) -> Pair:
    query, image = cells.get("query") or None, cells.get("image") or None
    if (query is None) == (image is None):
        raise InputError("give a query or an image, one of them in a row")
    numbers = f"{cells.get('lat', '')},{cells.get('lon', '')}"
    lat, lon = parse_numbers(numbers, "LAT,LON")
    check_position(lat, lon, "position")
    if cells.get("metres"):
        [metres] = parse_numbers(cells["metres"], "METRES")
    if not metres > 0:
        raise InputError(f"metres {metres:g}: give more than 0")
    photo = folder / image if image else None
    if photo is not None and not is_file(photo):
        raise InputError(f"image {image!r}: no such file; paths are relative to the table")
    return Pair(query, photo, lat, lon, metres)
