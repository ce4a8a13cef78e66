"""How likely each hit is the image that was meant, and how likely that none is. Arrays only.

The hypotheses are the n images that were searched and "none of these". An image's likelihood grows
with exp(score / temperature); all images share 1 - none_share of the prior, so each gets
(1 - none_share) / n, and a hit among a million images is believed less than the same score among a
hundred. With l_i = (score_i - mean score) / temperature, L = log mean_j exp(l_j), stray share s and
the constant log-likelihood c of "none":

    P(none) = none_share e^c / (none_share e^c + (1 - none_share) e^L)
    P(i) = (1 - P(none)) / n * ((1 - s) exp(l_i - L) + s)

So of the images that are no hits, only n, the mean and L are needed: one pass gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from saywhere.errors import InputError
from saywhere.products import ScoreTotals
from saywhere.sharpness import (
    NONE_SHARE,
    Floats,
    Sharpness,
    SharpnessLadder,
    log_means,
    temperature_steps,
)
from saywhere.types import FloatArray, IntArray

# As for places in ``locate``: more probable than all else together, "none" included.
LEAST_CONFIDENT = 0.5
_MOST = 1 << 22  # scores


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What is said of q queries.

    Attributes:
        images: (q, m) probability of each image.
        none: (q,) probability that it is none of them.
    """

    images: Floats
    none: Floats


class Belief(NamedTuple):
    """What probabilities are made with.

    Attributes:
        sharpness: fitted, ``none_offset`` included.
        none_share: prior probability that what is described was not searched.
    """

    sharpness: Sharpness
    none_share: float = NONE_SHARE


def match_probabilities(
    scores: FloatArray, sharpness: Sharpness, none_share: float = NONE_SHARE
) -> Matches:
    """Probabilities of every image of a gallery and of "none"; each query's sum to one.

    Args:
        scores: (q, n) fused scores of the whole gallery.
        sharpness: fitted, ``none_offset`` included.

    Raises:
        InputError: an empty gallery, or a sharpness without ``none_offset``.
    """
    count = scores.shape[1]
    _offset(count, sharpness)
    logs = _logs(scores, sharpness.temperature)
    top = logs.max(1)
    log_mean = top + np.log(np.exp(logs - top[:, None]).mean(1))
    totals = ScoreTotals(sharpness.temperature, count, scores.mean(1, dtype=np.float64), log_mean)
    return hit_probabilities(scores, totals, Belief(sharpness, none_share))


def hit_probabilities(scores: FloatArray, totals: ScoreTotals, belief: Belief) -> Matches:
    """As ``match_probabilities``, of some of the images, from what all of them come to.

    Args:
        scores: (q, m) fused scores of the images asked for.
        totals: of the scores of all n, at the temperature of ``belief.sharpness``.

    Raises:
        InputError: nothing was searched, totals at another temperature, or no ``none_offset``.
    """
    sharpness, none_share = belief
    offset = _offset(totals.count, sharpness)
    if totals.temperature != sharpness.temperature:
        raise InputError(
            f"totals at temperature {totals.temperature:g}, {sharpness}: search again at its own"
        )
    there = np.log1p(-none_share) + totals.log_mean_exp
    none = np.log(none_share) + offset
    every = np.logaddexp(there, none)  # (q,)
    wide = scores.astype(np.float64) - totals.mean[:, None]
    likely = np.exp(wide / sharpness.temperature - totals.log_mean_exp[:, None])
    likely = (1 - sharpness.stray) * likely + sharpness.stray
    return Matches(likely * np.exp(there - every)[:, None] / totals.count, np.exp(none - every))


def is_confident(first: float) -> bool:
    """Whether the best hit, of probability ``first``, is worth calling a match."""
    return first >= LEAST_CONFIDENT


def evenly_spaced(queries: int, images: int) -> IntArray:
    """All queries, or so many that a table of their scores stays small."""
    return np.arange(queries)[:: max(1, -(-queries * images // _MOST))]


def fit_matches(scores: FloatArray, target: IntArray) -> SharpnessLadder:
    """What the sharpness of any of these queries is read from.

    Args:
        scores: (q, n) fused scores of the whole gallery.
        target: (q,) the right image.
    """
    steps = temperature_steps(scores.std(1, dtype=np.float64))
    evidence = np.stack([log_means(_logs(scores, float(step)), target) for step in steps])
    return SharpnessLadder(np.arange(len(scores)), steps, evidence)


def _offset(images: int, sharpness: Sharpness) -> float:
    """The log-likelihood of "none"; refuses what nothing can be said of."""
    if not images or sharpness.none_offset is None:
        raise InputError(
            f"{images} images, {sharpness}: needs an image, and a fitted none_offset; "
            "fit it by fit_matches"
        )
    return sharpness.none_offset


def _logs(scores: FloatArray, temperature: float) -> Floats:
    """(q, n) log-likelihoods: what counts is how far a score stands above its query's mean."""
    wide = scores.astype(np.float64)
    return np.asarray((wide - wide.mean(1, keepdims=True)) / temperature)
