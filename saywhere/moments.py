"""Mean and standard deviation of features, exact enough for millions of rows. Arrays only."""

from __future__ import annotations

import numpy as np

from saywhere.types import FloatArray

_BLOCK = 512  # rows summed in float32 before the sum goes on in float64


def moments(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of each feature, summed in blocks: no copy, no drift.

    A feature that is constant in training gets a deviation of 1, as in scikit-learn's
    StandardScaler: divided by next to nothing, any other value of it would drown the rest.

    Args:
        features: (rows, features) float32.

    Returns:
        (features,) float32 each.
    """
    mean = features.mean(0, dtype=np.float64).astype(np.float32)
    squares = np.zeros(len(mean), np.float64)
    for start in range(0, len(features), _BLOCK):
        squares += np.square(features[start : start + _BLOCK] - mean).sum(0)
    std = np.sqrt(squares / len(features)).astype(np.float32)
    std[std < 1e-4] = 1
    return mean, std
