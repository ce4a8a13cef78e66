"""Hard negatives against a naive search, with ties, masks, margins and padding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from saywhere.errors import InputError
from saywhere.mining import NONE, MiningItems, mine_hard_negatives

# Exact in binary, and few of them: ties are the rule.
_NUMBERS = st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0])


@st.composite
def problems(draw: st.DrawFn) -> MiningItems:
    count, width = draw(st.integers(1, 9)), draw(st.integers(1, 3))
    vectors = hnp.arrays(np.float32, (count, width), elements=_NUMBERS)
    codes = hnp.arrays(np.int64, count, elements=st.integers(0, 4))
    return MiningItems(draw(vectors), draw(vectors), draw(codes), draw(codes))


def naive(items: MiningItems, top_k: int, margin: float) -> list[list[int]]:
    mined = []
    for i, text in enumerate(items.texts):
        positive = float(text @ items.images[i])
        candidates = []
        for j, image in enumerate(items.images):
            score = float(text @ image)
            too_close = margin > 0 and score > positive - margin * abs(positive)
            same = items.places[i] == items.places[j] or items.captions[i] == items.captions[j]
            if not same and not too_close:
                candidates.append((-score, j))
        best = [j for _, j in sorted(candidates)][:top_k]
        mined.append(best + [NONE] * (top_k - len(best)))
    return mined


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    problems(),
    st.integers(1, 12),
    st.sampled_from([0.0, 0.25, 0.5]),
    st.integers(1, 10),
)
def test_equals_a_naive_search(items: MiningItems, top_k: int, margin: float, chunk: int) -> None:
    found = mine_hard_negatives(items, top_k, relative_margin=margin, chunk=chunk)
    assert found.dtype == np.int64
    assert found.tolist() == naive(items, top_k, margin)


def random_items(count: int, width: int, copies: int = 1) -> MiningItems:
    rng = np.random.default_rng(count)
    texts = rng.standard_normal((count, width)).astype(np.float32)
    images = np.tile(rng.standard_normal((count // copies, width)).astype(np.float32), (copies, 1))
    codes = np.arange(count)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    return MiningItems(texts, images, codes, codes)


def test_chunks_do_not_matter() -> None:
    items = random_items(300, 64)
    whole = mine_hard_negatives(items, 20, relative_margin=0.05, chunk=10_000)
    for chunk in (1, 7, 64, 299):
        part = mine_hard_negatives(items, 20, relative_margin=0.05, chunk=chunk)
        assert np.array_equal(whole, part)


def test_equal_images_are_ordered_by_index() -> None:
    """A float32 product rounds equal columns differently by where they stand in a block."""
    copies, distinct = 7, 11
    items = random_items(copies * distinct, 333, copies)
    found = mine_hard_negatives(items, len(items.texts) - 1, chunk=3)
    source = found % distinct
    same = source[:, 1:] == source[:, :-1]
    assert (found[:, 1:] > found[:, :-1])[same].all()
    # The copies of each stand together; one is the text's own image, and left out.
    assert (same.sum(1) == distinct * (copies - 1) - 1).all()


def test_margin_drops_likely_false_negatives() -> None:
    texts = np.asarray([[1.0, 0.0]] * 3, np.float32)
    images = np.asarray([[0.8, 0.6], [0.79, 0.6131], [0.6, 0.8]], np.float32)
    items = MiningItems(texts, images, np.arange(3), np.arange(3))
    assert mine_hard_negatives(items, 2)[0].tolist() == [1, 2]
    assert mine_hard_negatives(items, 2, relative_margin=0.05)[0].tolist() == [2, NONE]


def test_candidates_at_the_margin_are_told_apart_where_float32_cannot() -> None:
    rng = np.random.default_rng(0)
    text = rng.standard_normal(700)
    text /= np.linalg.norm(text)
    others = rng.standard_normal((400, 700))
    others -= np.outer(others @ text, text)
    others /= np.linalg.norm(others, axis=1, keepdims=True)
    cosine = rng.uniform(0.5, 0.9, (400, 1))
    cosine[:30], cosine[30:35] = 0.95 + 5e-7, 0.95 - 5e-7  # just above the margin, just below
    close = cosine * text + np.sqrt(1 - cosine**2) * others
    images = np.vstack([text, close]).astype(np.float32)
    texts = np.tile(text.astype(np.float32), (401, 1))
    items = MiningItems(texts, images, np.arange(401), np.arange(401))
    found = mine_hard_negatives(items, 20, relative_margin=0.05)[0]
    exact = (images.astype(np.float64) @ texts[0].astype(np.float64)).astype(np.float32)
    ceiling = exact[0] - 0.05 * exact[0]
    order = np.argsort(-exact, kind="stable")
    assert (exact[1:] > ceiling).tolist() == [True] * 30 + [False] * 370
    assert found.tolist() == order[exact[order] <= ceiling][:20].tolist()


def test_margin_lies_below_a_negative_positive_too() -> None:
    """(1 - margin) * positive would rise above a similarity below zero, and let more through."""
    texts = np.asarray([[1.0], [1.0], [1.0]], np.float32)
    images = np.asarray([[-0.5], [-0.52], [-0.6]], np.float32)
    items = MiningItems(texts, images, np.arange(3), np.arange(3))
    assert mine_hard_negatives(items, 2, relative_margin=0.1)[0].tolist() == [2, NONE]


def test_nothing_to_mine_is_padding() -> None:
    one = MiningItems(
        np.ones((3, 2), np.float32), np.ones((3, 2), np.float32), np.zeros(3, int), np.arange(3)
    )
    assert mine_hard_negatives(one, 4).tolist() == [[NONE] * 4] * 3
    empty = MiningItems(
        np.empty((0, 2), np.float32),
        np.empty((0, 2), np.float32),
        np.empty(0, int),
        np.empty(0, int),
    )
    assert mine_hard_negatives(empty, 4).shape == (0, 4)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("side", ["texts", "images"])
def test_vectors_that_are_not_finite_are_refused(bad: float, side: str) -> None:
    items = random_items(5, 3)
    broken = getattr(items, side).copy()
    broken[3, 1] = bad
    with pytest.raises(InputError, match=rf"1 of the {side} are not finite \(first: row 3\)"):
        replace(items, **{side: broken})


def test_rows_must_fit() -> None:
    items = random_items(5, 3)
    for change in (
        {"texts": items.texts[:4]},
        {"images": items.images[:, :2]},
        {"places": items.places[:4]},
        {"captions": items.captions[:4]},
    ):
        with pytest.raises(InputError, match="pass pairs"):
            replace(items, **change)


@pytest.mark.parametrize(
    ("k", "chunk", "margin"), [(0, 1, 0.0), (1, 0, 0.0), (1, 1, -0.1), (1, 1, np.nan)]
)
def test_settings_out_of_range_are_refused(k: int, chunk: int, margin: float) -> None:
    with pytest.raises(InputError, match="top_k"):
        mine_hard_negatives(random_items(5, 3), k, relative_margin=margin, chunk=chunk)
