"""Fits how sure ``locate`` may be on known pairs, and says by cross-fitting how well that holds.

What is fitted, in this order:

1. the right place of each pair: the nearest to the truth, within the given metres;
2. the position error of each platform: root mean square distance from its images to the truth;
3. per kind of query, the temperature and the log-likelihood of "none", by the likelihood of the
   right place and, with its images taken out of the index, of "none";
4. how distances to the truth are distributed, in units of the place's standard error;
5. the mass at which regions held 50 and 95 % of the truths, out of fold (split conformal
   prediction: Vovk et al. 2005), so that coverage holds even where 2 to 4 are only nearly right;
6. where 20 places or more have several pairs, how much descriptions of one place have in common.

Places are never split between folds: a fold's numbers are fitted without its places.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from saywhere.certainty import ERROR_M, KINDS, LEVELS, RESIDUALS, Certainty, Kind
from saywhere.errors import InputError
from saywhere.hypotheses import Floats
from saywhere.location_metrics import Judged, joined, location_scores, scores_in_words
from saywhere.pair_table import Pairing, PairTable
from saywhere.scored_images import ScoredImages
from saywhere.sharpness import (
    FOLDS,
    Sharpness,
    SharpnessLadder,
    place_folds,
    temperature_steps,
)
from saywhere.types import BoolArray, IntArray

_BELIEF = 3  # pairs that the assumed position errors are worth
_LEAST_M = 3.0  # nobody's position is known better


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A calibration, and a JSON-able report of how it does out of fold."""

    certainty: Certainty
    report: Mapping[str, Any]

    def lines(self) -> list[str]:
        """The report in words."""
        lost = self.report["without_a_place"]
        return [
            *scores_in_words(self.report),
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
    table = PairTable(truth, images, start)
    rows, folds = np.flatnonzero(table.place >= 0), _folds(table)
    ladders = _ladders(table, rows)
    parts, tested = [], []
    for fold in range(FOLDS):
        test = rows[folds[rows] == fold]
        fitted = _fit(table, ladders, rows[folds[rows] != fold], start)
        parts.append(table.judge(test, fitted))
        tested.append(test)
    order = np.concatenate(tested)
    judged = joined(parts, np.argsort(np.argsort(order)))
    rows = np.sort(order)
    fold_of = folds[rows]
    levels = [_levels(judged.mass[fold_of != fold]) for fold in range(FOLDS)]
    bounds = np.asarray(levels)[fold_of]  # (q, 2): each fold by the others' levels
    inside = judged.mass <= bounds[:, 0], judged.mass <= bounds[:, 1]
    final = replace(_fit(table, ladders, rows, start), levels=_levels(judged.mass))
    correlation = table.correlation(final)
    if correlation is not None:
        final = replace(final, correlation=correlation)
    report = location_scores(judged, inside, table.spot[rows])
    report |= {
        "pairs": len(truth.lat),
        "without_a_place": len(truth.lat) - len(rows),
        "log_likelihood": -report["negative_log_likelihood"],
        "sharpness": {name: asdict(kind) for name, kind in final.kinds.items()},
        "error_m": list(final.error_m),
        "levels": list(final.levels),
        "correlation": final.correlation,
    }
    return Calibrated(final, report)


def judge_locations(
    truth: Pairing, images: ScoredImages, certainty: Certainty, *, together: bool = False
) -> tuple[Judged, IntArray]:
    """Answers of a calibration to pairs that it wasn't fitted on.

    Args:
        together: ask with all descriptions of a place at once, where it has several.

    Returns:
        (answers, place of each) of the pairs whose place is in the index.

    Raises:
        InputError: there is none.
    """
    table = PairTable(truth, images, certainty)
    if not together:
        rows = np.flatnonzero(table.place >= 0)
        return table.judge(rows, certainty), table.spot[rows]
    found = table.judge_together(certainty)
    if found is None:
        raise InputError("no place has several descriptions to ask with at once; give more pairs")
    return found


def _fit(
    table: PairTable, ladders: Mapping[Kind, SharpnessLadder], rows: IntArray, start: Certainty
) -> Certainty:
    """Steps 2 to 4 above, on some pairs."""
    kinds: dict[str, Sharpness] = {}
    for kind, ladder in ladders.items():
        own = np.intersect1d(ladder.rows, rows)
        if len(own):
            kinds[kind] = ladder.sharpness(own, start.none_share)
    error = _errors(table.square[rows])
    found = replace(start, error_m=error, kinds=kinds, residuals=RESIDUALS)
    residual = np.sort(table.residuals(rows, found))
    quantiles = np.quantile(residual, np.linspace(0, 1, len(RESIDUALS)))
    return replace(found, residuals=tuple(quantiles.tolist()))


def _ladders(table: PairTable, rows: IntArray) -> dict[Kind, SharpnessLadder]:
    """One a kind of query that there are pairs of."""
    out: dict[Kind, SharpnessLadder] = {}
    for kind in KINDS:
        own = rows[[table.kinds[row] == kind for row in rows]]
        if len(own):
            steps = temperature_steps(table.spread(own))
            evidence = np.stack([table.evidence(own, float(step), kind) for step in steps])
            out[kind] = SharpnessLadder(own, steps, evidence)
    return out


def _folds(table: PairTable) -> IntArray:
    """(q,) fold of each pair, -1 for pairs without a place."""
    folds = np.full(len(table.place), -1, np.int64)
    known = table.place >= 0
    folds[known] = place_folds(table.spot[known])
    return folds


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


def _levels(mass: Floats) -> tuple[float, float]:
    """The masses that hold 50 and 95 % of the truths: conformal quantiles."""
    ordered = np.sort(mass)
    ranks = [min(int(np.ceil((len(mass) + 1) * level)), len(mass)) - 1 for level in LEVELS]
    return float(ordered[ranks[0]]), float(ordered[ranks[1]])
