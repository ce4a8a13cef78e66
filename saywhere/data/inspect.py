"""What a dataset holds, in counts: the first thing to look at before indexing or training."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saywhere.data import read, recognise
from saywhere.data.geotext import scan_geotext
from saywhere.data.source import is_file
from saywhere.errors import DatasetError
from saywhere.types import PLATFORMS, Dataset

UNKNOWN = "unknown"
_MISSING_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Spread:
    """Smallest, middle and largest of some counts."""

    min: int
    median: float
    max: int


@dataclass(frozen=True, slots=True)
class Inspection:
    """Counts over one dataset.

    Attributes:
        kind, source: what was read, and where.
        records, captions, queries: how many images and texts.
        platforms: images of ``satellite``, ``drone``, ``ground`` and ``unknown``.
        places: distinct place ids; 0 where none is known.
        images_per_place: over the places; None without places.
        captions_per_image: over all images; None without captions.
        words_per_caption, words_per_query: white-space separated words; None without such texts.
        missing_files: image ids whose file is not on disk, in file order.
        with_coordinates: images with a latitude and a longitude.
    """

    kind: str
    source: str
    records: int
    captions: int
    queries: int
    platforms: dict[str, int]
    places: int
    images_per_place: Spread | None
    captions_per_image: Spread | None
    words_per_caption: Spread | None
    words_per_query: Spread | None
    missing_files: tuple[str, ...]
    with_coordinates: int

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        return {**asdict(self), "missing_files": list(self.missing_files)}

    def to_text(self) -> str:
        """An aligned summary for a terminal, one line a count."""
        rows = [(name, text) for name, text in self._rows() if text]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _rows(self) -> list[tuple[str, str]]:
        platforms = [f"{name} {count:,}" for name, count in self.platforms.items() if count]
        missing = ", ".join(self.missing_files[:_MISSING_SHOWN])
        more = ", …" if len(self.missing_files) > _MISSING_SHOWN else ""
        return [
            ("dataset", f"{self.source} ({self.kind})"),
            ("images", f"{self.records:,}"),
            ("platforms", ", ".join(platforms)),
            ("places", f"{self.places:,}" if self.places else "unknown"),
            ("images per place", _spread_text(self.images_per_place)),
            ("captions", f"{self.captions:,}" if self.captions else ""),
            ("captions per image", _spread_text(self.captions_per_image)),
            ("words per caption", _spread_text(self.words_per_caption)),
            ("queries", f"{self.queries:,}" if self.queries else ""),
            ("words per query", _spread_text(self.words_per_query)),
            ("with coordinates", f"{self.with_coordinates:,} of {self.records:,}"),
            (
                "missing files",
                f"{len(self.missing_files):,}: {missing}{more}" if missing else "none",
            ),
        ]


def inspect(path: Path) -> Inspection:
    """Count what lies at a path; missing images are counted, every other fault is raised.

    Raises:
        DatasetError, InputError: as ``saywhere.data.read``, missing image files apart.
    """
    dataset = _read_with_missing(path)
    texts_of = Counter(caption.image_id for caption in dataset.captions)
    images_of = Counter(r.place_id for r in dataset.records if r.place_id is not None)
    platforms = Counter(str(record.platform or UNKNOWN) for record in dataset.records)
    return Inspection(
        kind=dataset.kind,
        source=str(path),
        records=len(dataset.records),
        captions=len(dataset.captions),
        queries=len(dataset.queries),
        platforms={name: platforms[name] for name in (*map(str, PLATFORMS), UNKNOWN)},
        places=len(images_of),
        images_per_place=_spread(images_of.values()),
        captions_per_image=_spread(
            texts_of[record.image_id] for record in dataset.records if dataset.captions
        ),
        words_per_caption=_spread(len(caption.text.split()) for caption in dataset.captions),
        words_per_query=_spread(len(query.text.split()) for query in dataset.queries),
        missing_files=tuple(r.image_id for r in dataset.records if not is_file(r.path)),
        with_coordinates=sum(record.lat is not None for record in dataset.records),
    )


def _read_with_missing(path: Path) -> Dataset:
    if recognise(path) != "geotext":
        return read(path)
    scan = scan_geotext(path)
    if scan.problems:
        raise DatasetError(path, scan.problems)
    return Dataset("geotext", path, scan.records, scan.captions)


def _spread(counts: Iterable[int]) -> Spread | None:
    values = sorted(counts)
    return Spread(values[0], statistics.median(values), values[-1]) if values else None


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.min == spread.max:
        return f"{spread.min:,}"
    return f"median {spread.median:,g} (min {spread.min:,}, max {spread.max:,})"
