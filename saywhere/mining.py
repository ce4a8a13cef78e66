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
    # Accumulated in float64 and rounded once: in float32 the product of two equal vectors depends
    # on where in a block they lie, and then ties would be broken by chance (as in ``store``).
    images = items.images.astype(np.float64).T  # (d, n)
    mined = np.full((len(items.texts), top_k), NONE, np.int64)
    for start in range(0, len(mined), chunk):
        rows = np.arange(start, min(start + chunk, len(mined)))
        similarity = (items.texts[rows].astype(np.float64) @ images).astype(np.float32)
        dropped = _secret_positives(items, rows)
        if relative_margin > 0:
            positive = similarity[rows - start, rows]
            dropped |= similarity > (positive - relative_margin * np.abs(positive))[:, None]
        similarity[dropped] = -np.inf
        mined[rows] = _top(similarity, top_k)
    return mined


def _secret_positives(items: MiningItems, rows: IntArray) -> BoolArray:
    """(chunk, n): the same place, or an equal caption."""
    same_place = items.places[rows, None] == items.places[None, :]
    same_caption = items.captions[rows, None] == items.captions[None, :]
    return np.asarray(same_place | same_caption, np.bool_)


def _top(scores: FloatArray, k: int) -> IntArray:
    """(n, k) columns by descending score, ties by column; NONE where the score is -inf."""
    kept = min(k, scores.shape[1])
    # The k-th largest value bounds the contenders; all tied with it are sorted, then cut.
    bound = np.partition(scores, -kept, axis=1)[:, -kept]
    out = np.full((len(scores), k), NONE, np.int64)
    for row, (values, least) in enumerate(zip(scores, bound, strict=True)):
        columns = np.flatnonzero((values >= least) & np.isfinite(values))
        # Columns ascend, so a stable sort leaves ties in their order.
        best = columns[np.argsort(-values[columns], kind="stable")][:k]
        out[row, : len(best)] = best
    return out
