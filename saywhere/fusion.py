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

A generalist's gate is 1 for every image, and its prior is 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.config import FusionMode
from saywhere.types import PLATFORMS, BoolArray, FloatArray, IntArray, Platform

UNKNOWN = -1
# log 0 would make every score NaN or -inf; this is a prior of one in a million.
_LOG_FLOOR = float(np.log(1e-6))


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is fitted on the query side.

    Attributes:
        scale: (E,) a_e > 0.
        offset: (E,) b_e.
        prior_weight: lambda >= 0.
    """

    scale: tuple[float, ...]
    offset: tuple[float, ...]
    prior_weight: float = 0.0


def neutral(experts: int) -> Calibration:
    """No calibration: similarities count as they are."""
    return Calibration((1.0,) * experts, (0.0,) * experts)


def image_gates(
    mode: FusionMode,
    experts: Sequence[Platform | None],
    known: IntArray,
    log_probability: FloatArray | None,
) -> FloatArray:
    """g_e(i): (n, E) float32.

    Args:
        experts: the platform of each expert, None for a generalist.
        known: (n,) index into ``PLATFORMS``, ``UNKNOWN`` where nothing says so.
        log_probability: (n, 3) of the image-side classifier; None: all platforms equally likely.
    """
    count = len(known)
    gates = np.ones((count, len(experts)), np.float32)
    specialists = [index for index, platform in enumerate(experts) if platform is not None]
    if not specialists:
        return gates
    if mode in ("mean", "weighted"):
        gates[:, specialists] = 1 / len(specialists)
        return gates
    if log_probability is None:
        probability = np.full((count, len(PLATFORMS)), 1 / len(PLATFORMS), np.float32)
    else:
        probability = np.exp(log_probability)
    one_hot = np.eye(len(PLATFORMS), dtype=np.float32)
    if mode == "own":
        probability = one_hot[probability.argmax(1)]
    probability = np.where((known != UNKNOWN)[:, None], one_hot[known], probability)
    columns = [PLATFORMS.index(platform) for platform in experts if platform is not None]
    gates[:, specialists] = probability[:, columns]
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
    parts = [gates[:, [index]] * part for index, part in enumerate(embeddings)]
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
    """

    similarity: FloatArray
    gates: FloatArray
    log_prior: FloatArray
    positives: BoolArray
    ignored: BoolArray


def fit_calibration(problem: FitProblem, mode: FusionMode, start_scale: FloatArray) -> Calibration:
    """Fit a, b and lambda together by listwise cross-entropy over the mixed gallery.

    Args:
        mode: ``mean`` fits nothing; ``weighted`` fits a; ``own`` a and b; ``gated`` all.
        start_scale: (E,) initial a, also the centre of a weak ridge (in logs).

    Returns:
        a in (0, inf), b small (a common shift changes nothing), lambda >= 0.
    """
    from scipy.optimize import minimize

    experts = len(start_scale)
    if mode == "mean":
        return neutral(experts)
    fits_offset, fits_prior = mode in ("own", "gated"), mode == "gated"
    centre = np.log(np.asarray(start_scale, np.float64))

    def unpack(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        log_scale, offset, raw = values[:experts], values[experts:-1], values[-1]
        weight = np.log1p(np.exp(raw)) if fits_prior else 0.0
        return np.exp(log_scale), offset * fits_offset, np.asarray(weight)

    def objective(values: NDArray[np.float64]) -> float:
        scale, offset, weight = unpack(values)
        loss = _listwise_loss(problem, scale, offset, float(weight))
        ridge = np.square(values[:experts] - centre).sum() + 0.1 * np.square(offset).sum()
        return float(loss + 0.01 * ridge)

    start = np.concatenate([centre, np.zeros(experts), [0.0]])
    found = minimize(objective, start, method="L-BFGS-B")
    scale, offset, weight = unpack(found.x)
    return Calibration(
        tuple(float(value) for value in scale),
        tuple(float(value) for value in offset),
        float(weight),
    )


def _listwise_loss(
    problem: FitProblem, scale: NDArray[np.float64], offset: NDArray[np.float64], weight: float
) -> float:
    """Mean of -log sum_{positives} softmax(scores)."""
    scores = np.einsum("e,eqn,ne->qn", scale, problem.similarity, problem.gates, optimize=True)
    scores += (offset + weight * problem.log_prior) @ problem.gates.T
    scores[problem.ignored] = -np.inf
    top = scores.max(axis=1, keepdims=True)
    shares = np.exp(scores - top)
    found = np.where(problem.positives, shares, 0).sum(1)
    return float(np.mean(np.log(shares.sum(1)) - np.log(np.maximum(found, 1e-300))))
