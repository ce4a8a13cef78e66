"""Fusion of the experts' similarities, folded into one inner product. Arrays only.

Expert e, image i, query q:

    score(q, i) = sum_e g_e(i) * (a_e * <t_e(q), v_e(i)> + b_e + lambda * log w_e(q)) - h(i)

with gate g (is the image of e's platform?), calibration a, b, platform prior w (multiplying a
probability adds its logarithm) and an optional hubness bias h. It equals the inner product of

    query  [a_e * t_e ..., b_e + lambda * log w_e ..., 1]
    image  [g_e * v_e ..., g_e ...,                  -h]

so one vector an image and one search answer for all experts. Calibration lives on the query side:
refitting it re-indexes nothing. The modes are settings of g and w:

    own       g one-hot (known platform, else the classifier's best), no prior
    mean      g equal for all experts, a = 1, b = 0
    weighted  g equal for all experts, a fitted
    gated     g = classifier's probability (one-hot where known), a, b, lambda fitted
    known     an image whose platform is known and has an expert is that expert's alone, any other
              (and one of another kind than the expert learned from) the generalist's; a, b fitted

But for ``known``, a generalist's gate is 1 for every image, and its prior is 1; the gates of the
other experts sum to one for every image: an image of a platform that has no expert belongs to all
of them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.config import FusionMode
from saywhere.errors import InputError
from saywhere.types import PLATFORMS, BoolArray, FloatArray, IntArray, Platform

UNKNOWN = -1
# log 0 would make every score NaN or -inf; this is a prior of one in a million.
_LOG_FLOOR = float(np.log(1e-6))
_FIRST_PRIOR_WEIGHT = 0.7  # between ignoring the words and believing them
_NOTHING = 1e-6  # a probability that all experts together don't reach
_CELLS = 1 << 21  # float64 scores held at once while fitting: 16 MB, and a few times that
_Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is fitted on the query side.

    Attributes:
        scale: (E,) a_e > 0.
        offset: (E,) b_e.
        prior_weight: lambda >= 0.

    Raises:
        InputError: numbers out of range, or not one scale and offset an expert.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    prior_weight: float = 0.0

    def __post_init__(self) -> None:
        finite = np.isfinite([*self.scale, *self.offset, self.prior_weight]).all()
        positive = all(scale > 0 for scale in self.scale) and self.prior_weight >= 0
        if len(self.scale) != len(self.offset) or not finite or not positive:
            raise InputError(
                f"{self}: needs one scale > 0 and one offset an expert, and lambda >= 0"
            )


def neutral(experts: int) -> Calibration:
    """No calibration: similarities count as they are."""
    return Calibration((1.0,) * experts, (0.0,) * experts)


def image_gates(
    mode: FusionMode,
    experts: Sequence[Platform | None],
    known: IntArray,
    log_probability: FloatArray | None,
) -> FloatArray:
    """g_e(i): (n, E) float32; the gates of all but generalists sum to one (``known``: of all).

    Args:
        experts: the platform of each expert, None for a generalist.
        known: (n,) index into ``PLATFORMS``, ``UNKNOWN`` where nothing says so.
        log_probability: (n, 3) of the image-side classifier; None: all platforms equally likely.
    """
    gates = np.ones((len(known), len(experts)), np.float32)
    specialists = [index for index, platform in enumerate(experts) if platform is not None]
    if not specialists:
        return gates
    if mode in ("mean", "weighted"):
        gates[:, specialists] = 1 / len(specialists)
        return gates
    columns = [PLATFORMS.index(platform) for platform in experts if platform is not None]
    one_hot = np.eye(len(PLATFORMS), dtype=np.float32)[:, columns]
    if mode == "known" and len(specialists) < len(experts):
        gates[:, specialists] = np.where((known != UNKNOWN)[:, None], one_hot[known], 0)
        generalists = [index for index, platform in enumerate(experts) if platform is None]
        gates[:, generalists] = 1 - gates[:, specialists].sum(1, keepdims=True)
        return gates
    if log_probability is None:
        probability = np.ones((len(known), len(columns)), np.float32)
    else:
        probability = np.exp(log_probability[:, columns])
    if mode in ("own", "known"):
        probability = np.eye(len(columns), dtype=np.float32)[probability.argmax(1)]
    probability = np.where((known != UNKNOWN)[:, None], one_hot[known], probability)
    # Of a platform without an expert: all of them alike, or its score would be a bare zero.
    probability[probability.sum(1) < _NOTHING] = 1
    gates[:, specialists] = probability / probability.sum(1, keepdims=True)
    return gates


def query_log_prior(experts: Sequence[Platform | None], log_probability: FloatArray) -> FloatArray:
    """Log w_e(q): (q, E) float32 from (q, 3) log-probabilities; 0 for a generalist."""
    prior = np.zeros((len(log_probability), len(experts)), np.float32)
    for index, platform in enumerate(experts):
        if platform is not None:
            column = log_probability[:, PLATFORMS.index(platform)]
            prior[:, index] = np.maximum(column, _LOG_FLOOR)
    return prior


def fold_images(
    embeddings: Sequence[FloatArray], gates: FloatArray, hubness: FloatArray | None = None
) -> FloatArray:
    """Image side of the inner product.

    Args:
        embeddings: for each expert (n, d_e) float32.
        gates: (n, E) float32.
        hubness: (n,) float32, subtracted from every score of the image.

    Returns:
        (n, sum d_e + E + 1) float32, not unit length.
    """
    parts = [gate[:, None] * part for gate, part in zip(gates.T, embeddings, strict=True)]
    last = np.zeros(len(gates), np.float32) if hubness is None else -hubness
    return np.concatenate([*parts, gates, last[:, None]], 1).astype(np.float32)


def fold_queries(
    embeddings: Sequence[FloatArray], calibration: Calibration, log_prior: FloatArray
) -> FloatArray:
    """Query side of the inner product.

    Args:
        embeddings: for each expert (q, d_e) float32.
        log_prior: (q, E) float32, see ``query_log_prior``.

    Returns:
        (q, sum d_e + E + 1) float32.
    """
    parts = [
        np.float32(scale) * part for scale, part in zip(calibration.scale, embeddings, strict=True)
    ]
    offsets = np.asarray(calibration.offset, np.float32) + calibration.prior_weight * log_prior
    ones = np.ones((len(log_prior), 1), np.float32)
    return np.concatenate([*parts, offsets, ones], 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class FitProblem:
    """A mixed gallery with known answers.

    Attributes:
        similarity: (E, q, n) float32, <t_e(q), v_e(i)>.
        gates: (n, E) float32.
        log_prior: (q, E) float32.
        positives: (q, n) bool, at least one in each row.
        ignored: (q, n) bool, pairs that count neither way (other images of the same place).

    Raises:
        InputError: shapes that do not fit, or a query without a positive that counts.
    """

    similarity: FloatArray
    gates: FloatArray
    log_prior: FloatArray
    positives: BoolArray
    ignored: BoolArray

    def __post_init__(self) -> None:
        experts, queries, images = self.similarity.shape
        found = (self.gates.shape, self.log_prior.shape, self.positives.shape, self.ignored.shape)
        pairs = (queries, images)
        if found != ((images, experts), (queries, experts), pairs, pairs) or not queries:
            raise InputError(f"fusion: similarity {self.similarity.shape} does not fit {found}")
        lost = int((~(self.positives & ~self.ignored).any(1)).sum())
        if lost:
            raise InputError(
                f"fusion: {lost} of {queries} queries have no positive to fit on; leave them out"
            )


def fused_scores(problem: FitProblem, calibration: Calibration) -> FloatArray:
    """(q, n) float32: what folded vectors of the problem give."""
    weights = problem.gates * np.asarray(calibration.scale, np.float32)  # (n, E)
    offsets = np.asarray(calibration.offset) + calibration.prior_weight * problem.log_prior
    scores = np.einsum("eqn,ne->qn", problem.similarity, weights) + offsets @ problem.gates.T
    return np.asarray(scores, np.float32)


def fit_calibration(problem: FitProblem, mode: FusionMode, start_scale: FloatArray) -> Calibration:
    """Fit a, b and lambda together by listwise cross-entropy over the mixed gallery.

    Args:
        mode: ``mean`` fits nothing; ``weighted`` fits a; ``own`` and ``known`` a and b; ``gated``
            all.
        start_scale: (E,) initial a, also the centre of a weak ridge (in logs).

    Returns:
        a in (0, inf), b small (a common shift changes nothing), lambda >= 0.
    """
    from scipy.optimize import minimize

    experts = len(start_scale)
    if mode == "mean":
        return neutral(experts)
    centre = np.concatenate([np.log(np.asarray(start_scale, np.float64)), np.zeros(experts + 1)])
    ridge = 0.01 * np.asarray([1.0] * experts + [0.1] * experts + [0.0])
    free, fixed, positive = (None, None), (0, 0), (0, None)

    def objective(values: _Wide) -> tuple[float, _Wide]:
        loss, slope = _listwise_loss(problem, values)
        away = values - centre
        return loss + float(ridge @ np.square(away)), slope + 2 * ridge * away

    # Values: log a (E), b (E), lambda; what a mode does not fit is held at 0 by its bounds.
    start = centre.copy()
    start[-1] = _FIRST_PRIOR_WEIGHT if mode == "gated" else 0
    bounds = [
        *[free] * experts,
        *[free if mode in ("own", "gated", "known") else fixed] * experts,
        positive if mode == "gated" else fixed,
    ]
    found = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x.tolist()
    scale = tuple(float(value) for value in np.exp(found[:experts]))
    return Calibration(scale, tuple(found[experts:-1]), found[-1])


def _listwise_loss(problem: FitProblem, values: _Wide) -> tuple[float, _Wide]:
    """Mean of -log sum_{positives} softmax(scores), and its gradient; blocks of queries."""
    queries, images = problem.positives.shape
    loss, slope = 0.0, np.zeros_like(values)
    step = max(1, _CELLS // images)
    for start in range(0, queries, step):
        block_loss, block_slope = _block_loss(problem, values, slice(start, start + step))
        loss, slope = loss + block_loss, slope + block_slope
    return loss / queries, slope / queries


def _block_loss(problem: FitProblem, values: _Wide, rows: slice) -> tuple[float, _Wide]:
    """Sum over these queries of the loss and of its gradient by log a, b and lambda."""
    experts = len(problem.similarity)
    scale, offset, weight = np.exp(values[:experts]), values[experts:-1], values[-1]
    gates = problem.gates.astype(np.float64)  # (n, E)
    log_prior = problem.log_prior[rows].astype(np.float64)  # (q, E)
    ignored, positives = problem.ignored[rows], problem.positives[rows]
    scores = (offset + weight * log_prior) @ gates.T  # (q, n)
    for index in range(experts):
        scores += problem.similarity[index, rows] * (scale[index] * gates[:, index])
    scores[ignored] = -np.inf
    total, share = _softmax(scores)
    right, right_share = _softmax(np.where(positives, scores, -np.inf))
    pull = share - right_share  # (q, n): gradient by the scores
    gated = pull @ gates  # (q, E)
    by_scale = [
        scale[index] * np.vdot(pull * gates[:, index], problem.similarity[index, rows])
        for index in range(experts)
    ]
    slope = np.concatenate([by_scale, gated.sum(0), [np.vdot(gated, log_prior)]])
    return float((total - right).sum()), slope


def _softmax(scores: _Wide) -> tuple[_Wide, _Wide]:
    """Log of the sum of exponentials of each row, (q,), and the softmax, (q, n)."""
    top = scores.max(axis=1, keepdims=True)
    shares = np.exp(scores - top)
    sums = shares.sum(axis=1, keepdims=True)
    return (top + np.log(sums))[:, 0], shares / sums
