"""Known pairs beside the places of an index: which is the right one, and what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from saywhere.certainty import ERROR_M, Certainty, Kind
from saywhere.errors import InputError
from saywhere.geodesy import distances_m, positions
from saywhere.hypotheses import LINKED, Floats, Places, answers, group_images, points
from saywhere.location_metrics import Judged, joined
from saywhere.pairs import Pair
from saywhere.posterior import Spread, mass_by_distance, mass_within, radius_of
from saywhere.scored_images import ScoredImages
from saywhere.sharpness import log_means
from saywhere.types import IntArray

_TINY = 1e-300
_FEWEST_SPOTS = 20  # described several times, to tell how much descriptions have in common


@dataclass(frozen=True, slots=True, eq=False)
class Pairing:
    """Truths of q queries.

    Attributes:
        lat, lon: (q,) WGS84 degrees of what is described.
        metres: (q,) how near a place must be to be the right one.
        kinds: (q,) words or image.
        place_ids: (q,) the right place, where known; else it is the nearest.
    """

    lat: Floats
    lon: Floats
    metres: Floats
    kinds: tuple[Kind, ...]
    place_ids: tuple[str, ...] | None = None

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> Pairing:
        """In the order of ``pairs``."""
        lat, lon, metres = (
            np.asarray([getattr(pair, name) for pair in pairs], np.float64)
            for name in ("lat", "lon", "metres")
        )
        return cls(lat, lon, metres, tuple("words" if pair.query else "image" for pair in pairs))


class PairTable:
    """Pairs beside the places of the index: what all folds share.

    Attributes:
        kinds: (q,) words or image.
        place: (q,) the right place in the grouping of that query, -1 where none is near.
        spot: (q,) equal where the right place is the same, whatever the grouping.
        square: (q, 4) squared metres from the right place's images to the truth, by platform; NaN
            where it has none of that.
    """

    def __init__(self, truth: Pairing, images: ScoredImages, certainty: Certainty) -> None:
        self._truth, self._images = truth, images
        self.kinds = truth.kinds
        self._blocks = _blocks(images, certainty)
        count = len(truth.lat)
        self.place = np.full(count, -1, np.int64)
        self.square = np.full((count, len(ERROR_M)), np.nan)
        for places, rows in self._blocks:
            lat, lon, _ = points(places, np.asarray(certainty.error_m))
            known = _by_id(places, images)
            for row in rows:
                nearest = self._right(int(row), known, (lat, lon))
                if nearest >= 0:
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

    def _right(self, row: int, known: dict[str, int], at: tuple[Floats, Floats]) -> int:
        """The right place of a pair, -1 where the index holds none."""
        truth = self._truth
        if truth.place_ids is not None:
            return known.get(truth.place_ids[row], -1)
        away = distances_m(truth.lat[row], truth.lon[row], *at)
        nearest = int(away.argmin())
        return nearest if away[nearest] <= truth.metres[row] else -1

    def judge(self, rows: IntArray, certainty: Certainty) -> Judged:
        """Answers to some queries, beside the truth."""
        parts, order = [], []
        for places, block in self._blocks:
            own = np.intersect1d(block, rows)
            if len(own):
                parts.append(self._judge(places, own[:, None], certainty))
                order.append(own)
        return joined(parts, np.argsort(np.argsort(np.concatenate(order))))

    def judge_together(self, certainty: Certainty) -> tuple[Judged, IntArray] | None:
        """Answers to all descriptions of a spot at once, and the spots; None if none has several.

        Nor where places are grouped for each query of its own.
        """
        groups = self._several()
        if not groups:
            return None
        places, _ = self._blocks[0]
        parts = [self._judge(places, own[None], certainty) for own in groups]
        spots = np.asarray([self.spot[own[0]] for own in groups])
        return joined(parts, np.arange(len(spots))), spots

    def correlation(self, certainty: Certainty) -> float | None:
        """That of descriptions of one spot, by the likelihood of the right place."""
        groups = self._several()
        if len(groups) < _FEWEST_SPOTS:
            return None
        tried = np.linspace(0, 1, 21)
        loss = np.zeros(len(tried))
        places, _ = self._blocks[0]
        for own in groups:
            logs = self._sum(places, own, certainty)
            for at, correlation in enumerate(tried):
                worth = replace(certainty, correlation=float(correlation)).worth(len(own))
                right, every, _, _ = log_means(worth * logs[None], self.place[own[:1]])[:, 0]
                loss[at] += every - right
        return float(tried[loss.argmin()])

    def _several(self) -> list[IntArray]:
        """Rows of each spot that has several pairs."""
        if len(self._blocks) > 1:
            return []
        rows = np.flatnonzero(self.place >= 0)
        spots, counts = np.unique(self.spot[rows], return_counts=True)
        return [rows[self.spot[rows] == spot] for spot in spots[counts > 1]]

    def residuals(self, rows: IntArray, certainty: Certainty) -> Floats:
        """(rows,) metres from the right place's point to the truth, by that place's error."""
        out = np.empty(len(rows))
        truth = self._truth
        for places, block in self._blocks:
            at = np.flatnonzero(np.isin(rows, block))
            lat, lon, error = points(places, np.asarray(certainty.error_m))
            own, right = rows[at], self.place[rows[at]]
            away = distances_m(truth.lat[own], truth.lon[own], lat[right], lon[right])
            out[at] = away / error[right]
        return out

    def spread(self, rows: IntArray) -> Floats:
        """(rows,) standard deviation of the scores of each of these queries."""
        return np.asarray(self._images.scores[rows].std(1), np.float64)

    def evidence(self, rows: IntArray, temperature: float, kind: Kind) -> tuple[Floats, ...]:
        """By pair: log-likelihood of the right place, log means of all and of all others; count."""
        out = np.empty((4, len(rows)))
        for places, block in self._blocks:
            at = np.flatnonzero(np.isin(rows, block))
            for part in np.array_split(at, max(1, len(at) * len(places.rows) >> 22)):
                if len(part):
                    scores = self._images.scores[rows[part]]
                    found = answers(places, scores, temperature, photos=kind == "image")
                    out[:, part] = log_means(found, self.place[rows[part]])
        return tuple(out)

    def _judge(self, places: Places, asked: IntArray, certainty: Certainty) -> Judged:
        """(g, r) rows: r descriptions of one spot are asked at once, g times."""
        spread = Spread(*points(places, np.asarray(certainty.error_m)), certainty.residuals)
        out = [self._judge_one(places, rows, spread, certainty) for rows in asked]
        columns = [np.asarray(column) for column in zip(*out, strict=True)]
        return Judged(*columns)

    def _judge_one(
        self, places: Places, rows: IntArray, spread: Spread, certainty: Certainty
    ) -> tuple[float | bool, ...]:
        """The fields of ``Judged``, of one question."""
        truth = self.place[rows[0]]
        kinds = tuple(self.kinds[row] for row in rows)
        logs = certainty.worth(len(rows)) * self._sum(places, rows, certainty)
        _, every, without, count = log_means(logs[None], truth[None])[:, 0]
        share = np.exp(logs - np.log(count) - every)
        first = int(share.argmax())
        at = self._truth.lat[rows[0]], self._truth.lon[rows[0]]
        error = float(distances_m(*at, spread.lat[first], spread.lon[first]))
        distance, within = mass_by_distance(share, spread, first)
        none = certainty.none(kinds)
        return (
            error,
            first == truth,
            float(share[first]),
            float(max(share[truth], _TINY)),
            mass_within(distance, within, error),
            radius_of(distance, within, certainty.levels_of(len(rows))[1]),
            0.0 if none is None else float(np.exp(none - np.logaddexp(none, every))),
            0.0 if none is None else float(np.exp(none - np.logaddexp(none, without))),
        )

    def _sum(self, places: Places, rows: IntArray, certainty: Certainty) -> Floats:
        """(U,) log-likelihoods of some queries, added up."""
        logs = np.zeros(places.count)
        for row in rows:
            kind = self.kinds[row]
            evidence, photos = certainty.of(kind).evidence, kind == "image"
            logs += answers(places, self._images.scores[[row]], *evidence, photos=photos)[0]
        return logs


def _blocks(images: ScoredImages, certainty: Certainty) -> list[tuple[Places, IntArray]]:
    """Places, and the queries that they are grouped for: all, unless grouping depends on them."""
    count, diameter = len(images.scores), certainty.diameter_m
    if sum(name is None for name in images.place_ids) <= LINKED:
        return [(group_images(images, diameter), np.arange(count))]
    alone = (replace(images, scores=images.scores[row : row + 1]) for row in range(count))
    return [(group_images(one, diameter), np.asarray([row])) for row, one in enumerate(alone)]


def _by_id(places: Places, images: ScoredImages) -> dict[str, int]:
    """The place of each place_id."""
    owner = np.repeat(places.place, places.sizes)
    names = ((images.place_ids[row], int(at)) for row, at in zip(places.rows, owner, strict=True))
    return {name: at for name, at in names if name is not None}


def _squares(places: Places, place: int, lat: float, lon: float) -> Floats:
    """(4,) squared metres from a place's images to a position, by platform."""
    out = np.full(len(ERROR_M), np.nan)
    for group in np.flatnonzero(places.place == place):
        if np.any(places.centres[group]):
            at = positions(places.centres[group])
            out[places.kinds[group]] = float(distances_m(lat, lon, *at)) ** 2
    return out
