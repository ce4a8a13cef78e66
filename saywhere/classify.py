"""A small linear classifier of platforms, used twice: image features -> gate, words -> prior.

Multinomial logistic regression on standardised features; fitted by scikit-learn, applied in NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from saywhere.errors import ExpertError, InputError
from saywhere.types import PLATFORMS, FloatArray, IntArray

_NAMES = ("mean", "std", "weight", "bias")
_MOST_STEPS = 2000  # far beyond what a few hundred images need; scikit-learn warns when it is hit


@dataclass(frozen=True, slots=True)
class PlatformClassifier:
    """Logistic regression over the platforms.

    Attributes:
        mean, std: (features,) float32 of the training features.
        weight, bias: (3, features), (3,) float32, rows in the order of ``PLATFORMS``; a platform
            that was not in training has bias -inf.
    """

    mean: FloatArray
    std: FloatArray
    weight: FloatArray
    bias: FloatArray

    def log_probability(self, features: FloatArray) -> FloatArray:
        """(n, features) -> (n, 3) float32 log-probabilities in the order of ``PLATFORMS``."""
        logits = ((features - self.mean) / self.std) @ self.weight.T + self.bias
        top = logits.max(axis=1, keepdims=True)
        total = np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
        return np.asarray(logits - top - total, np.float32)

    def arrays(self) -> dict[str, FloatArray]:
        """Everything fitted, by name."""
        return {name: getattr(self, name) for name in _NAMES}


def classifier_from_arrays(arrays: Mapping[str, FloatArray]) -> PlatformClassifier:
    """The inverse of ``PlatformClassifier.arrays``.

    Raises:
        ExpertError: an array is missing, or its shape does not fit.
    """
    if set(arrays) != set(_NAMES):
        raise ExpertError(
            f"platform classifier: holds {sorted(arrays)} instead of {sorted(_NAMES)}; train anew"
        )
    found = PlatformClassifier(**{name: arrays[name] for name in _NAMES})
    features, classes = found.mean.shape, (len(PLATFORMS),)
    shapes = (found.std.shape, found.weight.shape, found.bias.shape)
    if len(features) != 1 or shapes != (features, classes + features, classes):
        raise ExpertError(
            f"platform classifier: shapes {(features, *shapes)} do not fit each other; train anew"
        )
    return found


def fit_classifier(features: FloatArray, platforms: IntArray, *, c: float) -> PlatformClassifier:
    """Fit on one row a sample.

    Args:
        features: (n, f) float32.
        platforms: (n,) int64 index into ``PLATFORMS``; one platform alone gets probability 1.
        c: inverse regularisation strength, as scikit-learn's ``C``.

    Raises:
        InputError: no samples, or not one platform a sample.
    """
    from sklearn.linear_model import LogisticRegression

    if not len(platforms) or len(features) != len(platforms):
        raise InputError(
            f"platform classifier: {len(features)} samples, {len(platforms)} platforms; pass one "
            "platform a sample, and at least one"
        )
    mean = features.mean(0)
    std = np.maximum(features.std(0), 1e-4)
    present = np.unique(platforms)
    weight = np.zeros((len(PLATFORMS), features.shape[1]), np.float32)
    bias = np.full(len(PLATFORMS), -np.inf, np.float32)
    if len(present) == 1:
        bias[present] = 0
    else:
        model = LogisticRegression(C=c, max_iter=_MOST_STEPS)
        model.fit((features - mean) / std, platforms)
        coefficients, intercepts = model.coef_, model.intercept_
        if len(present) == 2:  # scikit-learn keeps one row for two classes: of the second
            coefficients = np.concatenate([-coefficients, coefficients]) / 2
            intercepts = np.concatenate([-intercepts, intercepts]) / 2
        weight[present], bias[present] = coefficients, intercepts
    return PlatformClassifier(mean.astype(np.float32), std.astype(np.float32), weight, bias)
