"""From answers of places to probabilities, and from those to regions in metres. Arrays only.

Log-likelihoods of descriptions add (Bayes), each times what it is worth beside the others. With N
places under consideration each has prior 1/N, hence a larger index asks for more evidence; "none
of these" is a hypothesis of its own, of constant log-likelihood a description.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.geodesy import distances_m, moved

Floats = NDArray[np.float64]

_STRAY = 0.01  # of a prior: the last known position may be wrong
_NORMAL_95 = float(np.sqrt(-2 * np.log(0.05)))  # 95 % of a round normal lie within so many sigma
_RINGS, _SPOKES = 10, 12  # of a spread-out place, as points
_SPREAD = 60  # places spread out, the most probable first; others are points
_FINE = 400  # points of the first place's own spread


@dataclass(frozen=True, slots=True, eq=False)
class Posterior:
    """Probabilities that sum to one with ``none``, which is 0 where it isn't a hypothesis."""

    places: Floats
    none: float


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How far the described spot lies from a place's point.

    Attributes:
        lat, lon: (U,) the points.
        error_m: (U,) standard errors, a horizontal axis.
        residuals: quantiles of distance / error at evenly spaced levels from 0 to 1.
    """

    lat: Floats
    lon: Floats
    error_m: Floats
    residuals: tuple[float, ...]

    def quantile(self, level: float | Floats) -> Floats:
        """Of distance / error."""
        levels = np.linspace(0, 1, len(self.residuals))
        return np.asarray(np.interp(level, levels, self.residuals))


def posterior(answers: Floats, log_prior: Floats, none: float | None) -> Posterior:
    """Bayes over places and "none".

    Args:
        answers: (q, U) log-likelihoods of the q descriptions.
        log_prior: (U,) logarithms that sum to one; -inf for what is ruled out.
        none: log of prior odds times likelihood of "none", all descriptions; None to leave it out.
    """
    logs = answers.sum(0) + log_prior
    everything = np.append(logs, -np.inf if none is None else none)
    shares = np.exp(everything - everything.max())
    shares /= shares.sum()
    return Posterior(shares[:-1], float(shares[-1]))


def near_prior(lat: Floats, lon: Floats, centre: tuple[float, float], metres: float) -> Floats:
    """Log prior of U places by a last known position: 95 % within ``metres`` of it, as a normal.

    One percent is spread evenly over all places, since the position may be wrong.

    Returns:
        (U,); all alike where every place is so far off that the position says nothing.
    """
    away = distances_m(centre[0], centre[1], lat, lon) / (metres / _NORMAL_95)
    weight = np.exp(-np.square(away) / 2)
    even = np.full(len(lat), 1 / len(lat))
    if weight.sum() < 1e-6:
        return np.asarray(np.log(even))
    return np.asarray(np.log((1 - _STRAY) * weight / weight.sum() + _STRAY * even))


def mass_by_distance(probability: Floats, spread: Spread, about: int) -> tuple[Floats, Floats]:
    """How the described spot is distributed about the point of place ``about``.

    The first place's own spread is known exactly; others' are laid out as points on rings.

    Args:
        probability: (U,) of the places, any sum; it is normalised.

    Returns:
        (distances in metres ascending, probability within each).
    """
    share = probability / probability.sum()
    others = np.flatnonzero(share > 0)
    others = others[others != about]
    others = others[np.argsort(-share[others], kind="stable")]
    wide, thin = others[:_SPREAD], others[_SPREAD:]
    own = spread.error_m[about] * spread.quantile((np.arange(_FINE) + 0.5) / _FINE)
    ring = spread.quantile((np.arange(_RINGS) + 0.5) / _RINGS)
    bearings = np.arange(_SPOKES) * (360 / _SPOKES)
    lat, lon = moved(
        spread.lat[wide, None, None],
        spread.lon[wide, None, None],
        bearings,
        spread.error_m[wide, None, None] * ring[:, None],
    )
    centre = spread.lat[about], spread.lon[about]
    distance = np.concatenate([
        own,
        distances_m(*centre, lat, lon).ravel(),
        distances_m(*centre, spread.lat[thin], spread.lon[thin]),
    ])  # fmt: skip
    weight = np.concatenate([
        np.full(_FINE, share[about] / _FINE),
        np.repeat(share[wide] / (_RINGS * _SPOKES), _RINGS * _SPOKES),
        share[thin],
    ])  # fmt: skip
    order = np.argsort(distance, kind="stable")
    return distance[order], np.cumsum(weight[order])


def radius_of(distance: Floats, within: Floats, level: float) -> float:
    """The least radius that holds ``level`` of the probability; of ``mass_by_distance``."""
    at = int(np.searchsorted(within, min(level, within[-1])))
    return float(distance[min(at, len(distance) - 1)])


def mass_within(distance: Floats, within: Floats, metres: float) -> float:
    """The probability within ``metres``; of ``mass_by_distance``."""
    at = int(np.searchsorted(distance, metres, side="right"))
    return float(within[at - 1]) if at else 0.0
