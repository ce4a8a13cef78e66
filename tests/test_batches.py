"""Batches: who trains with whom, and that nobody is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.batches import (
    Batch,
    TrainingSet,
    _compose,
    count_batches,
    draw_batches,
    draw_rows,
    starts_of,
)
from saywhere.errors import InputError
from saywhere.mining import NONE
from saywhere.types import PLATFORMS, IntArray, Platform


def make_set(platforms: list[int], seed: int = 0) -> TrainingSet:
    """Items with one to four views and texts; the first feature says whose row it is."""
    rng = np.random.default_rng(seed)
    count = len(platforms)
    views, texts = rng.integers(1, 5, count), rng.integers(1, 5, count)
    owners = [np.repeat(np.arange(count, dtype=np.float32), n)[:, None] for n in (views, texts)]
    return TrainingSet(
        views=owners[0],
        view_start=starts_of(views),
        texts=owners[1],
        text_start=starts_of(texts),
        text_codes=np.arange(len(owners[1])),
        places=np.arange(count),
        platforms=np.asarray(platforms, np.int64),
    )


def random_hard(count: int, k: int, seed: int) -> IntArray:
    rng = np.random.default_rng(seed)
    hard = np.full((count, k), NONE)
    for row in hard:
        chosen = rng.permutation(count)[: rng.integers(0, k + 1)]
        row[: len(chosen)] = chosen
    return hard


def epoch(data: TrainingSet, size: int, seed: int = 0, **kwargs: object) -> list[Batch]:
    generator = np.random.default_rng(seed)
    return list(draw_batches(data, size, generator, **kwargs))  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.lists(st.integers(0, 2), min_size=2, max_size=40),
    st.integers(2, 12),
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, 1000),
)
def test_every_item_exactly_once(
    platforms: list[int], size: int, by_platform: bool, per_anchor: int, seed: int
) -> None:
    data = make_set(platforms, seed)
    hard = random_hard(len(data), 5, seed)
    batches = epoch(data, size, seed, by_platform=by_platform, hard=hard, per_anchor=per_anchor)
    seen = sorted(int(item) for batch in batches for item in batch.items)
    # The only item of its platform has nothing to differ from.
    counts = Counter(platforms)
    expected = [i for i, p in enumerate(platforms) if not by_platform or counts[p] > 1]
    assert seen == expected
    assert len(batches) == count_batches(data, size, by_platform=by_platform)
    for batch in batches:
        assert 2 <= len(batch.items) <= size + 1
        assert not by_platform or len(set(data.platforms[batch.items])) == 1
        assert data.views[batch.views, 0].tolist() == batch.items.tolist()
        assert data.texts[batch.texts, 0].tolist() == batch.items.tolist()


def test_a_leftover_joins_the_batch_before_it() -> None:
    data = make_set([0] * 9)
    assert sorted(len(batch.items) for batch in epoch(data, 4)) == [4, 5]
    assert sorted(len(batch.items) for batch in epoch(data, 8)) == [9]
    assert sorted(len(batch.items) for batch in epoch(data, 7)) == [2, 7]
    assert [len(batch.items) for batch in epoch(data, 100)] == [9]


def test_views_and_texts_are_all_drawn_in_time() -> None:
    data = make_set([0] * 6)
    generator = np.random.default_rng(1)
    views, texts = set(), set()
    for _ in range(60):
        for batch in draw_batches(data, 3, generator):
            views |= set(batch.views.tolist())
            texts |= set(batch.texts.tolist())
    assert views == set(range(len(data.views)))
    assert texts == set(range(len(data.texts)))


def test_equal_generators_draw_equal_epochs() -> None:
    data, hard = make_set([0, 1, 2] * 10), random_hard(30, 4, 0)

    def drawn(seed: int) -> list[list[list[int]]]:
        batches = epoch(data, 7, seed, hard=hard, per_anchor=2, by_platform=True)
        return [[b.items.tolist(), b.views.tolist(), b.texts.tolist()] for b in batches]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_hard_negatives_stand_right_behind_their_anchor() -> None:
    """Pairs that name each other: with batches of even size, no pair is ever torn apart."""
    partner = np.arange(40) ^ 1
    data = make_set([0] * 40)
    for batch in epoch(data, 8, hard=partner[:, None], per_anchor=3):
        items = batch.items
        assert (partner[items[0::2]] == items[1::2]).all()


def test_as_many_negatives_as_asked_for_and_no_more() -> None:
    """Blocks of five name each other; an anchor brings two of its four."""
    block = np.arange(40) // 5
    hard = np.stack([np.setdiff1d(np.flatnonzero(block == block[i]), i) for i in range(40)])
    for batch in epoch(make_set([0] * 40), 40, hard=hard, per_anchor=2):
        runs = np.split(block[batch.items], np.flatnonzero(np.diff(block[batch.items])) + 1)
        assert Counter(len(run) for run in runs)[3] >= 6
        first = [len(run) for run in runs[:2]]
        assert first[0] in (3, 5)  # 5: the rest of the block happened to follow


def test_no_negative_falls_into_the_next_batch() -> None:
    """Batches of six, anchors that would bring three each: the second finds room for one."""
    hard = np.full((12, 3), NONE)
    hard[0], hard[4], hard[8] = [1, 2, 3], [5, 6, 7], [9, 10, 11]
    order = np.asarray([0, 4, 8, 1, 2, 3, 5, 6, 7, 9, 10, 11])
    found = _compose(order, hard, (3, 6), np.random.default_rng(0)).tolist()
    assert found[0] == 0
    assert set(found[1:4]) == {1, 2, 3}
    assert found[4] == 4
    assert found[5] in {5, 6, 7}
    assert found[6] == 8
    assert set(found[7:10]) == {9, 10, 11}


def test_padding_never_brings_the_last_item() -> None:
    data = make_set([0] * 10)
    hard = np.full((10, 3), NONE)
    plain, composed = epoch(data, 4), epoch(data, 4, hard=hard, per_anchor=3)
    # Nothing to bring, so the order is the shuffled one; as an index -1 would bring item 9.
    assert [set(b.items) for b in plain] == [set(b.items) for b in composed]


def test_hard_negatives_of_another_platform_stay_with_their_own() -> None:
    data = make_set([0, 1] * 10)
    hard = (np.arange(20) ^ 1)[:, None]
    batches = epoch(data, 4, by_platform=True, hard=hard, per_anchor=1)
    assert sorted(int(i) for b in batches for i in b.items) == list(range(20))
    assert all(len(set(data.platforms[b.items])) == 1 for b in batches)


def test_take_keeps_rows_with_their_items() -> None:
    data = make_set([0, 1, 2, 0, 1], seed=5)
    items = np.asarray([3, 0, 4])
    taken = data.take(items)
    assert len(taken) == 3
    for new, old in enumerate(items):
        for name in ("view", "text"):
            starts, rows = getattr(taken, f"{name}_start"), getattr(taken, f"{name}s")
            own = rows[starts[new] : starts[new + 1], 0]
            old_starts = getattr(data, f"{name}_start")
            assert own.tolist() == [old] * (old_starts[old + 1] - old_starts[old])
    assert taken.platforms.tolist() == [0, 0, 1]
    assert data.text_codes[data.text_start[3]] == taken.text_codes[0]


def test_of_platform_may_be_empty() -> None:
    data = make_set([0, 0, 2])
    assert data.of_platform(Platform.SATELLITE).places.tolist() == [0, 1]
    assert len(data.of_platform(Platform.DRONE)) == 0
    assert epoch(data.of_platform(Platform.DRONE), 4) == []


def test_draw_rows_is_even() -> None:
    starts = starts_of([1, 3])
    drawn = [draw_rows(starts, np.asarray([1, 0]), np.random.default_rng(s)) for s in range(300)]
    counts = Counter(int(rows[0]) for rows in drawn)
    assert {int(rows[1]) for rows in drawn} == {0}
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 60


def test_items_without_a_view_or_a_text_are_refused() -> None:
    data = make_set([0, 0, 1])
    for change in (
        {"view_start": np.asarray([0, 0, 1, len(data.views)])},
        {"text_start": data.text_start[:-1]},
        {"text_codes": data.text_codes[1:]},
        {"platforms": data.platforms[1:]},
        {"views": data.views[1:]},
    ):
        with pytest.raises(InputError, match="training set of 3 items"):
            replace(data, **change)


def test_settings_that_do_not_fit_are_refused() -> None:
    data = make_set([0] * len(PLATFORMS) * 2)
    with pytest.raises(InputError, match="two items or more"):
        epoch(data, 1)
    with pytest.raises(InputError, match="mined from the same items"):
        epoch(data, 4, hard=random_hard(3, 2, 0), per_anchor=1)
