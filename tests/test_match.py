"""Match probabilities: they sum to one, fall with the gallery, and hold on planted truths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from saywhere import sharpness
from saywhere.errors import InputError
from saywhere.location_metrics import match_in_words
from saywhere.match import fit_matches, match_probabilities
from saywhere.match_report import _auroc, match_report, score_pairs
from saywhere.reliability import _wilson, plot_reliability
from saywhere.sharpness import Sharpness
from saywhere.types import FloatArray, IntArray

_SHARP = Sharpness(temperature=0.5, stray=0.05, none_offset=2.0)


def _planted(
    queries: int = 600, places: int = 200, seed: int = 0
) -> tuple[FloatArray, FloatArray, IntArray, IntArray]:
    """Images and queries on a sphere, two images a place, queries near their image."""
    draw = np.random.default_rng(seed)
    images = draw.normal(size=(2 * places, 12))
    images /= np.linalg.norm(images, axis=1, keepdims=True)
    target = draw.integers(0, len(images), queries)
    texts = images[target] + draw.normal(scale=0.2, size=(queries, 12))
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    places_of = np.arange(len(images)) // 2
    return images.astype(np.float32), texts.astype(np.float32), target, places_of


def test_probabilities_sum_to_one_and_keep_the_order() -> None:
    images, texts, *_ = _planted(20)
    scores = texts @ images.T
    found = match_probabilities(scores, _SHARP)
    np.testing.assert_allclose(found.images.sum(1) + found.none, 1)
    assert np.array_equal(found.images.argmax(1), scores.argmax(1))
    assert (found.images > 0).all()


def test_probabilities_by_hand() -> None:
    """Bayes' rule over two images and none."""
    found = match_probabilities(np.asarray([[3, 1]], np.float32), Sharpness(1, 0.1, 0.5), 0.2)
    likely = np.exp([1, -1])
    weights = [*(0.8 / 2 * (0.9 * likely + 0.1 * likely.mean())), 0.2 * np.exp(0.5)]
    expected = np.asarray(weights) / sum(weights)
    np.testing.assert_allclose([*found.images[0], *found.none], expected, rtol=1e-6)


def test_the_same_score_counts_less_among_more_images() -> None:
    """Doubling a gallery with copies halves each image's probability and leaves "none" as is."""
    images, texts, *_ = _planted(20)
    scores = texts @ images.T
    once = match_probabilities(scores, _SHARP)
    twice = match_probabilities(np.concatenate([scores, scores], 1), _SHARP)
    np.testing.assert_allclose(twice.images[:, : len(images)], once.images / 2, rtol=1e-5)
    np.testing.assert_allclose(twice.none, once.none, rtol=1e-5)


def test_uncalibrated_or_empty_is_refused() -> None:
    scores = np.zeros((1, 2), np.float32)
    for wrong in ((scores, Sharpness()), (scores[:, :0], _SHARP)):
        with pytest.raises(InputError, match="fit_matches"):
            match_probabilities(*wrong)


def test_the_fit_finds_a_temperature_that_was_planted() -> None:
    """Right images drawn by the softmax of scores / 0.5: no other temperature explains them."""
    draw = np.random.default_rng(1)
    scores = draw.normal(size=(3000, 30)).astype(np.float32)
    shares = np.exp(scores / 0.5)
    shares /= shares.sum(1, keepdims=True)
    right = np.asarray([draw.choice(30, p=row) for row in shares])
    found = fit_matches(scores, right).sharpness(np.arange(3000), 0.1)
    assert found.temperature == pytest.approx(0.5, rel=0.25)
    assert found.stray <= 0.06


def test_planted_probabilities_hold_out_of_fold(tmp_path: Path) -> None:
    images, texts, target, places = _planted(800, places=100)
    found = match_report(score_pairs((images, texts), target, places))
    assert found is not None
    assert found["queries"] == 800
    assert found["expected_calibration_error"] < 0.03
    assert found["expected_calibration_error_first"] < 0.08
    assert found["expected_calibration_error_half_gallery"] < 0.03
    assert found["first_probability"] == pytest.approx(found["first_right"], abs=0.05)
    assert 0.6 < found["none_auroc"] < 1
    assert found["none_probability_without_the_place"] > found["none_probability"]
    assert sum(count for *_, count in found["bins"]) == 8_000
    assert sum(count for *_, count in found["bins_first"]) == 800
    assert 0 < found["confident"] <= 1
    assert found["right_if_confident"] > found["first_right"] - 0.01
    parts = found["confident"] * found["right_if_confident"]
    parts += (1 - found["confident"]) * (found["right_if_not"] or 0)
    assert parts == pytest.approx(found["first_right"])
    json.dumps(found)
    assert "AUROC" in " ".join(match_in_words(found))
    with Image.open(plot_reliability(found, tmp_path / "r.png")) as picture:
        assert picture.width > 600


def test_a_report_of_what_was_fitted_elsewhere_fits_nothing() -> None:
    """Good parameters of other queries hold; bad ones show."""
    images, texts, target, places = _planted(800, places=100)
    own = fit_matches(texts @ images.T, target).sharpness(np.arange(400), 0.1)
    pairs = score_pairs((images, texts), target, places)
    good = match_report(pairs, own)
    bad = match_report(pairs, Sharpness(1.0, 0.01, 0.0))
    assert good is not None
    assert bad is not None
    assert good["cross_fitted"] is False
    name = "expected_calibration_error_first"
    assert good[name] < 0.08 < bad[name]
    assert "as search gives it" in match_in_words(good)[0]


def test_noise_earns_no_confidence() -> None:
    images, texts, target, places = _planted(600)
    found = match_report(score_pairs((images, texts), target[::-1].copy(), places))
    assert found is not None
    assert found["none_auroc"] == pytest.approx(0.5, abs=0.03)
    assert found["none_fpr_at_95_recall"] > 0.9
    assert found["first_probability"] < 0.05


def test_a_fold_is_judged_without_its_places(monkeypatch: pytest.MonkeyPatch) -> None:
    images, texts, target, places = _planted(100, places=40)
    fitted: list[set[int]] = []
    plain = sharpness.SharpnessLadder.sharpness

    def spy(self: sharpness.SharpnessLadder, rows: IntArray, share: float) -> Sharpness:
        fitted.append(set(places[target[rows]].tolist()))
        return plain(self, rows, share)

    monkeypatch.setattr(sharpness.SharpnessLadder, "sharpness", spy)
    assert match_report(score_pairs((images, texts), target, places))
    every = set(places[target].tolist())
    left_out = [every - fold for fold in fitted]
    assert len(left_out) == 5
    assert sum(map(len, left_out)) == len(every)  # each place in one fold, and wholly in it
    assert set.union(*left_out) == every


def test_too_few_queries_give_no_report() -> None:
    images, texts, target, places = _planted(19)
    assert match_report(score_pairs((images, texts), target, places)) is None


def test_auroc_equals_counting_pairs() -> None:
    draw = np.random.default_rng(2)
    one, other = draw.integers(0, 9, 40) / 9, draw.integers(0, 7, 30) / 9
    pairs = (one[:, None] > other).mean() + (one[:, None] == other).mean() / 2
    assert _auroc(one, other) == pytest.approx(pairs)


def test_intervals_of_shares_are_wilsons() -> None:
    """Of none and of all of ten, and 40 of 100, to three digits."""
    low, high = _wilson(np.asarray([0.0, 1.0, 0.4]), np.asarray([10, 10, 100]))
    np.testing.assert_allclose(low, [0, 0.722, 0.309], atol=1e-3)
    np.testing.assert_allclose(high, [0.278, 1, 0.498], atol=1e-3)
