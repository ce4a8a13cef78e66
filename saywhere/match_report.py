"""How far match probabilities hold on queries whose images are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from saywhere.errors import InputError
from saywhere.location_metrics import calibration_error
from saywhere.match import evenly_spaced, fit_matches, is_confident, match_probabilities
from saywhere.products import exact_scores
from saywhere.sharpness import FOLDS, NONE_SHARE, Floats, Sharpness, place_folds
from saywhere.types import BoolArray, FloatArray, IntArray

_EVERY = round(1 / NONE_SHARE)
_HITS = 10  # whose probabilities are checked, a query
_ACCEPTED = 0.95
_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class ScoredPairs:
    """Queries with the scores of a whole gallery; once made, for as many reports as wanted.

    Attributes:
        scores: (r, n).
        right: (r,) the image each query describes.
        places: (n,) place of each image.
    """

    scores: FloatArray
    right: IntArray
    places: IntArray


def score_pairs(
    vectors: tuple[FloatArray, FloatArray], target: IntArray, places: IntArray
) -> ScoredPairs:
    """All queries, or evenly spaced ones where the scores of all would not be small.

    Args:
        vectors: (n, d) of the images and (q, d) of the queries.
        target: (q,) the image each query describes.
        places: (n,) place of each image.
    """
    images, texts = vectors
    rows = evenly_spaced(len(texts), len(images))
    return ScoredPairs(exact_scores(texts[rows], images), target[rows], places)


def match_report(pairs: ScoredPairs, fitted: Sharpness | None = None) -> dict[str, Any] | None:
    """How far the probabilities hold, fitted and checked on different places.

    Args:
        fitted: on other places, as ``search`` uses it; None: on four of five folds of these.

    Returns:
        JSON-able. ``expected_calibration_error`` of the first ten hits' probabilities and of the
        first hit's, where every tenth query has its place taken out of the gallery, as often as the
        prior says; ``…_half_gallery``: the same parameters in a random half of the gallery.
        ``confident``: share of queries that ``search`` is confident of, and how often the first hit
        is right for these and for the others. ``none_auroc``: chance that a query whose place was
        taken out of the gallery gets a higher probability of "none" than one whose place is there;
        ``none_fpr_at_95_recall``: share of the former that are taken for matches where 95 % of the
        latter are. ``bins``: reliability of the hits, (mean probability, share right, count);
        ``bins_first``: of the first hits. None where queries are too few.
    """
    scores, right, places = pairs.scores, pairs.right, pairs.places
    asked = places[right]
    try:
        folds = place_folds(asked)
    except InputError:  # too few to fit and to check
        return None
    if fitted is None:
        ladder = fit_matches(scores, right)
        by_fold = [
            ladder.sharpness(np.flatnonzero(folds != fold), NONE_SHARE) for fold in range(FOLDS)
        ]
    else:
        by_fold = [fitted] * FOLDS
    judged = [
        _judge(scores[row], right[row], places, by_fold[fold], absent=row % _EVERY == 0)
        for row, fold in enumerate(folds)
    ]
    return _summed_up(judged) | {
        "cross_fitted": fitted is None,
        "queries": len(right),
        "places": len(np.unique(asked)),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """What is said of one query: hits as (probability, right), and of "none" with and without."""

    hits: tuple[Floats, BoolArray]
    half: tuple[Floats, BoolArray]
    none: float
    none_without: float
    confident: bool


def _judge(
    scores: FloatArray, right: int, places: IntArray, sharpness: Sharpness, *, absent: bool
) -> _Judged:
    """Args: scores: (n,) of one query; absent: take its place out where hits are checked."""
    numbers = np.arange(len(scores))
    others = numbers[places != places[right]]
    seen = others if absent else numbers
    half = seen[(np.random.default_rng(int(right)).random(len(seen)) < 1 / 2) | (seen == right)]
    hits = _first_hits(scores, seen, right, sharpness)
    return _Judged(
        hits=hits,
        half=_first_hits(scores, half, right, sharpness),
        none=float(match_probabilities(scores[None], sharpness).none[0]),
        none_without=float(match_probabilities(scores[None, others], sharpness).none[0]),
        confident=is_confident(float(hits[0][0])),
    )


def _first_hits(
    scores: FloatArray, seen: IntArray, right: int, sharpness: Sharpness
) -> tuple[Floats, BoolArray]:
    """Probabilities of the first ten of the images ``seen``, and which is the right one."""
    found = match_probabilities(scores[None, seen], sharpness).images[0]
    best = np.argsort(-found, kind="stable")[:_HITS]
    return found[best], seen[best] == right


def _summed_up(judged: list[_Judged]) -> dict[str, Any]:
    hits = _joined([one.hits for one in judged])
    half = _joined([one.half for one in judged])
    first = np.asarray([one.hits[0][0] for one in judged])
    first_right = np.asarray([one.hits[1][0] for one in judged])
    confident = np.asarray([one.confident for one in judged])
    there = np.asarray([one.none for one in judged])
    without = np.asarray([one.none_without for one in judged])
    return {
        "expected_calibration_error": calibration_error(*hits),
        "expected_calibration_error_first": calibration_error(first, first_right),
        "expected_calibration_error_half_gallery": calibration_error(*half),
        "first_probability": float(first.mean()),
        "first_right": float(first_right.mean()),
        "confident": float(confident.mean()),
        "right_if_confident": _share(first_right[confident]),
        "right_if_not": _share(first_right[~confident]),
        "none_probability": float(there.mean()),
        "none_probability_without_the_place": float(without.mean()),
        "none_auroc": _auroc(without, there),
        "none_fpr_at_95_recall": float((without <= np.quantile(there, _ACCEPTED)).mean()),
        "bins": _bins(*hits),
        "bins_first": _bins(first, first_right),
    }


def _joined(hits: list[tuple[Floats, BoolArray]]) -> tuple[Floats, BoolArray]:
    return np.concatenate([p for p, _ in hits]), np.concatenate([right for _, right in hits])


def _share(right: BoolArray) -> float | None:
    return float(right.mean()) if len(right) else None


def _auroc(positive: Floats, negative: Floats) -> float:
    """Chance that a positive is above a negative, ties half: Mann and Whitney's U by ranks."""
    ordered = np.sort(negative)
    below = np.searchsorted(ordered, positive, "left")
    up_to = np.searchsorted(ordered, positive, "right")
    return float((below + up_to).mean() / (2 * len(negative)))


def _bins(confidence: Floats, right: BoolArray) -> list[list[float]]:
    """Of equal count, ascending: mean probability, share right, count."""
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(_BINS, len(order)))
    return [[float(confidence[p].mean()), float(right[p].mean()), len(p)] for p in parts]
