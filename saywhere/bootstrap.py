"""Intervals that respect places: the percentile bootstrap over clusters.

Queries about one place succeed and fail together, so resampling queries would pretend to more
evidence than there is. Here places are drawn with replacement and each brings all its queries
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8; percentile
interval: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

Everything is deterministic for a seed, and drawn in blocks, so memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saywhere.errors import InputError
from saywhere.types import IntArray

Statistic = Literal["mean", "median"]

_Floats = NDArray[np.float64]

# Numbers held at once while resampling: 4 Mi of 8 bytes are 32 MB.
_BLOCK_CELLS = 1 << 22

_POWER = 0.8


@dataclass(frozen=True, slots=True)
class Interval:
    """A statistic with its percentile interval, in the unit of the values."""

    low: float
    high: float
    value: float

    def to_dict(self) -> dict[str, float]:
        """The fields, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Difference:
    """How much better ``a`` is than ``b`` on the same queries, in the unit of the values.

    Attributes:
        value: mean of a minus mean of b.
        low, high: percentile interval of it.
        minimum_detectable: the smallest true difference that such a set of queries would show in
            80 of 100 repetitions; see :func:`paired_difference`.
    """

    value: float
    low: float
    high: float
    minimum_detectable: float

    def to_dict(self) -> dict[str, float]:
        """The fields, ready for JSON."""
        return asdict(self)


def interval(
    values: ArrayLike,
    places: ArrayLike,
    *,
    statistic: Statistic = "mean",
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Percentile interval of a mean or median over queries, resampled by place.

    Args:
        values: (q,) numbers or bools, one a query: 100 or 0 for a recall in percent, a rank, …
        places: (q,) place of each query, numbers or strings; at least two different ones.
        statistic: ``mean`` or ``median``.
        level: coverage aimed at, strictly between 0 and 1.
        samples: resamplings, at least 2.
        seed: same seed, same interval.

    Raises:
        InputError: values that are not finite, lengths that differ, fewer than two places, or an
            option out of range.
    """
    numbers, groups = _checked(values, places)
    _require_options(statistic, level, samples)
    if statistic == "mean":
        value, replicate = float(np.mean(numbers)), _mean_of(numbers, groups)
    else:
        value, replicate = float(np.median(numbers)), _median_of(numbers, groups)
    replicates = _replicates(replicate, (len(numbers), int(groups.max()) + 1), samples, seed)
    low, high = _percentiles(replicates, level)
    return Interval(low=low, high=high, value=value)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    places: ArrayLike,
    *,
    level: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Mean of a minus mean of b on the same queries, resampled by place.

    ``minimum_detectable`` = (z_((1 + level) / 2) + z_0.8) · SE, with SE the standard deviation of
    the paired resamplings: what a two-sided test at 1 - level finds with a power of 80 % (Bloom,
    Minimum detectable effects, Evaluation Review 19(5), 1995). SE is estimated from these very
    differences, so two systems that answer alike have 0 here and not a property of the data.

    Args:
        a, b: (q,) numbers or bools, entry i of both about query i.
        places: (q,) place of each query; at least two different ones.
        level, samples, seed: as in :func:`interval`.

    Raises:
        InputError: as in :func:`interval`.
    """
    first, groups = _checked(a, places)
    second, _ = _checked(b, places)
    _require_options("mean", level, samples)
    gain = first - second
    shape = (len(gain), int(groups.max()) + 1)
    replicates = _replicates(_mean_of(gain, groups), shape, samples, seed)
    low, high = _percentiles(replicates, level)
    normal = NormalDist()
    factor = normal.inv_cdf((1 + level) / 2) + normal.inv_cdf(_POWER)
    return Difference(
        value=float(np.mean(gain)),
        low=low,
        high=high,
        minimum_detectable=factor * float(np.std(replicates, ddof=1)),
    )


def _checked(values: ArrayLike, places: ArrayLike) -> tuple[_Floats, IntArray]:
    """-> (q,) float64 and (q,) place numbers 0..p-1."""
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"values: not numbers ({error}); give one number a query") from error
    labels = np.asarray(places)
    if numbers.ndim != 1 or numbers.shape != labels.shape:
        raise InputError(
            f"values {numbers.shape} and places {labels.shape}: both must be (q,); give one value "
            "and one place a query"
        )
    broken = int(np.count_nonzero(~np.isfinite(numbers)))
    if broken:
        raise InputError(
            f"{broken} of {len(numbers)} values are NaN or infinite: score a miss as 0, or drop it"
        )
    names, groups = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"{len(names)} place(s) among {len(numbers)} values: an interval by place needs at "
            "least 2; evaluate on more places"
        )
    return numbers, groups.astype(np.int64)


def _require_options(statistic: str, level: float, samples: int) -> None:
    if statistic not in ("mean", "median"):
        raise InputError(f"statistic {statistic!r}: must be 'mean' or 'median'")
    if not 0 < level < 1:
        raise InputError(f"level {level}: must lie between 0 and 1, 0.95 is usual")
    if samples < 2:
        raise InputError(f"samples {samples}: must be at least 2, 2000 is usual")


def _replicates(
    replicate: Callable[[IntArray], _Floats], shape: tuple[int, int], samples: int, seed: int
) -> _Floats:
    """(samples,) values of the statistic. ``shape``: queries, places."""
    return np.concatenate([replicate(drawn) for drawn in _draws(shape, samples, seed)])


def _draws(shape: tuple[int, int], samples: int, seed: int) -> Iterator[IntArray]:
    """Blocks (n, places): how often each place was drawn. Block size doesn't change the draws."""
    rng = np.random.default_rng(seed)
    places = shape[1]
    step = max(1, _BLOCK_CELLS // max(shape))
    for start in range(0, samples, step):
        size = min(step, samples - start)
        yield rng.multinomial(places, np.full(places, 1 / places), size=size)


def _mean_of(values: _Floats, groups: IntArray) -> Callable[[IntArray], _Floats]:
    totals, counts = np.bincount(groups, weights=values), np.bincount(groups)

    def replicate(drawn: IntArray) -> _Floats:
        means: _Floats = (drawn @ totals) / (drawn @ counts)
        return means

    return replicate


def _median_of(values: _Floats, groups: IntArray) -> Callable[[IntArray], _Floats]:
    order = np.argsort(values, kind="stable")
    ordered, owner = values[order], groups[order]

    def replicate(drawn: IntArray) -> _Floats:
        seen = np.cumsum(drawn[:, owner], axis=1)  # (n, q): values up to here, repeats counted
        total = seen[:, -1:]
        lower = np.argmax(seen > (total - 1) // 2, axis=1)
        upper = np.argmax(seen > total // 2, axis=1)
        medians: _Floats = (ordered[lower] + ordered[upper]) / 2
        return medians

    return replicate


def _percentiles(replicates: _Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(replicates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
