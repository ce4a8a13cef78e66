"""Which items train together. Arrays only.

An *item* is one image with its cached views and its texts. A batch is drawn once per item and
epoch; in stage 2 an anchor brings mined hard negatives into its own batch, so the loop and the loss
of stage 1 stay as they are (batch composition, as in Sample4Geo).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from saywhere.mining import NONE
from saywhere.types import PLATFORMS, FloatArray, IntArray, Platform


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Items as flat arrays.

    Attributes:
        views: (total views, image features) float32; item i owns rows
            ``view_start[i] : view_start[i + 1]``.
        texts: (total texts, text features) float32; likewise ``text_start``.
        text_codes: (total texts,) int64; equal texts share a code.
        places: (n,) int64 place codes.
        platforms: (n,) int64 index into ``PLATFORMS``.
    """

    views: FloatArray
    view_start: IntArray
    texts: FloatArray
    text_start: IntArray
    text_codes: IntArray
    places: IntArray
    platforms: IntArray

    def __len__(self) -> int:
        return len(self.places)

    def take(self, items: IntArray) -> TrainingSet:
        """The set of these items alone, in this order."""
        view_rows = [np.arange(self.view_start[i], self.view_start[i + 1]) for i in items]
        text_rows = [np.arange(self.text_start[i], self.text_start[i + 1]) for i in items]
        view_flat, text_flat = np.concatenate(view_rows), np.concatenate(text_rows)
        return TrainingSet(
            views=self.views[view_flat],
            view_start=_starts(view_rows),
            texts=self.texts[text_flat],
            text_start=_starts(text_rows),
            text_codes=self.text_codes[text_flat],
            places=self.places[items],
            platforms=self.platforms[items],
        )

    def of_platform(self, platform: Platform) -> TrainingSet:
        """The items of one platform."""
        return self.take(np.flatnonzero(self.platforms == PLATFORMS.index(platform)))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows into a TrainingSet: one view and one text for each item."""

    items: IntArray
    views: IntArray
    texts: IntArray


def draw_batches(
    data: TrainingSet,
    size: int,
    generator: np.random.Generator,
    *,
    by_platform: bool = False,
    hard: IntArray | None = None,
    per_anchor: int = 0,
) -> Iterator[Batch]:
    """One epoch: every item is used once, each with a random view and a random text.

    Args:
        size: items a batch; a last batch of fewer than two items is dropped.
        by_platform: items of a batch share their platform.
        hard: (n, k) item indices from mining, ``NONE`` padded.
        per_anchor: how many of an anchor's hard negatives join its batch (drawn among the k).
    """
    groups = (
        [np.flatnonzero(data.platforms == code) for code in range(len(PLATFORMS))]
        if by_platform
        else [np.arange(len(data))]
    )
    batches: list[IntArray] = []
    for group in groups:
        order = generator.permutation(group)
        if hard is not None and per_anchor:
            order = _compose(order, hard, per_anchor, generator)
        batches += [order[start : start + size] for start in range(0, len(order), size)]
    for index in generator.permutation(len(batches)):
        items = batches[index]
        if len(items) >= 2:
            yield Batch(
                items,
                _draw(data.view_start, items, generator),
                _draw(data.text_start, items, generator),
            )


def _compose(
    order: IntArray, hard: IntArray, per_anchor: int, generator: np.random.Generator
) -> IntArray:
    """Reorder so that hard negatives follow their anchor; each item still appears once."""
    free = np.zeros(len(hard), np.bool_)
    free[order] = True
    out: list[int] = []
    for anchor in order:
        if not free[anchor]:
            continue
        free[anchor] = False
        out.append(int(anchor))
        candidates = hard[anchor][hard[anchor] != NONE]
        candidates = candidates[free[candidates]]
        chosen = generator.permutation(candidates)[:per_anchor]
        free[chosen] = False
        out += chosen.tolist()
    return np.asarray(out, np.int64)


def _draw(starts: IntArray, items: IntArray, generator: np.random.Generator) -> IntArray:
    """A random row of each item."""
    counts = starts[items + 1] - starts[items]
    return np.asarray(starts[items] + generator.integers(0, counts), np.int64)


def _starts(rows: Sequence[IntArray]) -> IntArray:
    return np.concatenate([[0], np.cumsum([len(part) for part in rows])]).astype(np.int64)
