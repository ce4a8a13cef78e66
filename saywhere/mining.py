"""Hard negatives: for each text the most similar images that are certainly wrong. Arrays only.

Exact: similarities are computed in chunks of texts, so memory is chunk x images; see ``products``
for how ties are kept. Candidates of the same place or with an equal caption are masked, and a
candidate *too* close to the positive is dropped as a likely false negative (the relative margin of
sentence-transformers' ``mine_hard_negatives``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saywhere.errors import InputError
from saywhere.products import (
    exact_pairs,
    float32_error,
    floor_of_kth,
    pairs_above,
    places_in_groups,
)
from saywhere.types import FloatArray, IntArray

NONE = -1


@dataclass(frozen=True, slots=True)
class MiningItems:
    """Texts and images that belong together row by row.

    Attributes:
        texts, images: (n, d) float32, unit length; row i is a pair.
        places: (n,) int64 place codes.
        captions: (n,) int64 caption codes; equal texts share a code.

    Raises:
        InputError: rows or widths that differ, or vectors that are not finite.
    """

    texts: FloatArray
    images: FloatArray
    places: IntArray
    captions: IntArray

    def __post_init__(self) -> None:
        shapes = {self.texts.shape, self.images.shape}
        rows = {len(self.texts), len(self.places), len(self.captions)}
        if len(shapes) != 1 or len(rows) != 1 or self.texts.ndim != 2:
            raise InputError(
                f"mining: texts {self.texts.shape}, images {self.images.shape}, places "
                f"{self.places.shape}, captions {self.captions.shape} differ; pass pairs"
            )
        for name, vectors in (("texts", self.texts), ("images", self.images)):
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                raise InputError(
                    f"mining: {len(bad)} of the {name} are not finite (first: row {bad[0]}); "
                    "the heads diverged, lower the learning rate"
                )


def mine_hard_negatives(
    items: MiningItems, top_k: int, *, relative_margin: float = 0.0, chunk: int = 256
) -> IntArray:
    """Indices of each text's hardest negatives, hardest first, ties by index.

    Args:
        top_k: negatives kept per text, at least 1.
        relative_margin: drop candidates with similarity above ``positive - margin * |positive|``;
            0 drops none, however similar.
        chunk: texts per block; the result does not depend on it.

    Returns:
        (n, top_k) int64; ``NONE`` (-1) where fewer negatives are left.

    Raises:
        InputError: ``top_k`` or ``chunk`` below 1, or a negative margin.
    """
    if top_k < 1 or chunk < 1 or not relative_margin >= 0:
        raise InputError(
            f"mining: top_k {top_k}, chunk {chunk}, relative_margin {relative_margin}; give at "
            "least 1, 1 and 0"
        )
    count = len(items.texts)
    every = np.arange(count)
    ceiling = np.full(count, np.inf, np.float32)  # the highest similarity that is kept
    if relative_margin > 0:
        positive = exact_pairs(items.texts, items.images, every, every)
        np.subtract(positive, relative_margin * np.abs(positive), out=ceiling)
    secret = [_Groups(items.places), _Groups(items.captions)]
    error = float32_error(items.texts, items.images)
    mined = np.full((count, top_k), NONE, np.int64)
    for start in range(0, count, chunk):
        rows = every[start : start + chunk]
        texts = items.texts[rows]
        similarity = texts @ items.images.T  # off by up to ``error``
        for groups in secret:
            similarity[groups.pairs(rows)] = -np.inf
        row, column = _possible(similarity, ceiling[rows], error[rows], top_k)
        exact = exact_pairs(texts, items.images, row, column)
        kept = exact <= ceiling[rows][row]
        _place(mined[rows[0] : rows[-1] + 1], row[kept], column[kept], exact[kept])
    return mined


class _Groups:
    """Rows that share a code, found without comparing all with all.

    Args:
        codes: (n,) int64.
    """

    def __init__(self, codes: IntArray) -> None:
        self._order = np.argsort(codes, kind="stable")
        ascending = codes[self._order]
        self._start = np.searchsorted(ascending, codes, "left")
        self._size = np.searchsorted(ascending, codes, "right") - self._start

    def pairs(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Every (place in ``rows``, row of the same code), the row itself included."""
        size = self._size[rows]
        place = np.repeat(np.arange(len(rows)), size)
        return place, self._order[self._start[rows][place] + places_in_groups(place)]


def _possible(
    similarity: FloatArray, ceiling: FloatArray, error: FloatArray, k: int
) -> tuple[IntArray, IntArray]:
    """Pairs that may be among the k best below ``ceiling``; alters ``similarity``.

    Args:
        similarity: (chunk, n), each entry off by up to its row's error; -inf where masked.
        ceiling, error: (chunk,).
    """
    similarity[similarity > (ceiling + error)[:, None]] = -np.inf
    # Some of these will turn out to be above the ceiling: look as many places further down.
    unsure = int((similarity > (ceiling - error)[:, None]).sum(1).max(initial=0))
    depth = min(k + unsure, similarity.shape[1])
    least = floor_of_kth(similarity, depth) - 2 * error
    return pairs_above(similarity, np.maximum(least, np.finfo(np.float32).min))  # none masked


def _place(mined: IntArray, row: IntArray, column: IntArray, exact: FloatArray) -> None:
    """Write the best columns of each row into ``mined`` (chunk, k), best first, ties by column."""
    order = np.lexsort((column, -exact, row))
    row, column = row[order], column[order]
    rank = places_in_groups(row)
    best = rank < mined.shape[1]
    mined[row[best], rank[best]] = column[best]
