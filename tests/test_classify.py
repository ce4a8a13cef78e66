"""The platform classifier against scikit-learn's own probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from saywhere.classify import PlatformClassifier, classifier_from_arrays, fit_classifier
from saywhere.errors import ExpertError, InputError
from saywhere.types import FloatArray, IntArray


def samples(classes: list[int], count: int = 90, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Separable but noisy, features of very different scale, one of them constant."""
    rng = np.random.default_rng(seed)
    labels = np.asarray([classes[i % len(classes)] for i in range(count)], np.int64)
    centres = np.random.default_rng(7).standard_normal((3, 6)) * 1.5
    rows = (centres[labels] + rng.standard_normal((count, 6))) * [1, 1, 100, 0.01, 1, 0] + 3
    return rows.astype(np.float32), labels


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2], [1, 2]])
def test_equals_scikit_learn(classes: list[int]) -> None:
    rows, labels = samples(classes)
    fitted = fit_classifier(rows, labels, c=0.5)
    model = LogisticRegression(C=0.5, max_iter=2000)
    model.fit((rows - fitted.mean) / fitted.std, labels)
    unseen, _ = samples(classes, seed=1)
    expected = model.predict_proba((unseen - fitted.mean) / fitted.std)
    found = np.exp(fitted.log_probability(unseen))
    np.testing.assert_allclose(found[:, classes], expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)
    assert (np.delete(found, classes, axis=1) == 0).all()


@pytest.mark.parametrize("classes", [[0, 1, 2], [0, 2]])
def test_beats_chance_on_unseen_samples(classes: list[int]) -> None:
    fitted = fit_classifier(*samples(classes), c=1.0)
    rows, labels = samples(classes, seed=2)
    right = fitted.log_probability(rows).argmax(1) == labels
    assert right.mean() > 0.85


def test_one_platform_is_certain() -> None:
    rows, labels = samples([1])
    found = np.exp(fit_classifier(rows, labels, c=1.0).log_probability(rows))
    assert (found == [0, 1, 0]).all()


def test_far_away_features_overflow_nothing() -> None:
    fitted = fit_classifier(*samples([0, 1]), c=1.0)
    far = np.full((2, 6), 1e6, np.float32)
    far[1] *= -1
    found = fitted.log_probability(far)
    assert not np.isnan(found).any()
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-6)
    assert fitted.log_probability(np.empty((0, 6), np.float32)).shape == (0, 3)


def test_arrays_round_trip() -> None:
    fitted = fit_classifier(*samples([0, 2]), c=1.0)
    back = classifier_from_arrays(fitted.arrays())
    rows, _ = samples([0, 2], seed=3)
    assert np.array_equal(back.log_probability(rows), fitted.log_probability(rows))


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = fit_classifier(*samples([0, 1, 2]), c=1.0).arrays()
    for name, array in arrays.items():
        for broken in (
            {key: value for key, value in arrays.items() if key != name},
            {**arrays, name: array[1:]},
            {**arrays, name: array[None]},
        ):
            with pytest.raises(ExpertError, match="train anew"):
                classifier_from_arrays(broken)


def test_fitting_needs_a_platform_a_sample() -> None:
    rows, labels = samples([0, 1])
    for bad in ((rows[:0], labels[:0]), (rows, labels[1:])):
        with pytest.raises(InputError, match="platform a sample"):
            fit_classifier(*bad, c=1.0)


def test_fitting_is_deterministic() -> None:
    one, two = (fit_classifier(*samples([0, 1, 2]), c=1.0) for _ in range(2))
    assert isinstance(one, PlatformClassifier)
    assert all(np.array_equal(a, two.arrays()[name]) for name, a in one.arrays().items())
