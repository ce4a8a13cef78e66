"""What every reader collects before it is decided whether bad entries stop the read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from saywhere.errors import DatasetError
from saywhere.types import Caption, Dataset, Query, Record


@dataclass(frozen=True, slots=True)
class Scan:
    """What lies at a path, sound or not.

    Attributes:
        kind, source: as in Dataset.
        records: one an image that a sound entry names, in file order, present on disk or not.
        captions, queries: the texts of the sound entries, in file order.
        problems: one line a fault of the dataset itself; what they speak of is in no other field.
        notes: one line an entry that is sound but was not understood in full.
        missing: the image id of every record that is not on disk, with one line about it.
    """

    kind: str
    source: Path
    records: tuple[Record, ...]
    captions: tuple[Caption, ...] = ()
    queries: tuple[Query, ...] = ()
    problems: tuple[str, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def dataset(self, *, skip_bad: bool = False) -> Dataset:
        """The sound entries; with ``skip_bad`` the others are listed in ``Dataset.skipped``.

        Raises:
            DatasetError: entries that cannot be used or images that are missing, all of them
                listed; with ``skip_bad`` only where no image is left without them.
        """
        bad = (*self.problems, *self.missing.values())
        records = tuple(r for r in self.records if r.image_id not in self.missing)
        if bad and (not skip_bad or not records):
            raise DatasetError(self.source, bad)
        captions = tuple(c for c in self.captions if c.image_id not in self.missing)
        return Dataset(self.kind, self.source, records, captions, self.queries, bad, self.notes)
