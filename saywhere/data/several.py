"""Several folders, tables and STAC files as one dataset, each image named after its source too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saywhere.data import read
from saywhere.data.hrefs import OWN_FOLDER, Hrefs
from saywhere.data.sources import Sources
from saywhere.types import Dataset


def read_sources(sources: Sources, *, skip_bad: bool = False, hrefs: Hrefs = OWN_FOLDER) -> Dataset:
    """Read every source; of several, image ids are ``name/id`` with the source's short name.

    Args:
        skip_bad, hrefs: as ``data.read``.

    Raises:
        DatasetError, InputError: as ``data.read``, of the first source that cannot be read; nothing
            is taken for deleted because its source is out of reach.
    """
    parts = [(name, read(path, skip_bad=skip_bad, hrefs=hrefs)) for name, path in sources.named]
    if len(parts) == 1:
        return parts[0][1]
    return Dataset(
        kind="several",
        source=Path(str(sources)),
        records=tuple(
            replace(record, image_id=f"{name}/{record.image_id}")
            for name, part in parts
            for record in part.records
        ),
        skipped=tuple(f"{name}/{line}" for name, part in parts for line in part.skipped),
        notes=tuple(f"{name}/{line}" for name, part in parts for line in part.notes),
    )
