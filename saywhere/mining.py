"""Hard negatives: for each text the most similar images that are certainly wrong. Arrays only.

Exact: similarities are computed in chunks of texts, so memory is chunk x images. Candidates of the
same place or with an equal caption are masked, and a candidate *too* close to the positive is
dropped as a likely false negative (the relative margin of sentence-transformers'
``mine_hard_negatives``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from saywhere.errors import InputError
from saywhere.types import BoolArray, FloatArray, IntArray

NONE = -1


@dataclass(frozen=True, slots=True)
class MiningItems:
    """Texts and images that belong together row by row.

    Attributes:
        texts, images: (n, d) float32, unit length; row i is a pair.
        places: (n,) int64 place codes.
        captions: (n,) int64 caption codes; equal texts share a code.
    """

    texts: FloatArray
    images: FloatArray
    places: IntArray
    captions: IntArray

    def __post_init__(self) -> None:
        lengths = {len(self.texts), len(self.images), len(self.places), len(self.captions)}
        if len(lengths) != 1:
            raise InputError(f"mining: rows differ in number ({sorted(lengths)}); pass pairs")


def mine_hard_negatives(
    items: MiningItems, top_k: int, *, relative_margin: float = 0.0, chunk: int = 1024
) -> IntArray:
    """Indices of each text's hardest negatives, hardest first, ties by index.

    Args:
        top_k: negatives kept per text.
        relative_margin: drop candidates with similarity above ``positive - margin * |positive|``;
            0 drops none, however similar.
        chunk: texts per block.

    Returns:
        (n, top_k) int64; ``NONE`` (-1) where fewer negatives are left.
    """
    count = len(items.texts)
    mined = np.full((count, top_k), NONE, np.int64)
    for start in range(0, count, chunk):
        rows = slice(start, min(start + chunk, count))
        similarity = items.texts[rows] @ items.images.T  # (chunk, n)
        allowed = _allowed(items, rows)
        if relative_margin > 0:
            positive = similarity[np.arange(rows.stop - start), np.arange(start, rows.stop)]
            limit = positive - relative_margin * np.abs(positive)
            allowed &= similarity <= limit[:, None]
        mined[rows] = _top(np.where(allowed, similarity, -np.inf), top_k)
    return mined


def _allowed(items: MiningItems, rows: slice) -> BoolArray:
    """(chunk, n): neither the same place nor an equal caption."""
    other_place = items.places[rows, None] != items.places[None, :]
    other_caption = items.captions[rows, None] != items.captions[None, :]
    return np.asarray(other_place & other_caption, np.bool_)


def _top(scores: FloatArray, k: int) -> IntArray:
    """(n, k) columns by descending score, ties by column; NONE where the score is -inf."""
    kept = min(k, scores.shape[1])
    # The k-th largest value bounds the contenders; all tied with it are sorted, then cut.
    bound = np.partition(scores, -kept, axis=1)[:, -kept]
    out = np.full((len(scores), k), NONE, np.int64)
    for row, (values, least) in enumerate(zip(scores, bound, strict=True)):
        columns = np.flatnonzero((values >= least) & np.isfinite(values))
        order = np.lexsort((columns, -values[columns]))[:k]
        out[row, : len(order)] = columns[order]
    return out
