"""Fits how sure ``locate`` may be on known pairs, and says by cross-fitting how well that holds.

What is fitted, in this order:

1. the right place of each pair: the nearest to the truth, within the given metres;
2. the position error of each platform: root mean square distance from its images to the truth;
3. per kind of query, the temperature and the log-likelihood of "none", by the likelihood of the
   right place and, with its images taken out of the index, of "none";
4. how distances to the truth are distributed, in units of the place's standard error;
5. the mass at which regions held 50 and 95 % of the truths, out of fold (split conformal
   prediction: Vovk et al. 2005), so that coverage holds even where 2 to 4 are only nearly right.

Places are never split between folds: a fold's numbers are fitted without its places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from saywhere.certainty import ERROR_M, KINDS, LEVELS, RESIDUALS, Certainty, Kind, Sharpness
from saywhere.errors import InputError
from saywhere.geodesy import distances_m, positions
from saywhere.hypotheses import LINKED, Floats, Places, answers, group_images, points
from saywhere.location_metrics import Judged, joined, location_lines, location_scores
from saywhere.pairs import Pair
from saywhere.posterior import Spread, mass_by_distance, mass_within, radius_of
from saywhere.types import BoolArray, IntArray, ScoredImages

_FOLDS = 5
_FEWEST = 20  # pairs, of as many places as there are folds at the least
_TEMPERATURES = np.geomspace(0.02, 5, 48)  # times the spread of the scores
_BELIEF = 3  # pairs that the assumed position errors are worth
_LEAST_M = 3.0  # nobody's position is known better
_TINY = 1e-300


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Truths of q queries.

    Attributes:
        lat, lon: (q,) WGS84 degrees of what is described.
        metres: (q,) how near a place must be to be the right one.
        kinds: (q,) words or image.
    """

    lat: Floats
    lon: Floats
    metres: Floats
    kinds: tuple[Kind, ...]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Pairing:
        """In the order of ``pairs``."""
        lat, lon, metres = (
            np.asarray([getattr(pair, name) for pair in pairs], np.float64)
            for name in ("lat", "lon", "metres")
        )
        return cls(lat, lon, metres, tuple("words" if pair.query else "image" for pair in pairs))


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and a JSON-able report of how it does out of fold."""

    certainty: Certainty
    report: Mapping[str, Any]

    def lines(self) -> list[str]:
        """The report in words."""
        lost = self.report["without_a_place"]
        return [
            *location_lines(self.report),
            *([f"{lost} pairs left out: no place of the index is near"] if lost else []),
        ]


def calibrate_pairs(
    truth: Pairing, images: ScoredImages, certainty: Certainty | None = None
) -> Calibrated:
    """Fits a calibration.

    Args:
        images: all images of the index, scored by the q queries of ``truth``.
        certainty: where ``none_share`` and ``diameter_m`` come from.

    Raises:
        InputError: too few pairs whose place is in the index.
    """
    start = certainty or Certainty()
    table = _Table(truth, images, start)
    rows, folds = np.flatnonzero(table.place >= 0), _folds(table)
    parts, tested = [], []
    for fold in range(_FOLDS):
        test = rows[folds[rows] == fold]
        fitted = table.fit(rows[folds[rows] != fold], start)
        parts.append(table.judge(test, fitted))
        tested.append(test)
    order = np.concatenate(tested)
    judged = joined(parts, np.argsort(np.argsort(order)))
    rows = np.sort(order)
    fold_of = folds[rows]
    levels = [_levels(judged.mass[fold_of != fold]) for fold in range(_FOLDS)]
    bounds = np.asarray(levels)[fold_of]  # (q, 2): each fold by the others' levels
    inside = judged.mass <= bounds[:, 0], judged.mass <= bounds[:, 1]
    final = replace(table.fit(rows, start), levels=_levels(judged.mass))
    report = location_scores(judged, inside, table.spot[rows])
    report |= {
        "pairs": len(truth.lat),
        "without_a_place": len(truth.lat) - len(rows),
        "log_likelihood": -report["negative_log_likelihood"],
        "temperatures": {name: kind.temperature for name, kind in final.kinds.items()},
        "error_m": list(final.error_m),
        "levels": list(final.levels),
    }
    return Calibrated(final, report)


def judge_locations(
    truth: Pairing, images: ScoredImages, certainty: Certainty
) -> tuple[Judged, IntArray]:
    """Answers of a calibration to pairs that it wasn't fitted on.

    Returns:
        (answers, place of each) of the pairs whose place is in the index.

    Raises:
        InputError: there is none.
    """
    table = _Table(truth, images, certainty)
    rows = np.flatnonzero(table.place >= 0)
    return table.judge(rows, certainty), table.spot[rows]


class _Table:
    """Pairs beside the places of the index: what all folds share.

    Attributes:
        place: (q,) the right place in the grouping of that query, -1 where none is near.
        spot: (q,) equal where the right place is the same, whatever the grouping.
        square: (q, 4) squared metres from the right place's images to the truth, by platform; NaN
            where it has none of that.
    """

    def __init__(self, truth: Pairing, images: ScoredImages, certainty: Certainty) -> None:
        self._truth, self._images = truth, images
        self._blocks = _blocks(images, certainty)
        count = len(truth.lat)
        self.place = np.full(count, -1, np.int64)
        self.square = np.full((count, len(ERROR_M)), np.nan)
        for places, rows in self._blocks:
            lat, lon, _ = points(places, np.asarray(certainty.error_m))
            for row in rows:
                away = distances_m(truth.lat[row], truth.lon[row], lat, lon)
                nearest = int(away.argmin())
                if away[nearest] <= truth.metres[row]:
                    self.place[row] = nearest
                    self.square[row] = _squares(places, nearest, truth.lat[row], truth.lon[row])
        self.spot = self.place
        if len(self._blocks) > 1:  # numbers of places don't compare: cells of a hundred metres
            cells = np.round(np.stack([truth.lat, truth.lon], 1), 3)
            self.spot = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
        if not (self.place >= 0).any():
            raise InputError(
                f"none of the {count} pairs has a place of the index near it; check that lat and "
                "lon aren't exchanged, or give more metres"
            )

    def fit(self, rows: IntArray, start: Certainty) -> Certainty:
        """Steps 2 to 4 of the module's list, on some pairs."""
        error = _errors(self.square[rows])
        kinds: dict[str, Sharpness] = {}
        for kind in KINDS:
            own = rows[[self._truth.kinds[row] == kind for row in rows]]
            if len(own):
                kinds[kind] = self._sharpness(own, start.none_share)
        found = replace(start, error_m=error, kinds=kinds, residuals=RESIDUALS)
        residual = np.sort(self.judge(rows, found).residual)
        quantiles = np.quantile(residual, np.linspace(0, 1, len(RESIDUALS)))
        return replace(found, residuals=tuple(quantiles.tolist()))

    def judge(self, rows: IntArray, certainty: Certainty) -> Judged:
        """Answers to some queries, beside the truth."""
        parts, order = [], []
        for places, block in self._blocks:
            own = np.intersect1d(block, rows)
            if len(own):
                parts.append(self._judge(places, own, certainty))
                order.append(own)
        return joined(parts, np.argsort(np.argsort(np.concatenate(order))))

    def _sharpness(self, rows: IntArray, none_share: float) -> Sharpness:
        scale = float(np.median(self._images.scores[rows].std(1)))
        best = (np.inf, Sharpness())
        for temperature in scale * _TEMPERATURES:
            right, every, without, count = self._evidence(rows, float(temperature))
            loss, offset = _best_none(right - np.log(count), every, without, none_share)
            if loss < best[0]:
                best = loss, Sharpness(float(temperature), offset)
        return best[1]

    def _evidence(self, rows: IntArray, temperature: float) -> tuple[Floats, ...]:
        """By pair: log-likelihood of the right place, log means of all and of all others; count."""
        out = np.empty((4, len(rows)))
        for places, block in self._blocks:
            at = np.flatnonzero(np.isin(rows, block))
            for part in np.array_split(at, max(1, len(at) * len(places.rows) >> 22)):
                if len(part):
                    found = answers(places, self._images.scores[rows[part]], temperature)
                    out[:, part] = _log_means(found, self.place[rows[part]])
        return tuple(out)

    def _judge(self, places: Places, rows: IntArray, certainty: Certainty) -> Judged:
        spread = Spread(*points(places, np.asarray(certainty.error_m)), certainty.residuals)
        out = [self._judge_one(places, int(row), spread, certainty) for row in rows]
        columns = [np.asarray(column) for column in zip(*out, strict=True)]
        return Judged(*columns)

    def _judge_one(
        self, places: Places, row: int, spread: Spread, certainty: Certainty
    ) -> tuple[float | bool, ...]:
        """The fields of ``Judged``, of one query."""
        kind, truth = self._truth.kinds[row], self.place[row]
        scores = self._images.scores[row : row + 1]
        logs = answers(places, scores, certainty.of(kind).temperature)[0]
        _, every, without, count = _log_means(logs[None], truth[None])[:, 0]
        share = np.exp(logs - np.log(count) - every)
        first = int(share.argmax())
        at = self._truth.lat[row], self._truth.lon[row]
        error = float(distances_m(*at, spread.lat[first], spread.lon[first]))
        own = float(distances_m(*at, spread.lat[truth], spread.lon[truth]))
        distance, within = mass_by_distance(share, spread, first)
        none = certainty.none((kind,))
        return (
            error,
            first == truth,
            float(share[first]),
            float(max(share[truth], _TINY)),
            mass_within(distance, within, error),
            own / float(spread.error_m[truth]),
            radius_of(distance, within, certainty.levels[1]),
            0.0 if none is None else float(np.exp(none - np.logaddexp(none, every))),
            0.0 if none is None else float(np.exp(none - np.logaddexp(none, without))),
        )


def _blocks(images: ScoredImages, certainty: Certainty) -> list[tuple[Places, IntArray]]:
    """Places, and the queries that they are grouped for: all, unless grouping depends on them."""
    count, diameter = len(images.scores), certainty.diameter_m
    if sum(name is None for name in images.place_ids) <= LINKED:
        return [(group_images(images, diameter), np.arange(count))]
    alone = (replace(images, scores=images.scores[row : row + 1]) for row in range(count))
    return [(group_images(one, diameter), np.asarray([row])) for row, one in enumerate(alone)]


def _folds(table: _Table) -> IntArray:
    """(q,) fold of each pair, all of a spot in one; -1 for pairs without a place."""
    names, codes = np.unique(table.spot[table.place >= 0], return_inverse=True)
    if len(codes) < _FEWEST or len(names) < _FOLDS:
        raise InputError(
            f"{len(codes)} pairs of {len(names)} places have their place in the index: too few to "
            f"fit and to check; give at least {_FEWEST} of {_FOLDS}, better hundreds"
        )
    order = np.random.default_rng(0).permutation(len(names)) % _FOLDS
    folds = np.full(len(table.place), -1, np.int64)
    folds[table.place >= 0] = order[codes]
    return folds


def _squares(places: Places, place: int, lat: float, lon: float) -> Floats:
    """(4,) squared metres from a place's images to a position, by platform."""
    out = np.full(len(ERROR_M), np.nan)
    for group in np.flatnonzero(places.place == place):
        if np.any(places.centres[group]):
            at = positions(places.centres[group])
            out[places.kinds[group]] = float(distances_m(lat, lon, *at)) ** 2
    return out


def _errors(square: Floats) -> tuple[float, ...]:
    """Standard error a horizontal axis, by platform; the assumed one where little was seen."""
    seen = np.isfinite(square)
    assumed = np.square(np.asarray(ERROR_M))
    total = np.where(seen, square, 0).sum(0) / 2 + _BELIEF * assumed * _shrink(seen)
    count = seen.sum(0) + _BELIEF * _shrink(seen)
    return tuple(np.maximum(np.sqrt(total / count), _LEAST_M).tolist())


def _shrink(seen: BoolArray) -> Floats:
    """The assumption fades as pairs come in: a good satellite position would never show."""
    return np.asarray(1 / np.square(1 + seen.sum(0) / 10))


def _log_means(logs: Floats, right: IntArray) -> Floats:
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
    odds = np.log(none_share / (1 - none_share))

    def loss(offset: float) -> float:
        none = odds + offset
        present = np.logaddexp(every, none) - right
        absent = np.logaddexp(without, none) - none
        return float((1 - none_share) * present.mean() + none_share * absent.mean())

    low, high = float(without.min()) - 5, float(every.max()) + 10
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(found.fun), float(found.x)


def _levels(mass: Floats) -> tuple[float, float]:
    """The masses that hold 50 and 95 % of the truths: conformal quantiles."""
    ordered = np.sort(mass)
    ranks = [min(int(np.ceil((len(mass) + 1) * level)), len(mass)) - 1 for level in LEVELS]
    return float(ordered[ranks[0]]), float(ordered[ranks[1]])
