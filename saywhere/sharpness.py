"""How far scores can be trusted, and how that is fitted on known pairs. Arrays only.

``locate`` asks it of places, ``match`` of images: the likelihood of the right one grows with
exp(score / temperature), a share of the evidence says nothing, and "none of these" has a constant
likelihood of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import InputError
from saywhere.types import IntArray

Floats = NDArray[np.float64]

NONE_SHARE = 0.1
FOLDS = 5
FEWEST = 20  # pairs, of as many places as there are folds at the least
_TEMPERATURES = np.geomspace(0.05, 5, 40)  # times the spread of the scores
_STRAYS = (0.01, 0.03, 0.06, 0.1, 0.2)  # never none: a description can always be wrong
_TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Sharpness:
    """How far scores of one kind of query can be trusted.

    Attributes:
        temperature: scores are divided by it.
        stray: share of a query's evidence that says nothing.
        none_offset: log-likelihood of "none of these"; None until fitted.

    Raises:
        InputError: numbers out of range.
    """

    temperature: float = 1.0
    stray: float = 0.05
    none_offset: float | None = None

    def __post_init__(self) -> None:
        numbers = [self.temperature, self.stray, self.none_offset or 0.0]
        if not (np.isfinite(numbers).all() and self.temperature > 0 and 0 <= self.stray < 1):
            raise InputError(
                f"{self}: needs a temperature above 0, a stray share from 0 to below 1, and finite "
                "numbers; fit it again"
            )

    @property
    def evidence(self) -> tuple[float, float]:
        """(temperature, stray), as ``hypotheses.answers`` takes them."""
        return self.temperature, self.stray


@dataclass(frozen=True, slots=True, eq=False)
class SharpnessLadder:
    """What ``log_means`` says at every temperature tried; computed once for all folds.

    Attributes:
        rows: (r,) pairs of one kind, ascending.
        temperatures: (t,).
        evidence: (t, 4, r).
    """

    rows: IntArray
    temperatures: Floats
    evidence: Floats

    def sharpness(self, rows: IntArray, none_share: float) -> Sharpness:
        """The most likely temperature, stray share and log-likelihood of "none" for some pairs."""
        best = (np.inf, Sharpness())
        at = np.searchsorted(self.rows, rows)
        for temperature, found in zip(self.temperatures, self.evidence[:, :, at], strict=True):
            right, every, without, count = found
            for stray in _STRAYS:
                mixed = np.logaddexp(np.log1p(-stray) + right, np.log(stray) + every)
                loss, offset = _best_none(mixed - np.log(count), every, without, none_share)
                if loss < best[0]:
                    best = loss, Sharpness(float(temperature), stray, offset)
        return best[1]


def temperature_steps(spread: Floats) -> Floats:
    """(t,) temperatures to try, from the standard deviation of each query's scores."""
    return np.asarray(float(np.median(spread)) * _TEMPERATURES, np.float64)


def place_folds(places: IntArray) -> IntArray:
    """(q,) fold of each query, all of a place in one.

    Raises:
        InputError: too few queries or places to fit on and to check.
    """
    names, codes = np.unique(places, return_inverse=True)
    if len(codes) < FEWEST or len(names) < FOLDS:
        raise InputError(
            f"{len(codes)} pairs of {len(names)} places have their place in the index: too few to "
            f"fit and to check; give at least {FEWEST} of {FOLDS}, better hundreds"
        )
    return np.asarray(np.random.default_rng(0).permutation(len(names))[codes] % FOLDS, np.int64)


def log_means(logs: Floats, right: IntArray) -> Floats:
    """(4, q): the right place's, log mean of all, of all but the right one, and their number."""
    count = logs.shape[1]
    own = logs[np.arange(len(logs)), right]
    top = logs.max(1)
    shares = np.exp(logs - top[:, None])
    total = shares.sum(1)
    shares[np.arange(len(logs)), right] = 0
    others = shares.sum(1)
    every = top + np.log(total / count)
    without = top + np.log(np.maximum(others, _TINY) / max(1, count - 1))
    return np.stack([own, every, without, np.full(len(logs), float(count))])


def _best_none(
    right: Floats, every: Floats, without: Floats, none_share: float
) -> tuple[float, float]:
    """The least loss, and the log-likelihood of "none" that gives it."""
    from scipy.optimize import minimize_scalar  # what only asks needs no SciPy

    odds = np.log(none_share / (1 - none_share))

    def loss(offset: float) -> float:
        none = odds + offset
        present = np.logaddexp(every, none) - right
        absent = np.logaddexp(without, none) - none
        return float((1 - none_share) * present.mean() + none_share * absent.mean())

    low, high = float(without.min()) - 5, float(every.max()) + 10
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(found.fun), float(found.x)
