"""The folded inner product against the formula, and the fit against what was planted."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import approx_fprime

from saywhere import fusion
from saywhere.config import FusionMode
from saywhere.errors import InputError
from saywhere.fusion import (
    UNKNOWN,
    Calibration,
    FitProblem,
    fit_calibration,
    fold_images,
    fold_queries,
    fused_scores,
    image_gates,
    neutral,
    query_log_prior,
)
from saywhere.types import PLATFORMS, FloatArray, Platform

SHARED: tuple[FusionMode, ...] = ("own", "mean", "weighted", "gated")  # a generalist's gate is 1
MODES: tuple[FusionMode, ...] = (*SHARED, "known")
THREE: tuple[Platform | None, ...] = PLATFORMS
FOUR: tuple[Platform | None, ...] = (*PLATFORMS, None)
KNOWN = np.asarray([0, 1, 2, UNKNOWN, UNKNOWN, 1])


def log_softmax(logits: NDArray[np.float64]) -> FloatArray:
    return np.asarray(logits - np.log(np.exp(logits).sum(1, keepdims=True)), np.float32)


def embeddings(experts: int, rows: int, seed: int) -> list[FloatArray]:
    """One matrix an expert, of different widths, unit length."""
    rng = np.random.default_rng(seed)
    made = [rng.standard_normal((rows, 4 + e)).astype(np.float32) for e in range(experts)]
    return [vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in made]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("experts", [THREE, FOUR, (None,), (Platform.DRONE, None)])
@pytest.mark.parametrize("with_hubness", [False, True])
def test_folded_equals_the_formula(
    mode: FusionMode, experts: tuple[Platform | None, ...], with_hubness: bool
) -> None:
    rng = np.random.default_rng(0)
    count, queries, images = len(experts), 5, len(KNOWN)
    texts, pictures = embeddings(count, queries, 1), embeddings(count, images, 2)
    calibration = Calibration(
        tuple(rng.uniform(0.5, 30, count)), tuple(rng.normal(0, 2, count)), 0.8
    )
    gates = image_gates(mode, experts, KNOWN, log_softmax(rng.normal(0, 2, (images, 3))))
    prior = query_log_prior(experts, log_softmax(rng.normal(0, 2, (queries, 3))))
    hubness = rng.normal(0, 1, images).astype(np.float32) if with_hubness else None
    found = fold_queries(texts, calibration, prior) @ fold_images(pictures, gates, hubness).T
    if hubness is None:
        similarity = np.stack([one @ other.T for one, other in zip(texts, pictures, strict=True)])
        every = np.ones((queries, images), bool)
        problem = FitProblem(similarity, gates, prior, every, ~every)
        np.testing.assert_allclose(fused_scores(problem, calibration), found, atol=1e-4)
    for q, i in itertools.product(range(queries), range(images)):
        expected = 0.0
        for e in range(count):
            cosine = sum(
                float(a) * float(b) for a, b in zip(texts[e][q], pictures[e][i], strict=True)
            )
            term = calibration.scale[e] * cosine + calibration.offset[e]
            term += calibration.prior_weight * float(prior[q, e])
            expected += float(gates[i, e]) * term
        expected -= float(hubness[i]) if hubness is not None else 0
        assert found[q, i] == pytest.approx(expected, abs=1e-4)


def test_gates_of_each_mode() -> None:
    log_probability = np.log(np.asarray([[0.1, 0.6, 0.3]] * len(KNOWN), np.float32))
    third = pytest.approx([1 / 3] * 3 + [1])
    own = image_gates("own", FOUR, KNOWN, log_probability)
    gated = image_gates("gated", FOUR, KNOWN, log_probability)
    for gates in (own, gated):
        assert gates.dtype == np.float32
        assert gates[[0, 1, 2, 5]].tolist() == [
            [1, 0, 0, 1],
            [0, 1, 0, 1],
            [0, 0, 1, 1],
            [0, 1, 0, 1],
        ]
    assert own[3].tolist() == [0, 1, 0, 1]
    assert gated[3].tolist() == pytest.approx([0.1, 0.6, 0.3, 1])
    for mode in ("mean", "weighted"):
        for row in image_gates(mode, FOUR, KNOWN, log_probability):
            assert row.tolist() == third
    assert image_gates("gated", FOUR, KNOWN, None)[3].tolist() == third


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(SHARED),
    st.lists(st.sampled_from([*PLATFORMS, None]), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(-1, 2), min_size=1, max_size=6),
    st.integers(0, 1000),
    st.sampled_from([0.1, 1.0, 30.0]),
)
def test_gates_of_platform_experts_sum_to_one(
    mode: FusionMode,
    experts: list[Platform | None],
    known: list[int],
    seed: int,
    sharpness: float,
) -> None:
    """Also where an image's platform has no expert, and where the classifier is certain of that."""
    logits = np.random.default_rng(seed).normal(0, sharpness, (len(known), 3))
    gates = image_gates(mode, experts, np.asarray(known), log_softmax(logits))
    own = [index for index, platform in enumerate(experts) if platform is not None]
    assert (gates >= 0).all()
    assert (gates[:, [i for i in range(len(experts)) if i not in own]] == 1).all()
    if own:
        np.testing.assert_allclose(gates[:, own].sum(1), 1, atol=1e-6)


def test_known_images_are_their_experts_alone_and_all_others_the_generalists() -> None:
    two = (Platform.SATELLITE, None)
    certain = np.log(np.asarray([[0.98, 0.01, 0.01]] * len(KNOWN), np.float32))
    gates = image_gates("known", two, KNOWN, certain)
    assert gates.tolist() == [[1, 0], [0, 1], [0, 1], [0, 1], [0, 1], [0, 1]]
    assert (image_gates("known", FOUR, KNOWN, None).sum(1) == 1).all()
    # Without a generalist there is nobody else to ask: as with "own".
    assert image_gates("known", THREE, KNOWN, certain)[3].tolist() == [1, 0, 0]


def test_a_platform_without_expert_belongs_to_all() -> None:
    two = (Platform.SATELLITE, Platform.DRONE)
    ground = np.asarray([2, UNKNOWN])
    certain = np.log(np.asarray([[1e-30, 1e-30, 1], [1e-30, 1e-30, 1]], np.float32))
    assert image_gates("gated", two, ground, certain).tolist() == [[0.5, 0.5]] * 2
    assert image_gates("own", two, ground, certain)[0].tolist() == [0.5, 0.5]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from(["own", "gated"]),
    st.integers(0, 2),
    st.floats(0, 20),
    st.floats(0, 3),
    st.integers(0, 10_000),
)
def test_lowering_a_prior_never_raises_that_platform(
    mode: FusionMode, lowered: int, drop: float, weight: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    texts, pictures = embeddings(4, 3, seed), embeddings(4, len(KNOWN), seed + 1)
    gates = image_gates(mode, FOUR, KNOWN, log_softmax(rng.normal(0, 2, (len(KNOWN), 3))))
    calibration = Calibration(tuple(rng.uniform(0.5, 30, 4)), tuple(rng.normal(0, 2, 4)), weight)
    logits = rng.normal(0, 2, (3, 3))
    images = fold_images(pictures, gates)

    def scores(log_probability: FloatArray) -> FloatArray:
        prior = query_log_prior(FOUR, log_probability)
        return np.asarray(fold_queries(texts, calibration, prior) @ images.T, np.float32)

    before = log_softmax(logits)
    # The probability alone: no image of any platform may gain.
    alone = before.copy()
    alone[:, lowered] -= drop
    assert (scores(alone) <= scores(before) + 1e-4).all()
    # Renormalised, so the other platforms gain: its own images still may not.
    logits[:, lowered] -= drop
    after = scores(log_softmax(logits))
    own = lowered == KNOWN
    assert (after[:, own] <= scores(before)[:, own] + 1e-4).all()


def test_an_impossible_platform_is_floored() -> None:
    impossible = np.asarray([[-np.inf, 0, -np.inf]], np.float32)
    prior = query_log_prior(FOUR, impossible)
    assert prior.tolist() == [[pytest.approx(math.log(1e-6)), 0, pytest.approx(math.log(1e-6)), 0]]
    for weight in (0.0, 1.0, 1e6):
        calibration = Calibration((1.0,) * 4, (0.0,) * 4, weight)
        assert np.isfinite(fold_queries(embeddings(4, 1, 0), calibration, prior)).all()


def test_refitting_changes_query_vectors_only() -> None:
    """Nothing about a calibration reaches ``fold_images``: an index outlives every refit."""
    texts, pictures = embeddings(3, 4, 0), embeddings(3, len(KNOWN), 1)
    prior = np.zeros((4, 3), np.float32)
    gates = image_gates("gated", THREE, KNOWN, None)
    one, two = neutral(3), Calibration((2.0, 3.0, 4.0), (0.1, 0.2, 0.3), 0.5)
    before = fold_images(pictures, gates)
    assert not np.array_equal(fold_queries(texts, one, prior), fold_queries(texts, two, prior))
    assert np.array_equal(before, fold_images(pictures, gates))
    assert "calibration" not in fold_images.__annotations__
    assert "calibration" not in image_gates.__annotations__


def test_experts_and_gates_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        fold_images(embeddings(2, 6, 0), np.ones((6, 3), np.float32))
    with pytest.raises(ValueError, match="zip"):
        fold_queries(embeddings(2, 6, 0), neutral(3), np.zeros((6, 2), np.float32))


@pytest.mark.parametrize(
    "numbers",
    [
        ((1.0, 1.0), (0.0,), 0.0),
        ((0.0,), (0.0,), 0.0),
        ((-1.0,), (0.0,), 0.0),
        ((1.0,), (math.nan,), 0.0),
        ((math.inf,), (0.0,), 0.0),
        ((1.0,), (0.0,), -0.1),
    ],
)
def test_calibrations_out_of_range_are_refused(
    numbers: tuple[tuple[float, ...], tuple[float, ...], float],
) -> None:
    with pytest.raises(InputError, match="scale > 0"):
        Calibration(*numbers)


def planted(
    scale: list[float], offset: list[float], weight: float, seed: int = 0, queries: int = 1500
) -> FitProblem:
    """Right answers drawn from the softmax of a known calibration."""
    rng = np.random.default_rng(seed)
    images = 60
    similarity = rng.uniform(-0.3, 0.9, (3, queries, images)).astype(np.float32)
    gates = image_gates("gated", THREE, np.arange(images) % 3, None)
    prior = query_log_prior(THREE, log_softmax(rng.normal(0, 1, (queries, 3))))
    scores = np.einsum("e,eqn,ne->qn", scale, similarity, gates)
    scores += (np.asarray(offset) + weight * prior) @ gates.T
    noise = rng.gumbel(size=scores.shape)  # the largest noisy score is a draw from the softmax
    right = (scores + noise).argmax(1)
    positives = right[:, None] == np.arange(images)[None, :]
    return FitProblem(similarity, gates, prior, positives, np.zeros_like(positives))


def loss(problem: FitProblem, calibration: Calibration) -> float:
    values = [*np.log(calibration.scale), *calibration.offset, calibration.prior_weight]
    return fusion._listwise_loss(problem, np.asarray(values))[0]


def test_loss_and_gradient_equal_the_naive_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = planted([5.0, 8.0, 3.0], [0.5, -0.5, 0.0], 1.2, queries=7)
    rng = np.random.default_rng(3)
    ignored = (rng.random(problem.positives.shape) < 0.2) & ~problem.positives
    more = problem.positives | ((rng.random(ignored.shape) < 0.05) & ~ignored)
    problem = replace(problem, positives=more, ignored=ignored)
    values = np.asarray([0.5, 1.0, 1.5, 0.3, -0.2, 0.1, 0.8])
    expected = 0.0
    for q in range(7):
        shares = {}
        for i in range(60):
            if ignored[q, i]:
                continue
            score = 0.0
            for e in range(3):
                term = math.exp(values[e]) * float(problem.similarity[e, q, i]) + values[3 + e]
                score += float(problem.gates[i, e]) * (
                    term + values[6] * float(problem.log_prior[q, e])
                )
            shares[i] = math.exp(score)
        found = sum(share for i, share in shares.items() if more[q, i])
        expected += math.log(sum(shares.values())) - math.log(found)
    value, slope = fusion._listwise_loss(problem, values)
    assert value == pytest.approx(expected / 7, abs=1e-9)
    numeric = approx_fprime(values, lambda v: fusion._listwise_loss(problem, v)[0], 1e-6)
    np.testing.assert_allclose(slope, numeric, atol=1e-4)
    monkeypatch.setattr(fusion, "_CELLS", 100)  # blocks of one query
    blocked, blocked_slope = fusion._listwise_loss(problem, values)
    assert blocked == pytest.approx(value, abs=1e-12)
    np.testing.assert_allclose(blocked_slope, slope, atol=1e-12)


def test_fit_finds_what_was_planted() -> None:
    scale, offset, weight = [12.0, 6.0, 9.0], [1.0, -1.0, 0.0], 1.5
    problem, unseen = planted(scale, offset, weight), planted(scale, offset, weight, seed=1)
    fitted = fit_calibration(problem, "gated", np.full(3, 8.0, np.float32))
    assert fitted.scale == pytest.approx(scale, rel=0.25)
    shifts = np.asarray(fitted.offset) - np.mean(fitted.offset)
    assert shifts.tolist() == pytest.approx(offset, abs=0.5)
    assert fitted.prior_weight == pytest.approx(weight, rel=0.25)
    best = loss(unseen, Calibration(tuple(scale), tuple(offset), weight))
    assert loss(unseen, fitted) < best + 0.05
    assert loss(unseen, neutral(3)) > best + 0.5
    assert fit_calibration(problem, "gated", np.full(3, 8.0, np.float32)) == fitted


def test_each_mode_fits_its_own_numbers() -> None:
    problem = planted([12.0, 6.0, 9.0], [1.0, -1.0, 0.0], 1.5)
    start = np.full(3, 8.0, np.float32)
    found = {mode: fit_calibration(problem, mode, start) for mode in MODES}
    assert found["mean"] == neutral(3)
    assert found["weighted"].offset == (0, 0, 0)
    assert found["weighted"].prior_weight == found["own"].prior_weight == 0
    assert found["known"] == found["own"]
    assert any(found["own"].offset)
    assert found["gated"].prior_weight > 0
    losses = [loss(problem, found[mode]) for mode in ("mean", "weighted", "own", "gated")]
    assert losses == sorted(losses, reverse=True)


def test_a_prior_that_misleads_is_ignored() -> None:
    problem = planted([9.0] * 3, [0.0] * 3, -1.0)
    fitted = fit_calibration(problem, "gated", np.full(3, 8.0, np.float32))
    assert fitted.prior_weight == 0


def test_hopeless_queries_break_nothing() -> None:
    """A positive whose share underflows still has a gradient."""
    problem = planted([9.0] * 3, [0.0] * 3, 0.0, queries=5)
    similarity = np.where(problem.positives, -1, 1).astype(np.float32)[None].repeat(3, 0)
    value, slope = fusion._listwise_loss(
        replace(problem, similarity=similarity), np.asarray([6.5] * 3 + [0.0] * 4)
    )
    assert value > 800
    assert np.isfinite(slope).all()
    assert slope[:3].sum() > 0


def test_problems_that_cannot_be_fitted_are_refused() -> None:
    problem = planted([1.0] * 3, [0.0] * 3, 0.0, queries=4)
    with pytest.raises(InputError, match="4 of 4 queries have no positive"):
        replace(problem, ignored=problem.positives)
    for change in (
        {"gates": problem.gates[1:]},
        {"log_prior": problem.log_prior[:, :2]},
        {"positives": problem.positives[:2]},
        {"ignored": problem.ignored[:, 1:]},
    ):
        with pytest.raises(InputError, match="does not fit"):
            replace(problem, **change)
