"""Exact products against fractions, and the best of a stream against a full sort."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saywhere.products import Best, exact_pairs, exact_scores, float32_error, places_in_groups
from saywhere.types import FloatArray


def vectors_of(count: int, dimension: int, seed: int = 0) -> FloatArray:
    """Random directions, norms from 0.2 to 5."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    return np.asarray(vectors * rng.uniform(0.2, 5, (count, 1)), dtype=np.float32)


def naive_best(queries: FloatArray, vectors: FloatArray, k: int) -> list[list[tuple[int, float]]]:
    """The k best and all ties with the k-th, best first, then by position."""
    found = []
    for scores in exact_scores(queries, vectors):
        order = np.argsort(-scores, kind="stable")
        least = scores[order[k - 1]] if k <= len(scores) else -np.inf
        found.append([(int(n), float(scores[n])) for n in order if scores[n] >= least])
    return found


def streamed(
    queries: FloatArray, vectors: FloatArray, k: int, block: int
) -> list[list[tuple[int, float]]]:
    best = Best(queries, k)
    kept: set[int] = set()
    for start in range(0, len(vectors), block):
        news = best.offer(vectors[start : start + block]).tolist()
        assert news == sorted(news)
        kept.update(news)
    assert set(best.positions.tolist()) <= kept
    found: list[list[tuple[int, float]]] = [[] for _ in queries]
    for row, position, score in zip(best.rows, best.positions, best.scores, strict=True):
        found[row].append((int(position), float(score)))
    return found


def test_equal_vectors_score_equally_wherever_they_lie() -> None:
    vector = vectors_of(1, 513)
    vectors = vectors_of(9001, 513, seed=5)
    twins = np.asarray([0, 1, 17, 4095, 4096, 9000])
    vectors[twins] = vector
    queries = vectors_of(17, 513, seed=6)
    scores = exact_scores(queries, vectors)[:, twins]
    assert (scores == scores[:, :1]).all()
    for row in range(17):
        pairs = exact_pairs(queries, vectors, np.full(6, row), twins)
        assert (pairs == scores[row]).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    k=st.integers(1, 70),
    block=st.integers(1, 61),
    few=st.booleans(),
)
def test_the_best_of_a_stream_are_those_of_a_full_sort(
    seed: int, count: int, k: int, block: int, few: bool
) -> None:
    rng = np.random.default_rng(seed)
    if few:  # few values, many ties
        vectors, queries = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (count, 4))
    else:
        vectors, queries = vectors_of(count, 40, seed), vectors_of(4, 40, seed + 1)
    assert streamed(queries, vectors, k, block) == naive_best(queries, vectors, k)


@pytest.mark.parametrize("scale", [1e-25, 1e-12, 1.0, 1e15])
def test_scores_that_float32_cannot_tell_apart_are_told_apart(scale: float) -> None:
    """All vectors nearly the same: a float32 product alone gets hundreds of places wrong."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal(700).astype(np.float32)
    vectors = base + 1e-6 * rng.standard_normal((3000, 700)).astype(np.float32)
    vectors, queries = (vectors * scale).astype(np.float32), np.stack([base, -base])
    expected = naive_best(queries, vectors, 20)
    rounded = [np.argsort(-row, kind="stable")[:20].tolist() for row in queries @ vectors.T]
    if scale >= 1:
        assert rounded != [[n for n, _ in row][:20] for row in expected]
    assert streamed(queries, vectors, 20, 512) == expected


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e15])
def test_no_float32_product_is_further_off_than_the_bound(scale: float) -> None:
    vectors = (np.abs(vectors_of(50, 900)) * scale).astype(np.float32)  # nothing cancels
    queries = np.abs(vectors_of(5, 900, seed=2))
    bound = float32_error(queries, vectors).astype(np.float64)
    one_by_one = np.zeros((5, 50), np.float32)  # the worst order there is
    for column in range(900):
        one_by_one += queries[:, column, None] * vectors[:, column]
    for row, query in enumerate(queries):
        exact = [sum(map(_product, query.tolist(), vector.tolist())) for vector in vectors]
        for approximate in (one_by_one[row], (queries @ vectors.T)[row]):
            off = [
                abs(float(Fraction(float(a)) - e)) for a, e in zip(approximate, exact, strict=True)
            ]
            assert max(off) <= bound[row]
    if scale > 1e-17:
        assert (bound < 10 * scale).all()  # it is of use: scores are about 1e4 * scale


def _product(left: float, right: float) -> Fraction:
    return Fraction(left) * Fraction(right)


def test_places_count_anew_in_each_group() -> None:
    groups = np.asarray([-3, -3, 0, 4, 4, 4, 9])
    assert places_in_groups(groups).tolist() == [0, 1, 0, 0, 1, 2, 0]
    assert places_in_groups(groups[:0]).tolist() == []
