"""Which items train together. Arrays only.

An *item* is one image with its cached views and its texts. A batch is drawn once per item and
epoch; in stage 2 an anchor brings mined hard negatives into its own batch, so the loop and the loss
of stage 1 stay as they are (batch composition, as in Sample4Geo).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from saywhere.errors import InputError
from saywhere.mining import NONE
from saywhere.types import PLATFORMS, FloatArray, IntArray, Platform


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Items as flat arrays.

    Attributes:
        views: (total views, image features) float32; item i owns rows
            ``view_start[i] : view_start[i + 1]``, at least one.
        texts: (total texts, text features) float32; likewise ``text_start``.
        text_codes: (total texts,) int64; equal texts share a code.
        places: (n,) int64 place codes.
        platforms: (n,) int64 index into ``PLATFORMS``.

    Raises:
        InputError: arrays that do not belong together.
    """

    views: FloatArray
    view_start: IntArray
    texts: FloatArray
    text_start: IntArray
    text_codes: IntArray
    places: IntArray
    platforms: IntArray

    def __post_init__(self) -> None:
        rows = ((self.view_start, self.views), (self.text_start, self.texts))
        good = len(self.text_codes) == len(self.texts) and len(self.platforms) == len(self)
        for starts, owned in rows:
            good &= len(starts) == len(self) + 1 and starts[0] == 0 and starts[-1] == len(owned)
            good &= bool((np.diff(starts) > 0).all())
        if not good:
            raise InputError(
                f"training set of {len(self)} items: {len(self.views)} views, {len(self.texts)} "
                "texts and their starts do not fit; give every item a view and a text"
            )

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, items: IntArray) -> tuple[IntArray, IntArray]:
        """Rows of the views and of the texts that ``take`` takes."""
        return _rows_of(self.view_start, items)[0], _rows_of(self.text_start, items)[0]

    def take(self, items: IntArray) -> TrainingSet:
        """The set of these items alone, in this order."""
        views, view_start = _rows_of(self.view_start, items)
        texts, text_start = _rows_of(self.text_start, items)
        return TrainingSet(
            views=self.views[views],
            view_start=view_start,
            texts=self.texts[texts],
            text_start=text_start,
            text_codes=self.text_codes[texts],
            places=self.places[items],
            platforms=self.platforms[items],
        )

    def of_platform(self, platform: Platform) -> TrainingSet:
        """The items of one platform."""
        return self.take(np.flatnonzero(self.platforms == PLATFORMS.index(platform)))


def joined(first: TrainingSet, second: TrainingSet) -> TrainingSet:
    """The items of two sets of the same towers, one after the other.

    Places and texts of the two are taken for different ones, whatever their codes.
    """
    return TrainingSet(
        views=np.concatenate([first.views, second.views]),
        view_start=np.concatenate([first.view_start, second.view_start[1:] + len(first.views)]),
        texts=np.concatenate([first.texts, second.texts]),
        text_start=np.concatenate([first.text_start, second.text_start[1:] + len(first.texts)]),
        text_codes=np.concatenate(
            [first.text_codes, second.text_codes + first.text_codes.max() + 1]
        ),
        places=np.concatenate([first.places, second.places + first.places.max() + 1]),
        platforms=np.concatenate([first.platforms, second.platforms]),
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows into a TrainingSet: one view and one text for each item, all (size,) int64."""

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

    A single item that is left over joins the batch before it (alone it has nothing to differ from);
    with ``by_platform`` the only item of its platform is left out for that reason.

    Args:
        size: items a batch, at least 2.
        by_platform: items of a batch share their platform.
        hard: (n, k) item indices from mining, distinct in a row, ``NONE`` padded.
        per_anchor: how many of an anchor's hard negatives (drawn among the k) join its batch, as
            far as they are still free and the batch has room.

    Raises:
        InputError: ``size`` below 2, or ``hard`` of another set.
    """
    if size < 2 or (hard is not None and len(hard) != len(data)):
        raise InputError(
            f"batches of {size} from {len(data)} items: give a batch two items or more, and hard "
            "negatives mined from the same items"
        )
    batches: list[IntArray] = []
    for group in _groups(data, by_platform):
        order = generator.permutation(group)
        if hard is not None and per_anchor:
            order = _compose(order, hard, (per_anchor, size), generator)
        if count := _count(len(order), size):
            batches += np.split(order, np.arange(1, count) * size)
    for index in generator.permutation(len(batches)):
        items = batches[index]
        yield Batch(
            items,
            draw_rows(data.view_start, items, generator),
            draw_rows(data.text_start, items, generator),
        )


def count_batches(data: TrainingSet, size: int, *, by_platform: bool = False) -> int:
    """How many batches ``draw_batches`` makes of an epoch."""
    return sum(_count(len(group), size) for group in _groups(data, by_platform))


def draw_rows(starts: IntArray, items: IntArray, generator: np.random.Generator) -> IntArray:
    """A random row of each item: (items,) int64."""
    counts = starts[items + 1] - starts[items]
    return np.asarray(starts[items] + generator.integers(0, counts), np.int64)


def starts_of(lengths: Iterable[int]) -> IntArray:
    """(n + 1,) int64 offsets of n runs of these lengths laid end to end."""
    return np.cumsum([0, *lengths], dtype=np.int64)


def _groups(data: TrainingSet, by_platform: bool) -> list[IntArray]:
    if not by_platform:
        return [np.arange(len(data))]
    return [np.flatnonzero(data.platforms == code) for code in range(len(PLATFORMS))]


def _count(items: int, size: int) -> int:
    """Batches of one group: a rest of one item joins the batch before it."""
    full, rest = divmod(items, size)
    return full + (rest > 1)


def _compose(
    order: IntArray, hard: IntArray, limits: tuple[int, int], generator: np.random.Generator
) -> IntArray:
    """Reorder so that hard negatives follow their anchor; each item still appears once.

    Args:
        limits: negatives an anchor, and items a batch: no negative falls into the next one.
    """
    per_anchor, size = limits
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
        room = -len(out) % size
        chosen = generator.permutation(candidates)[: min(per_anchor, room)]
        free[chosen] = False
        out += chosen.tolist()
    return np.asarray(out, np.int64)


def _rows_of(starts: IntArray, items: IntArray) -> tuple[IntArray, IntArray]:
    """Rows of ``items`` in their order, and the offsets of the items among them."""
    counts = starts[items + 1] - starts[items]
    taken = starts_of(counts)
    shift = np.repeat(starts[items] - taken[:-1], counts)
    return np.arange(taken[-1]) + shift, taken
