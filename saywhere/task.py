"""What is asked of a system that is measured: texts, a gallery and which image answers which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saywhere.data.track4 import read_truth
from saywhere.errors import InputError
from saywhere.types import Dataset, IntArray, Platform, Query, Record


@dataclass(frozen=True, slots=True)
class Task:
    """Queries with their right answers, before anything is embedded.

    Attributes:
        records: the gallery.
        queries: the texts.
        target: (q,) int64, row of the image each text describes.
        places: (n,) place of each image.
        platforms: (n,) platform of each image, for the breakdown only.
    """

    records: tuple[Record, ...]
    queries: tuple[Query, ...]
    target: IntArray
    places: tuple[str, ...]
    platforms: tuple[Platform, ...]


def make_task(dataset: Dataset, truth: Path | None = None) -> Task:
    """Pair texts and images.

    Args:
        dataset: captioned images, or a Track 4 folder.
        truth: Track 4 answers; default ``ground_truth.json`` in the folder. Read for scoring only.

    Raises:
        InputError: no captions and no truth.
    """
    if dataset.kind == "track4":
        return _track4_task(dataset, truth)
    if not dataset.captions:
        raise InputError(
            f"{dataset.source}: has no captions to evaluate with; "
            "name a GeoText JSON file, or a Track 4 folder with its ground_truth.json"
        )
    row = {record.image_id: index for index, record in enumerate(dataset.records)}
    unnamed = [r.image_id for r in dataset.records if r.place_id is None or r.platform is None]
    if unnamed:
        raise InputError(f"{dataset.source}: {unnamed[0]} has no place or platform to score by")
    return Task(
        records=dataset.records,
        queries=tuple(Query(f"q{i + 1}", c.text) for i, c in enumerate(dataset.captions)),
        target=np.asarray([row[caption.image_id] for caption in dataset.captions], np.int64),
        places=tuple(str(record.place_id) for record in dataset.records),
        platforms=tuple(record.platform for record in dataset.records if record.platform),
    )


def _track4_task(dataset: Dataset, truth: Path | None) -> Task:
    path = truth or dataset.source / "ground_truth.json"
    answers = read_truth(path)
    row = {record.image_id: index for index, record in enumerate(dataset.records)}
    unknown = [
        query.query_id
        for query in dataset.queries
        if answers.query_image.get(query.query_id) not in row
    ] + [image for image in row if image not in answers.image_place]
    if unknown:
        raise InputError(
            f"{path}: knows no answer for {unknown[0]} and {len(unknown) - 1} more; "
            "name the truth that belongs to these queries and images"
        )
    return Task(
        records=dataset.records,
        queries=dataset.queries,
        target=np.asarray([row[answers.query_image[q.query_id]] for q in dataset.queries], "i8"),
        places=tuple(answers.image_place[image] for image in row),
        platforms=tuple(answers.image_platform[image] for image in row),
    )
