"""What a dataset holds, in counts: the first thing to look at before indexing or training."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from saywhere.data import scan
from saywhere.data.contents import draw_sheet, duplicates, undecodable
from saywhere.data.scan import Scan
from saywhere.data.source import is_file
from saywhere.errors import DatasetError
from saywhere.types import PLATFORMS, Dataset

UNKNOWN = "unknown"
_SHOWN = 5


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
        with_footprints, with_times: images whose ground, and whose moment, is known.
        duplicates: groups of image ids whose files have equal bytes.
        undecodable: one line an image that cannot be decoded; None where that was not tried.
        skipped: one line an entry that was left out; empty unless asked for.
        notes: one line an entry that is there, but without metadata that could not be used.
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
    with_footprints: int
    with_times: int
    duplicates: tuple[tuple[str, ...], ...]
    undecodable: tuple[str, ...] | None
    skipped: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        return asdict(self)

    def to_text(self) -> str:
        """An aligned summary for a terminal, one line a count."""
        rows = [(name, text) for name, text in self._rows() if text]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {text}" for name, text in rows)

    def _rows(self) -> list[tuple[str, str]]:
        platforms = [f"{name} {count:,}" for name, count in self.platforms.items() if count]
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
            ("with footprints", f"{self.with_footprints:,}" if self.with_footprints else ""),
            ("with times", f"{self.with_times:,}" if self.with_times else ""),
            ("missing files", _listed(self.missing_files)),
            ("duplicates", self._duplicates_text()),
            ("undecodable", "" if self.undecodable is None else f"{len(self.undecodable):,}"),
            ("left out", f"{len(self.skipped):,} bad entries" if self.skipped else ""),
            ("without metadata", f"{len(self.notes):,} with faults" if self.notes else ""),
        ]

    def _duplicates_text(self) -> str:
        if not self.duplicates:
            return "none"
        groups = [
            " = ".join(group[:_SHOWN]) + (" = …" if len(group) > _SHOWN else "")
            for group in self.duplicates
        ]
        images = sum(map(len, self.duplicates))
        return f"{images:,} images have equal files, groups {_listed(groups)}"


def inspect(
    path: Path,
    *,
    skip_bad: bool = False,
    decode: bool = False,
    sheet: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Inspection:
    """Count what lies at a path; missing images are counted, every other fault is raised.

    Args:
        path: as ``saywhere.data.read`` takes it.
        skip_bad: count what ``read`` with ``skip_bad`` would give, missing images left out too.
        decode: decode every image, to list those that cannot be.
        sheet: PNG to draw, with up to 24 of the images.
        progress: told how many images are decoded, and of how many.

    Raises:
        DatasetError, InputError: as ``saywhere.data.read``, missing image files apart.
    """
    found = scan(path)
    dataset = found.dataset(skip_bad=True) if skip_bad else _with_missing(found)
    present = [record for record in dataset.records if is_file(record.path)]
    if sheet is not None:
        draw_sheet(present, sheet)
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
        missing_files=tuple(found.missing),
        with_coordinates=sum(record.lat is not None for record in dataset.records),
        with_footprints=sum(record.footprint is not None for record in dataset.records),
        with_times=sum(record.taken is not None for record in dataset.records),
        duplicates=duplicates(present),
        undecodable=undecodable(present, progress) if decode else None,
        skipped=dataset.skipped,
        notes=dataset.notes,
    )


def _with_missing(found: Scan) -> Dataset:
    if found.problems:
        raise DatasetError(found.source, found.problems)
    return Dataset(
        found.kind, found.source, found.records, found.captions, found.queries, notes=found.notes
    )


def _listed(items: Sequence[str]) -> str:
    if not items:
        return "none"
    more = ", …" if len(items) > _SHOWN else ""
    return f"{len(items):,}: {', '.join(items[:_SHOWN])}{more}"


def _spread(counts: Iterable[int]) -> Spread | None:
    values = sorted(counts)
    return Spread(values[0], statistics.median(values), values[-1]) if values else None


def _spread_text(spread: Spread | None) -> str:
    if spread is None:
        return ""
    if spread.min == spread.max:
        return f"{spread.min:,}"
    return f"median {spread.median:,g} (min {spread.min:,}, max {spread.max:,})"
