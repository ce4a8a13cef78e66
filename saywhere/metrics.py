"""Retrieval metrics over arrays: ranks, average precision, and what they sum up to.

``recall_at_k`` here and everywhere in saywhere is the share of queries with at least one right
answer among the first k, in percent (0..100); information retrieval calls it Success@k.

Ties are broken against the system: a positive that scores the same as negatives ranks after all of
them, so constant scores earn the worst rank and not a lucky one. Positives tied with each other do
not hurt each other. A positive whose score is NaN is never found, a negative whose score is NaN
ranks below everything.

Work goes in blocks of queries: memory is bounded by a block, not by queries times gallery.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike

from saywhere.errors import InputError
from saywhere.types import BoolArray, FloatArray, IntArray

# Scores looked at together: 16 Mi float32 are 64 MB, with masks of a quarter of that.
_BLOCK_CELLS = 1 << 24


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How well a set of queries was answered.

    Attributes:
        count: queries.
        recall_at_1, recall_at_5, recall_at_10: percent of queries with at least one right answer
            among the first k, 0..100.
        mrr: mean reciprocal rank of the first right answer, 0..1.
        map: mean average precision, 0..1.
        median_rank: of the first right answer, 1 is best; a miss counts as gallery size + 1.
    """

    count: int
    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mrr: float
    map: float
    median_rank: float

    @property
    def r_mean(self) -> float:
        """Mean of the three recalls, in percent (0..100)."""
        return (self.recall_at_1 + self.recall_at_5 + self.recall_at_10) / 3

    def to_dict(self) -> dict[str, float]:
        """The fields and ``r_mean``, ready for JSON."""
        return {**asdict(self), "r_mean": self.r_mean}


def ranks(scores: FloatArray, positives: BoolArray, *, allow_missing: bool = False) -> IntArray:
    """Rank of each query's best-ranked positive, ties against the system.

    Args:
        scores: (q, g) floating point, higher is better; a memory map is read block by block.
        positives: (q, g) bool, True where the image is a right answer.
        allow_missing: let a query without any positive count as a miss instead of refusing it.

    Returns:
        (q,) int64, 1 is best; g + 1 where no positive has a score (none there, or all NaN).

    Raises:
        InputError: shapes or dtypes that do not fit, or queries without any positive.
    """
    result = np.empty(scores.shape[:1], np.int64)
    for rows, block, mask in _matrix_blocks(scores, positives, allow_missing):
        result[rows] = _block_ranks(block, mask)
    return result


def average_precision(
    scores: FloatArray, positives: BoolArray, *, allow_missing: bool = False
) -> FloatArray:
    """Average precision of each query, ties against the system.

    The mean, over a query's positives, of the precision at the positive's rank (Manning, Raghavan
    and Schütze, Introduction to Information Retrieval, 2008, section 8.4), never interpolated.

    Args:
        scores: (q, g) floating point, higher is better.
        positives: (q, g) bool, True where the image is a right answer.
        allow_missing: as in :func:`ranks`.

    Returns:
        (q,) float32 in 0..1; 0 exactly where no positive has a score.

    Raises:
        InputError: as in :func:`ranks`.
    """
    result = np.empty(scores.shape[:1], np.float32)
    for rows, block, mask in _matrix_blocks(scores, positives, allow_missing):
        result[rows] = _block_average_precision(block, mask)
    return result


def summarise(ranks: IntArray, ap: FloatArray) -> Retrieval:
    """Sum up the queries.

    Args:
        ranks: (q,) int64 as :func:`ranks` returns them.
        ap: (q,) average precision of the same queries, 0..1. Where it is 0 nothing was found and
            the query is a miss at every k: the rank alone can't say so, since the g + 1 of a miss
            is below 10 in a small gallery.

    Raises:
        InputError: no queries, different lengths, or values out of range.
    """
    if ranks.ndim != 1 or ranks.shape != ap.shape or not len(ranks):
        raise InputError(f"ranks {ranks.shape}, ap {ap.shape}: pass both (q,) of the same queries")
    if ranks.min() < 1 or not ((ap >= 0) & (ap <= 1)).all():
        raise InputError(
            f"ranks from {ranks.min()}, ap {ap.min()}..{ap.max()}: must be from 1 and in 0..1; "
            "pass what metrics.ranks and average_precision return"
        )
    found = ap > 0
    within = [100.0 * float(np.mean(found & (ranks <= k))) for k in (1, 5, 10)]
    return Retrieval(
        count=len(ranks),
        recall_at_1=within[0],
        recall_at_5=within[1],
        recall_at_10=within[2],
        mrr=float(np.mean(found / ranks)),
        map=float(np.mean(ap, dtype=np.float64)),
        median_rank=float(np.median(ranks)),
    )


def expected_hits(
    scores: FloatArray, positives: BoolArray, k: int, *, allow_missing: bool = False
) -> FloatArray:
    """Chance that each query has a positive among its first k, ties ordered at random.

    Where :func:`ranks` counts every tie against the system, here a positive and a negative that
    score the same are each first half the time. With a better candidates and p positives among t
    tied with the best of them, the first k miss with the hypergeometric probability
    C(t - p, k - a) / C(t, k - a). Expected recall is its mean.

    Args:
        scores: (q, g) floating point, higher is better.
        positives: (q, g) bool, True where the image is a right answer.
        k: at least 1.
        allow_missing: as in :func:`ranks`.

    Returns:
        (q,) float32 in 0..1; 0 where no positive has a score.

    Raises:
        InputError: as in :func:`ranks`.
    """
    result = np.zeros(scores.shape[:1], np.float32)
    for rows, block, mask in _matrix_blocks(scores, positives, allow_missing):
        best = np.fmax.reduce(block, axis=1, where=mask, initial=np.nan)[:, None]
        tied = block == best
        counts = zip(
            np.count_nonzero(block > best, axis=1).tolist(),
            np.count_nonzero(tied, axis=1).tolist(),
            np.count_nonzero(tied & mask, axis=1).tolist(),
            strict=True,
        )
        result[rows] = [_hit_chance(*each, k) for each in counts]
    return result


def chance_recall(gallery: int, positives: ArrayLike, k: int) -> float:
    """Expected ``recall_at_k`` of a random order, exact.

    A query with m positives among g images misses with the hypergeometric probability
    C(g - m, k) / C(g, k); computed in whole numbers, so nothing cancels.

    Args:
        gallery: images g, at least 1.
        positives: whole number of positives m of each query, 0..g; one number or any shape.
        k: at least 1; beyond g it means the whole gallery.

    Returns:
        Percent, 0..100, mean over the queries.

    Raises:
        InputError: a value out of range, or no queries.
    """
    counts = np.asarray(positives).ravel()
    if gallery < 1 or k < 1:
        raise InputError(f"gallery {gallery}, k {k}: both must be at least 1")
    if not len(counts) or counts.dtype.kind not in "iu":
        raise InputError(
            f"positives: {len(counts)} values of type {counts.dtype}; give one whole number a query"
        )
    if counts.min() < 0 or counts.max() > gallery:
        raise InputError(
            f"positives {counts.min()}..{counts.max()}: must lie in 0..{gallery}, the gallery's "
            "size; count the positives in the gallery itself"
        )
    drawn = min(k, gallery)
    orders = math.comb(gallery, drawn)
    sizes, queries = np.unique(counts, return_counts=True)
    hit = [(orders - math.comb(gallery - int(m), drawn)) / orders for m in sizes]
    return 100.0 * float(np.dot(hit, queries)) / len(counts)


def require_float(name: str, values: FloatArray) -> None:
    """Refuse an array that isn't floating point.

    Raises:
        InputError: it isn't; ``name`` says which.
    """
    if values.dtype.kind != "f":
        raise InputError(f"{name} of type {values.dtype}: must be floating point, float32 is usual")


def require_positives(present: BoolArray) -> None:
    """Refuse queries without any positive.

    Args:
        present: (q,) bool, True where the gallery holds a right answer.

    Raises:
        InputError: some have none.
    """
    missing = np.flatnonzero(~present)
    if len(missing):
        raise InputError(
            f"{len(missing)} of {len(present)} queries have no positive in the gallery (first: row "
            f"{missing[0]}); drop them, or pass allow_missing=True to count them as misses"
        )


def _block_ranks(scores: FloatArray, positives: BoolArray) -> IntArray:
    """(q, g) scores and mask -> (q,) ranks."""
    # fmax passes over NaN, so this stays NaN exactly where no positive has a score.
    best = np.fmax.reduce(scores, axis=1, where=positives, initial=np.nan)
    ahead = np.count_nonzero((scores >= best[:, None]) & ~positives, axis=1)
    found: IntArray = np.where(np.isnan(best), scores.shape[1], ahead)
    return found + 1


def _block_average_precision(scores: FloatArray, positives: BoolArray) -> FloatArray:
    """(q, g) scores and mask -> (q,) average precision."""
    result = np.zeros(len(scores), np.float32)
    for row, (score, mask) in enumerate(zip(scores, positives, strict=True)):
        right, wrong = _without_nan(score[mask]), _without_nan(score[~mask])
        if not len(right):
            continue
        # The i-th positive stands after i - 1 positives and every negative not worse than it.
        ahead = len(wrong) - np.searchsorted(np.sort(wrong), np.sort(right)[::-1], side="left")
        order = np.arange(1, len(right) + 1)
        result[row] = np.sum(order / (order + ahead)) / np.count_nonzero(mask)
    return result


def _hit_chance(ahead: int, tied: int, right: int, k: int) -> float:
    """Of a positive among the first k: ``right`` of ``tied`` equal candidates are positives."""
    drawn = min(k - ahead, tied)
    if drawn <= 0 or not right:
        return 0.0
    return 1 - math.comb(tied - right, drawn) / math.comb(tied, drawn)


def _without_nan(scores: FloatArray) -> FloatArray:
    return scores[~np.isnan(scores)]


def _matrix_blocks(
    scores: FloatArray, positives: BoolArray, allow_missing: bool
) -> Iterator[tuple[slice, FloatArray, BoolArray]]:
    """Check a score matrix, then hand it out in blocks of rows."""
    if scores.ndim != 2 or scores.shape != positives.shape:
        raise InputError(
            f"scores {scores.shape}, positives {positives.shape}: pass both (queries, gallery)"
        )
    require_float("scores", scores)
    if positives.dtype != np.bool_:
        raise InputError(f"positives of type {positives.dtype}: must be bool; use .astype(bool)")
    if not allow_missing:
        require_positives(np.logical_or.reduce(positives, axis=1))
    step = max(1, _BLOCK_CELLS // max(1, scores.shape[1]))
    for start in range(0, len(scores), step):
        rows = slice(start, start + step)
        yield rows, scores[rows], positives[rows]
