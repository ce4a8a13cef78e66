"""Positions in an evaluation: how far off answers are, wherever a task's images have coordinates.

Probabilities are calibrated on the task itself, cross-fitted by place, as ``saywhere calibrate``
does. The truth is the position of the image that a query describes; the right place is that
image's, by its id.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saywhere.calibrate import calibrate_pairs
from saywhere.certainty import Kind
from saywhere.errors import InputError
from saywhere.pair_table import Pairing
from saywhere.products import exact_scores
from saywhere.scored_images import ScoredImages
from saywhere.types import FloatArray, IntArray, Record

_MOST = 1 << 25  # scores; of more, evenly spaced queries are taken


def scored_records(
    records: tuple[Record, ...], place_ids: tuple[str | None, ...], scores: FloatArray
) -> ScoredImages:
    """Records with (q, n) scores, as a store would give them; in the order of ``records``."""
    lat, lon = (
        np.asarray(
            [np.nan if (value := getattr(record, name)) is None else value for record in records],
            np.float64,
        )
        for name in ("lat", "lon")
    )
    return ScoredImages(
        image_ids=tuple(record.image_id for record in records),
        paths=tuple(str(record.path) for record in records),
        platforms=tuple(record.platform for record in records),
        place_ids=place_ids,
        lat=lat,
        lon=lon,
        scores=scores,
    )


def task_location(
    records: tuple[Record, ...],
    places: tuple[str, ...],
    target: IntArray,
    vectors: tuple[FloatArray, FloatArray],
) -> dict[str, Any] | None:
    """As the report of ``calibrate_pairs``.

    Args:
        places: (n,) place of each record.
        target: (q,) the record that each query describes.
        vectors: (n, d) of the records and (q, d) of the queries.

    Returns:
        None where fewer than 20 queries have a position, or of fewer than 5 places.
    """
    images, texts = vectors
    asked = np.asarray(
        [row for row, image in enumerate(target) if records[image].lat is not None], np.int64
    )
    asked = asked[:: max(1, -(-len(asked) * len(images) // _MOST))]
    if not len(asked):
        return None
    seen = [records[target[row]] for row in asked]
    kinds: list[Kind] = ["words"] * len(asked)
    truth = Pairing(
        lat=np.asarray([record.lat for record in seen], np.float64),
        lon=np.asarray([record.lon for record in seen], np.float64),
        metres=np.full(len(asked), np.inf),
        kinds=tuple(kinds),
        place_ids=tuple(places[target[row]] for row in asked),
    )
    scored = scored_records(records, places, exact_scores(texts[asked], images))
    try:
        return dict(calibrate_pairs(truth, scored).report)
    except InputError:  # too few to fit and to check
        return None
