"""Dot products that are fast and exact. Arrays only.

A float32 BLAS product is fast, but gives equal rows scores that differ in the last bit, depending
on where in a block they lie; then ties would be broken by chance. Accumulating in float64 and
rounding once doesn't depend on that, but costs several times as much. So all pairs are scored in
float32, and only those that its error bound cannot rule out are scored again in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.types import FloatArray, IntArray

_WIDE = 1 << 21  # components widened at once: bounds a float64 copy to 16 MB
_PAIRED = 1 << 16  # for single pairs: half a MB a side stays in the cache
_ROUNDING = 2.0**-24  # unit roundoff of float32
_GROUPS = 8  # per wanted entry: the best rarely share one
_TINY = 1e-34  # sums of products below this lose bits at the end of float32's range


def exact_scores(queries: FloatArray, vectors: FloatArray) -> FloatArray:
    """All dot products, accumulated in float64 and rounded to float32 once.

    Args:
        queries: (q, d) float32.
        vectors: (n, d) float32.

    Returns:
        (q, n) float32; the same for equal rows, wherever they lie.
    """
    wide = queries.astype(np.float64)
    scores = np.empty((len(queries), len(vectors)), dtype=np.float32)
    step = max(1, _WIDE // max(1, vectors.shape[1]))
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        scores[:, start : start + step] = wide @ block.T
    return scores


def exact_pairs(
    queries: FloatArray, vectors: FloatArray, rows: IntArray, columns: IntArray
) -> FloatArray:
    """As ``exact_scores``, of m chosen pairs: ``queries[rows]`` by ``vectors[columns]``, (m,)."""
    scores = np.empty(len(rows), np.float32)
    step = max(1, _PAIRED // max(1, vectors.shape[1]))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        left = queries[rows[part]].astype(np.float64)
        right = vectors[columns[part]].astype(np.float64)
        scores[part] = np.einsum("ij,ij->i", left, right)
    return scores


def floor_of_kth(scores: FloatArray, k: int) -> FloatArray:
    """A bound at or a little below the k-th largest of each row: (q,) of ``scores`` (q, n), k <= n.

    The k-th largest of the maxima of groups of columns is such a bound: as many groups hold an
    entry of that size. Finding it takes a fifth of the time that selecting the k-th takes.
    """
    width = scores.shape[1] // (_GROUPS * k)
    if width > 1:
        groups = scores.shape[1] // width
        shape = (len(scores), width, groups)
        scores = scores[:, : width * groups].reshape(shape).max(axis=1)
    return np.asarray(np.partition(scores, -k, axis=1)[:, -k])


def pairs_above(scores: FloatArray, least: FloatArray) -> tuple[IntArray, IntArray]:
    """Rows and columns of the entries of ``scores`` (q, n) that reach ``least`` (q,)."""
    flat = np.flatnonzero(scores >= least[:, None])  # far faster than nonzero of two axes
    rows = flat // max(1, scores.shape[1])
    return rows, flat - rows * scores.shape[1]


def float32_error(queries: FloatArray, vectors: FloatArray) -> FloatArray:
    """How far a float32 product of ``queries`` and ``vectors`` may be from ``exact_scores``.

    In whatever order d products are summed, the sum is off by at most gamma_d * |q| * |v| (Higham
    2002, section 3.1, with Cauchy and Schwarz).

    Args:
        queries: (q, d) float32, norms below 1e19.
        vectors: (n, d) float32, likewise.

    Returns:
        (q,) float32, one bound for all ``vectors``.
    """
    longest = np.sqrt(_squares(vectors).max(initial=_TINY))
    # + 4: the rounding of the exact score, and of this bound; 1 %: higher orders.
    gamma = 1.01 * (queries.shape[1] + 4) * _ROUNDING
    bound = gamma * longest * np.sqrt(np.maximum(_squares(queries), _TINY)) + _TINY
    return np.asarray(bound, np.float32)


def places_in_groups(groups: IntArray) -> IntArray:
    """(m,) 0, 1, 2 … within each run of equal ``groups`` (m,), which ascend."""
    first = np.flatnonzero(np.diff(groups, prepend=groups[:1] - 1))
    lengths = np.diff(first, append=len(groups))
    return np.arange(len(groups)) - np.repeat(first, lengths)


@dataclass(frozen=True, slots=True, eq=False)
class ScoreTotals:
    """What q queries' scores of all n images come to.

    Attributes:
        temperature: what the exponentials were taken at.
        count: n.
        mean: (q,) float64 mean score; NaN of none.
        log_mean_exp: (q,) float64 log mean exp((score - mean) / temperature); NaN of none.
    """

    temperature: float
    count: int
    mean: NDArray[np.float64]
    log_mean_exp: NDArray[np.float64]

    def of(self, query: int) -> ScoreTotals:
        """Of one query."""
        only = slice(query, query + 1)
        return ScoreTotals(self.temperature, self.count, self.mean[only], self.log_mean_exp[only])


class ScoreTally:
    """``ScoreTotals`` out of a stream of blocks; memory holds a block's exponentials."""

    def __init__(self, queries: int, temperature: float) -> None:
        self._temperature, self._count = temperature, 0
        self._sum = np.zeros(queries)
        self._top = np.full(queries, -np.inf, np.float32)
        self._exponentials = np.zeros(queries)  # sum of exp((score - top) / temperature)

    def add(self, scores: FloatArray) -> None:
        """Take the next block, (q, n) float32."""
        if not scores.shape[1]:
            return
        before = self._top
        self._count += scores.shape[1]
        self._sum += scores.sum(1, dtype=np.float64)
        self._top = np.maximum(before, scores.max(1))
        shares = scores - self._top[:, None]
        shares /= np.float32(self._temperature)
        np.exp(shares, out=shares)
        fallen = (before.astype(np.float64) - self._top) / self._temperature
        self._exponentials *= np.exp(fallen)
        self._exponentials += shares.sum(1, dtype=np.float64)

    def totals(self) -> ScoreTotals:
        """Of what was taken so far."""
        if not self._count:
            nothing = np.full(len(self._sum), np.nan)
            return ScoreTotals(self._temperature, 0, nothing, nothing)
        mean = self._sum / self._count
        above = (self._top - mean) / self._temperature
        log_mean_exp = above + np.log(self._exponentials / self._count)
        return ScoreTotals(self._temperature, self._count, mean, log_mean_exp)


class Best:
    """The k best vectors of each query out of a stream of blocks, and all that tie with the k-th.

    Scores and order are those of ``exact_scores``; memory holds a block's scores and the best.

    Args:
        queries: (q, d) float32.
        tally: takes all scores of the stream along, those of the best exact, the others as float32
            products have them; costs an exponential a score.

    Attributes:
        rows, positions, scores: (m,) flat: a query, the position of a vector in the stream and
            its score; by query, then best first, then by position.
    """

    def __init__(self, queries: FloatArray, k: int, tally: ScoreTally | None = None) -> None:
        self._queries, self._k, self._seen, self._tally = queries, k, 0, tally
        self._least = np.full(len(queries), -np.inf, np.float32)  # the k-th best score so far
        self.rows = np.empty(0, np.int64)
        self.positions = np.empty(0, np.int64)
        self.scores = np.empty(0, np.float32)

    def offer(self, vectors: FloatArray) -> IntArray:
        """Take the next block, (n, d) float32, of the stream.

        Returns:
            the positions in the stream of this block's vectors that are among the best so far,
            ascending.
        """
        before = self._seen
        self._seen += len(vectors)
        approximate = self._queries @ vectors.T  # (q, n)
        rows, columns = self._possible(approximate, vectors)
        scores = exact_pairs(self._queries, vectors, rows, columns)
        if self._tally is not None:
            approximate[rows, columns] = scores  # the largest weigh most
            self._tally.add(approximate)
        self._merge(rows, columns + before, scores)
        return np.unique(self.positions[self.positions >= before])

    def _possible(self, approximate: FloatArray, vectors: FloatArray) -> tuple[IntArray, IntArray]:
        """Pairs whose exact score may be among the k best."""
        error = float32_error(self._queries, vectors)
        bound = self._least
        if self._k < len(vectors):
            bound = np.maximum(bound, floor_of_kth(approximate, self._k) - error)
        return pairs_above(approximate, bound - error)

    def _merge(self, rows: IntArray, positions: IntArray, scores: FloatArray) -> None:
        rows = np.concatenate([self.rows, rows])
        positions = np.concatenate([self.positions, positions])
        scores = np.concatenate([self.scores, scores])
        order = np.lexsort((positions, -scores, rows))
        rows, positions, scores = rows[order], positions[order], scores[order]
        last = places_in_groups(rows) == self._k - 1
        self._least[rows[last]] = scores[last]
        kept = scores >= self._least[rows]
        self.rows, self.positions, self.scores = rows[kept], positions[kept], scores[kept]


def _squares(vectors: FloatArray) -> NDArray[np.float64]:
    """(n,) squared norms, never below the true ones."""
    squares: NDArray[np.float64] = np.einsum("ij,ij->i", vectors, vectors).astype(np.float64)
    squares *= 1 + 2 * (vectors.shape[1] + 1) * _ROUNDING
    return squares
