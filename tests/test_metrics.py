"""Ranks, average precision, chance and bootstrap, against slow and plain re-computations."""

from __future__ import annotations

import itertools
import json
import math
import tracemalloc
from typing import Any

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ir_measures import AP, RR, Success

from saywhere import bootstrap, metrics
from saywhere.errors import InputError
from saywhere.types import BoolArray, FloatArray, IntArray
from saywhere.vector_metrics import ranks_and_ap_of_labels, ranks_of_labels

# Few values, so that ties, infinities and NaN are the rule.
_SCORES = st.sampled_from([np.nan, -np.inf, -1.0, 0.0, 0.5, 1.0, np.inf])


@st.composite
def problems(draw: st.DrawFn) -> tuple[FloatArray, BoolArray]:
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 14)))
    scores = draw(hnp.arrays(np.float32, shape, elements=_SCORES))
    positives = draw(hnp.arrays(np.bool_, shape))
    return scores, positives


def naive(scores: FloatArray, positives: BoolArray) -> tuple[list[int], list[float]]:
    """Sort everything, negatives first among equals, and walk down the list."""
    all_ranks, all_ap = [], []
    for row, mask in zip(scores.tolist(), positives.tolist(), strict=True):
        seen = [(-s, right) for s, right in zip(row, mask, strict=True) if not math.isnan(s)]
        right_at = [i for i, (_, right) in enumerate(sorted(seen), start=1) if right]
        all_ranks.append(right_at[0] if right_at else len(row) + 1)
        precisions = [n / i for n, i in enumerate(right_at, start=1)]
        all_ap.append(sum(precisions) / max(1, sum(mask)))
    return all_ranks, all_ap


@settings(max_examples=400, deadline=None, derandomize=True)
@given(problems())
def test_ranks_and_ap_equal_a_full_sort(problem: tuple[FloatArray, BoolArray]) -> None:
    scores, positives = problem
    expected_ranks, expected_ap = naive(scores, positives)
    found = metrics.ranks(scores, positives, allow_missing=True)
    ap = metrics.average_precision(scores, positives, allow_missing=True)
    assert found.tolist() == expected_ranks
    assert found.dtype == np.int64
    assert ap.dtype == np.float32
    np.testing.assert_allclose(ap, expected_ap, rtol=1e-6)
    assert ((ap == 0) == (found == scores.shape[1] + 1)).all()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(problems(), st.integers(1, 6))
def test_expected_hits_average_every_order_of_ties(
    problem: tuple[FloatArray, BoolArray], k: int
) -> None:
    scores, positives = problem[0][:, :6], problem[1][:, :6]
    expected = []
    for row, mask in zip(scores, positives, strict=True):
        hits = []
        for order in itertools.permutations(np.flatnonzero(~np.isnan(row)).tolist()):
            best = sorted(order, key=lambda index: -row[index])[:k]  # stable: ties as in ``order``
            hits.append(mask[best].any())
        expected.append(np.mean(hits) if hits else 0.0)
    found = metrics.expected_hits(scores, positives, k, allow_missing=True)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert (found >= (metrics.ranks(scores, positives, allow_missing=True) <= k) - 1e-6)[
        (positives & ~np.isnan(scores)).any(1)
    ].all()


@settings(max_examples=150, deadline=None, derandomize=True)
@given(problems(), st.randoms(use_true_random=False))
def test_shuffling_the_gallery_changes_nothing(
    problem: tuple[FloatArray, BoolArray], random: Any
) -> None:
    scores, positives = problem
    order = list(range(scores.shape[1]))
    random.shuffle(order)
    for measure in (metrics.ranks, metrics.average_precision):
        before = measure(scores, positives, allow_missing=True)
        after = measure(scores[:, order], positives[:, order], allow_missing=True)
        assert np.array_equal(before, after)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    queries=hnp.arrays(np.int64, (5, 3), elements=st.integers(-2, 2)),
    gallery=hnp.arrays(np.int64, (9, 3), elements=st.integers(-2, 2)),
    labels=hnp.arrays(np.int64, 14, elements=st.integers(0, 4)),
    chunk=st.integers(1, 6),
)
def test_chunked_labels_equal_the_matrix(
    queries: IntArray, gallery: IntArray, labels: IntArray, chunk: int
) -> None:
    vectors = queries.astype(np.float32), gallery.astype(np.float32)
    owners = labels[:5], labels[5:]
    scores, positives = vectors[0] @ vectors[1].T, owners[0][:, None] == owners[1]
    expected_ranks, expected_ap = naive(scores, positives)
    options: Any = {"chunk": chunk, "allow_missing": True}
    assert ranks_of_labels(*vectors, *owners, **options).tolist() == expected_ranks
    best, ap = ranks_and_ap_of_labels(*vectors, *owners, **options)
    assert best.tolist() == expected_ranks
    np.testing.assert_allclose(ap, expected_ap, rtol=1e-6)


def test_a_matrix_in_many_blocks_equals_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    scores = rng.integers(0, 4, (11, 6)).astype(np.float32)
    positives = rng.random((11, 6)) < 0.3
    whole = metrics.ranks(scores, positives, allow_missing=True)
    whole_ap = metrics.average_precision(scores, positives, allow_missing=True)
    monkeypatch.setattr(metrics, "_BLOCK_CELLS", 13)  # two rows a block, one in the last
    assert np.array_equal(metrics.ranks(scores, positives, allow_missing=True), whole)
    parts = metrics.average_precision(scores, positives, allow_missing=True)
    assert np.array_equal(parts, whole_ap)


def _runs(scores: FloatArray, relevant: BoolArray) -> tuple[list[Any], list[Any]]:
    run = [
        ir_measures.ScoredDoc(f"q{i}", f"d{j}", float(s)) for (i, j), s in np.ndenumerate(scores)
    ]
    qrels = [ir_measures.Qrel(f"q{i}", f"d{j}", int(r)) for (i, j), r in np.ndenumerate(relevant)]
    return qrels, run


@pytest.mark.parametrize("seed", range(6))
def test_agrees_with_ir_measures_both_ways(seed: int) -> None:
    # Unique scores: trec_eval breaks ties by document name, we break them against the system.
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(12, 30)), int(rng.integers(12, 40)))
    scores = rng.permutation(shape[0] * shape[1]).reshape(shape).astype(np.float32)
    relevant = rng.random(shape) < 0.08
    relevant[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] = True
    relevant[rng.integers(0, shape[0], shape[1]), np.arange(shape[1])] = True
    for matrix, mask in ((scores, relevant), (scores.T, relevant.T)):
        ours = metrics.summarise(
            metrics.ranks(matrix, mask), metrics.average_precision(matrix, mask)
        )
        theirs = ir_measures.calc_aggregate(
            [Success @ 1, Success @ 5, Success @ 10, RR, AP], *_runs(matrix, mask)
        )
        assert ours.count == len(matrix)
        assert ours.recall_at_1 == pytest.approx(100 * theirs[Success @ 1])
        assert ours.recall_at_5 == pytest.approx(100 * theirs[Success @ 5])
        assert ours.recall_at_10 == pytest.approx(100 * theirs[Success @ 10])
        assert ours.mrr == pytest.approx(theirs[RR])
        assert ours.map == pytest.approx(theirs[AP], rel=1e-6)


def test_constant_scores_earn_the_worst_rank() -> None:
    scores = np.full((2, 10), 0.3, np.float32)
    positives = np.zeros((2, 10), np.bool_)
    positives[0, 0] = positives[1, :4] = True
    assert metrics.ranks(scores, positives).tolist() == [10, 7]
    expected = [1 / 10, (1 / 7 + 2 / 8 + 3 / 9 + 4 / 10) / 4]
    np.testing.assert_allclose(metrics.average_precision(scores, positives), expected, rtol=1e-6)


def test_equal_vectors_tie_to_the_last_bit() -> None:
    # A plain matrix product rounds equal columns differently and would find some of these first.
    rng = np.random.default_rng(0)
    for size in range(2, 60):
        queries = rng.normal(size=(7, 64)).astype(np.float32)
        gallery = np.tile(rng.normal(size=64).astype(np.float32), (size, 1))
        labels = np.zeros(7, np.int64), np.arange(size)
        assert ranks_of_labels(queries, gallery, *labels, chunk=3).tolist() == [size] * 7


def test_shuffling_gallery_vectors_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    gallery = np.repeat(rng.normal(size=(70, 48)), 3, axis=0).astype(np.float32)
    queries = rng.normal(size=(40, 48)).astype(np.float32)
    owners, asked = rng.integers(0, 30, 210), rng.integers(0, 30, 40)
    options: Any = {"chunk": 16, "allow_missing": True}
    ranks, ap = ranks_and_ap_of_labels(queries, gallery, asked, owners, **options)
    for _ in range(5):
        order = rng.permutation(210)
        again = ranks_and_ap_of_labels(queries, gallery[order], asked, owners[order], **options)
        assert np.array_equal(again[0], ranks)
        assert np.array_equal(again[1], ap)


def test_nan_vectors_are_never_found() -> None:
    gallery = np.array([[1, 0], [np.nan, 0], [0, 1]], np.float32)
    queries = np.array([[1, 0], [1, 0], [np.nan, 1]], np.float32)
    ranks, ap = ranks_and_ap_of_labels(queries, gallery, np.array([0, 1, 2]), np.array([0, 1, 2]))
    assert ranks.tolist() == [1, 4, 4]
    assert ap.tolist() == [1, 0, 0]


def test_memory_is_bounded_by_the_chunk() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(4000, 8)).astype(np.float32)
    labels = rng.integers(0, 80, 4000)
    tracemalloc.start()
    try:
        ranks_of_labels(vectors, vectors, labels, labels, chunk=50)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6e6  # the whole matrix would be 64 MB


def test_summary_of_a_hand_made_case() -> None:
    ranks = np.array([1, 2, 6, 11, 3])
    ap = np.array([1.0, 0.5, 0.2, 0.1, 0.0], np.float32)  # the last was not found: 3 is g + 1
    summary = metrics.summarise(ranks, ap)
    assert summary.count == 5
    assert (summary.recall_at_1, summary.recall_at_5, summary.recall_at_10) == (20, 40, 60)
    assert summary.mrr == pytest.approx((1 + 1 / 2 + 1 / 6 + 1 / 11) / 5)
    assert summary.map == pytest.approx(1.8 / 5)
    assert summary.median_rank == 3
    assert summary.r_mean == pytest.approx(40)
    assert json.loads(json.dumps(summary.to_dict()))["r_mean"] == pytest.approx(40)


@pytest.mark.parametrize("k", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("right", [0, 1, 3, 7])
def test_chance_recall_equals_counting_all_draws(k: int, right: int) -> None:
    draws = list(itertools.combinations(range(7), min(k, 7)))
    share = 100 * sum(min(draw) < right for draw in draws) / len(draws)
    assert metrics.chance_recall(7, right, k) == pytest.approx(share, abs=1e-12)


def test_chance_recall_averages_queries_and_keeps_small_chances() -> None:
    assert metrics.chance_recall(10, [1, 1, 4], 1) == pytest.approx((10 + 10 + 40) / 3)
    assert metrics.chance_recall(10**15, 1, 1) == pytest.approx(1e-13, rel=1e-12)


_FOUR = np.zeros((2, 4), np.float32)
_NONE = np.zeros((2, 4), np.bool_)
_ROW = np.zeros(2, np.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.ranks(_FOUR, _NONE), "2 of 2 queries have no positive"),
        (lambda: metrics.average_precision(_FOUR, _NONE), "allow_missing=True"),
        (lambda: metrics.ranks(_FOUR, _NONE[:1]), r"\(2, 4\), positives \(1, 4\)"),
        (lambda: metrics.ranks(_FOUR, _FOUR), "must be bool"),  # type: ignore[arg-type]
        (lambda: metrics.ranks(_NONE, ~_NONE), "floating point"),  # type: ignore[arg-type]
        (lambda: ranks_of_labels(_FOUR, _FOUR, _ROW + 1, _ROW), "2 of 2 queries"),
        (lambda: ranks_of_labels(_FOUR, _FOUR[:, :3], _ROW, _ROW), "widths differ"),
        (lambda: ranks_of_labels(_FOUR, _FOUR[:0], _ROW, _ROW[:0]), "not empty"),
        (lambda: ranks_of_labels(_FOUR, _FOUR, _ROW, _ROW[:1]), r"labels \(1,\)"),
        (lambda: ranks_of_labels(_FOUR, _FOUR, _ROW, _ROW, chunk=0), "chunk 0"),
        (lambda: metrics.summarise(_ROW[:0], _FOUR[0, :0]), "same queries"),
        (lambda: metrics.summarise(_ROW, _FOUR[:, 0]), "from 0"),
        (lambda: metrics.summarise(_ROW + 1, _FOUR[:, 0] + 2), r"2.0..2.0"),
        (lambda: metrics.chance_recall(5, [6], 1), "0..5"),
        (lambda: metrics.chance_recall(5, [0.5], 1), "whole number"),
        (lambda: metrics.chance_recall(5, [], 1), "0 values"),
        (lambda: metrics.chance_recall(0, 0, 1), "gallery 0"),
        (lambda: bootstrap.interval([1, 2], ["a", "a"]), r"1 place\(s\)"),
        (lambda: bootstrap.interval([], []), r"0 place\(s\)"),
        (lambda: bootstrap.interval([1, 2], ["a"]), r"places \(1,\)"),
        (lambda: bootstrap.interval([1, np.nan], [0, 1]), "1 of 2 values"),
        (lambda: bootstrap.interval(["x", "y"], [0, 1]), "not numbers"),
        (lambda: bootstrap.interval([1, 2], [0, 1], level=1), "level 1"),
        (lambda: bootstrap.interval([1, 2], [0, 1], samples=1), "samples 1"),
        (lambda: bootstrap.interval([1, 2], [0, 1], statistic="mode"), "'mode'"),  # type: ignore[arg-type]
        (lambda: bootstrap.paired_difference([1, 2], [1, 2], [3, 3]), r"1 place\(s\)"),
        (lambda: bootstrap.paired_difference([1, 2], [1], [3, 4]), r"values \(1,\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(call: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def _clustered(seed: int, spread: float, places: int = 30) -> tuple[FloatArray, IntArray]:
    """Ten queries a place: noise of 1 and a place effect of ``spread`` around 50."""
    rng = np.random.default_rng(seed)
    owners = np.repeat(np.arange(places), 10)
    effect = rng.normal(0, spread, places)[owners]
    return (50 + effect + rng.normal(size=len(owners))).astype(np.float32), owners


@pytest.mark.parametrize(("statistic", "plain"), [("mean", np.mean), ("median", np.median)])
def test_interval_equals_rebuilding_every_sample(statistic: Any, plain: Any) -> None:
    rng = np.random.default_rng(5)
    values, places = rng.normal(size=40), rng.integers(0, 7, 40)
    drawn = np.random.default_rng(11).multinomial(7, np.full(7, 1 / 7), size=300)
    rebuilt = []
    for row in drawn:
        queries = [values[places == place] for place in range(7) for _ in range(row[place])]
        rebuilt.append(plain(np.concatenate(queries)))
    got = bootstrap.interval(values, places, statistic=statistic, level=0.8, samples=300, seed=11)
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(rebuilt, [0.1, 0.9])))
    assert got.value == pytest.approx(plain(values))


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_interval_holds_its_value_and_repeats(
    statistic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    values, places = _clustered(1, 2.0)
    once = bootstrap.interval(values, places, statistic=statistic)
    assert once.low < once.value < once.high
    assert once == bootstrap.interval(values, places, statistic=statistic)
    assert once != bootstrap.interval(values, places, statistic=statistic, seed=1)
    names = [f"place {place}" for place in places]
    assert once.value == bootstrap.interval(values, names, statistic=statistic).value
    monkeypatch.setattr(bootstrap, "_BLOCK_CELLS", 1000)  # three samples a block
    assert once == bootstrap.interval(values, places, statistic=statistic)
    assert list(once.to_dict()) == ["low", "high", "value"]


def test_place_effects_widen_the_interval() -> None:
    values, places = _clustered(2, 3.0)
    by_place = bootstrap.interval(values, places)
    by_query = bootstrap.interval(values, np.arange(len(values)))
    assert by_place.high - by_place.low > 2 * (by_query.high - by_query.low)


def test_wider_level_gives_wider_interval() -> None:
    values, places = _clustered(3, 1.0)
    narrow, wide = (bootstrap.interval(values, places, level=level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        got = bootstrap.interval(*_clustered(seed, 2.0), samples=300)
        covered += got.low <= 50 <= got.high
    assert 176 <= covered <= 199  # 95 % of 200 is 190; percentile intervals run a little short


def test_identical_systems_differ_by_nothing() -> None:
    values, places = _clustered(4, 1.0)
    same = bootstrap.paired_difference(values, values, places)
    assert same.to_dict() == {"value": 0, "low": 0, "high": 0, "minimum_detectable": 0}


def test_paired_difference_is_signed_paired_and_by_place() -> None:
    base, places = _clustered(5, 10.0)
    gain = np.random.default_rng(6).normal(0.5, 1.0, len(base))
    better = base + gain
    got = bootstrap.paired_difference(better, base, places, seed=9)
    alone = bootstrap.interval(gain, places, seed=9)
    assert (got.value, got.low, got.high) == pytest.approx((alone.value, alone.low, alone.high))
    back = bootstrap.paired_difference(base, better, places, seed=9)
    assert (back.value, back.low, back.high) == pytest.approx((-got.value, -got.high, -got.low))
    # The spread of place means gives the standard error; (1.960 + 0.842) of it can be detected.
    by_place = gain.reshape(30, 10).mean(axis=1)
    assert got.minimum_detectable == pytest.approx(2.80 * by_place.std() / 30**0.5, rel=0.05)


def test_hits_may_be_bools() -> None:
    got = bootstrap.paired_difference([True, True, False], [False, True, False], ["x", "y", "z"])
    assert got.value == pytest.approx(1 / 3)
