"""A member without training: regularised canonical correlations of image and text features.

The two linear maps under which views and texts that belong together correlate most, in closed
form (Hotelling 1936; regularised as in Hardoon, Szedmak and Shawe-Taylor 2004), each direction
scaled by a power of its correlation (Gong, Ke, Isard and Lazebnik 2014). With hundreds of images it
is as good as trained heads, and it errs elsewhere: together they are better than either.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saywhere.batches import TrainingSet
from saywhere.config import CanonicalConfig
from saywhere.expert import Head, Member
from saywhere.moments import moments
from saywhere.types import FloatArray

_BLOCK = 4096  # rows held as float64 at a time
_Wide = NDArray[np.float64]


def canonical_member(data: TrainingSet, config: CanonicalConfig) -> Member:
    """Fit one on every pair of a view and a text of the same item.

    Equal data give equal numbers, bit by bit, whatever the number of threads.

    Returns:
        linear heads to ``config.dimension`` numbers, or as many as the narrower side has; of logit
        scale and weight 1.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        images, mean, std = _standardised(data.views)
        text_mean = data.texts.mean(0)
        texts = data.texts - text_mean
        pair_view, pair_text = _item_means(images, data.view_start), _item_sums(texts, data)
        cross = pair_view.T @ pair_text / len(texts)
        project_image, project_text = _directions(
            _ridged(images, config.image_ridge), _ridged(texts, config.text_ridge), cross, config
        )
    return Member(
        image=_linear(project_image, mean, std),
        text=_linear(project_text, text_mean, np.ones(texts.shape[1], np.float32)),
        logit_scale=1.0,
    )


def _standardised(views: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    mean, std = moments(views)
    return (views - mean) / std, mean, std


def _item_means(images: FloatArray, start: NDArray[np.int64]) -> _Wide:
    """(n, features) mean over each item's views."""
    sums = np.add.reduceat(images, start[:-1], axis=0).astype(np.float64)
    return np.asarray(sums / np.diff(start)[:, None])


def _item_sums(texts: FloatArray, data: TrainingSet) -> _Wide:
    """(n, features) sum over each item's texts."""
    return np.add.reduceat(texts, data.text_start[:-1], axis=0).astype(np.float64)


def _ridged(rows: FloatArray, ridge: float) -> _Wide:
    """Covariance of centred rows, ``ridge`` times its mean variance added to the diagonal."""
    total = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        total += block.T @ block
    total /= len(rows)
    total[np.diag_indices_from(total)] += max(ridge * np.trace(total) / len(total), 1e-9)
    return total


def _directions(
    images: _Wide, texts: _Wide, cross: _Wide, config: CanonicalConfig
) -> tuple[_Wide, _Wide]:
    """(features, k) projections of both sides, each direction times its correlation to a power."""
    from scipy.linalg import cholesky, solve_triangular, svd

    left, right = cholesky(images, lower=True), cholesky(texts, lower=True)
    whitened = solve_triangular(left, cross, lower=True)
    whitened = solve_triangular(right, whitened.T, lower=True).T
    u, correlations, vt = svd(whitened, full_matrices=False)
    k = min(config.dimension, len(correlations))
    strength = correlations[:k] ** config.power
    return (
        solve_triangular(left, u[:, :k], lower=True, trans="T") * strength,
        solve_triangular(right, vt[:k].T, lower=True, trans="T") * strength,
    )


def _linear(projection: _Wide, mean: FloatArray, std: FloatArray) -> Head:
    """A head that only projects."""
    return Head(
        mean=np.asarray(mean, np.float32),
        std=np.asarray(std, np.float32),
        weight1=np.empty((0, 0), np.float32),
        bias1=np.empty((0,), np.float32),
        weight2=np.ascontiguousarray(projection.T, dtype=np.float32),
        bias2=np.zeros(projection.shape[1], np.float32),
    )
