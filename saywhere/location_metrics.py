"""How good answers to "where is that?" are, over many queries of known position. Arrays only.

Recall says whether an image came first; these say how far off the map is, and whether the stated
certainty holds: a 95 % region must hold the truth in 95 of 100 cases, no fewer and no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.bootstrap import interval
from saywhere.types import BoolArray

Floats = NDArray[np.float64]

WITHIN_M = (25, 100, 500)
_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Answers to q queries whose places the index holds, beside the truth; (q,) each.

    Probabilities are given that the index holds the place, as the queries' places are in it.

    Attributes:
        error_m: from the first place's point to the truth.
        right: the first place is the right one.
        confidence: probability of the first place.
        truth: probability of the right place.
        mass: probability that is nearer to the first point than the truth is.
        radius_95_m: of the 95 % region.
        none: probability of "none of these".
        none_without: the same after the right place was taken out of the index.
    """

    error_m: Floats
    right: BoolArray
    confidence: Floats
    truth: Floats
    mass: Floats
    radius_95_m: Floats
    none: Floats
    none_without: Floats

    def take(self, rows: NDArray[np.int64]) -> Judged:
        """Some of the queries."""
        return Judged(*(getattr(self, name)[rows] for name in self.__slots__))


def joined(parts: list[Judged], order: NDArray[np.int64]) -> Judged:
    """All queries of ``parts``; query i of them stands at ``order[i]`` of the result."""
    back = np.argsort(order)
    return Judged(*(
        np.concatenate([getattr(part, name) for part in parts])[back] for name in Judged.__slots__
    ))  # fmt: skip


def location_scores(
    judged: Judged, inside: tuple[BoolArray, BoolArray], places: NDArray[np.int64]
) -> dict[str, Any]:
    """The numbers of a report, JSON-able: metres, shares in [0, 1], natural logarithms.

    Args:
        inside: (q,) each: whether the 50 and the 95 % region hold the truth.
        places: (q,) which place each query is of; intervals are bootstrapped by them.
    """
    out: dict[str, Any] = {
        "queries": len(judged.error_m),
        "places": len(np.unique(places)),
        "median_error_m": float(np.median(judged.error_m)),
    }
    out |= {f"within_{metres}_m": float((judged.error_m <= metres).mean()) for metres in WITHIN_M}
    out |= {"coverage_50": float(inside[0].mean()), "coverage_95": float(inside[1].mean())}
    if out["places"] > 1:
        found = interval(inside[1].astype(float), places)
        out["coverage_95_interval"] = [found.low, found.high]
    return out | {
        "median_radius_95_m": float(np.median(judged.radius_95_m)),
        "right_place": float(judged.right.mean()),
        "negative_log_likelihood": float(-np.log(judged.truth).mean()),
        "expected_calibration_error": calibration_error(judged.confidence, judged.right),
        "none_probability": float(judged.none.mean()),
        "none_probability_without_the_place": float(judged.none_without.mean()),
    }


def calibration_error(confidence: Floats, right: BoolArray) -> float:
    """Mean gap between confidence and share of right answers, over ten bins of equal count.

    Expected calibration error (Naeini et al. 2015, "Obtaining Well Calibrated Probabilities Using
    Bayesian Binning"), with adaptive bins (Nguyen and O'Connor 2015).
    """
    order = np.argsort(confidence, kind="stable")
    gaps = [
        abs(float(confidence[part].mean() - right[part].mean())) * len(part)
        for part in np.array_split(order, min(_BINS, len(order)))
    ]
    return float(sum(gaps) / len(order))


def scores_in_words(scores: Mapping[str, Any]) -> list[str]:
    """The numbers in words, for people."""
    shares = ", ".join(f"{100 * scores[f'within_{m}_m']:.0f} % within {m} m" for m in WITHIN_M)
    return [
        f"{scores['queries']} queries of {scores['places']} places: "
        f"median error {scores['median_error_m']:.0f} m, {shares}",
        f"regions hold the truth: 50 % in {100 * scores['coverage_50']:.1f} %, "
        f"95 % in {100 * scores['coverage_95']:.1f} % of cases; "
        f"median 95 % radius {scores['median_radius_95_m']:.0f} m",
        f"negative log-likelihood {scores['negative_log_likelihood']:.2f}, expected calibration "
        f"error {scores['expected_calibration_error']:.3f}",
    ]


def match_in_words(report: Mapping[str, Any]) -> list[str]:
    """What ``match_report`` found, in words, for people."""
    how = "cross-fitted by place" if report["cross_fitted"] else "as search gives it"
    return [
        f"match probability, {how}, over {report['queries']} queries: expected "
        f"calibration error {report['expected_calibration_error']:.3f} of the first ten hits, "
        f"{report['expected_calibration_error_first']:.3f} of the first, "
        f"{report['expected_calibration_error_half_gallery']:.3f} in half the gallery",
        f"first hit: {100 * report['first_probability']:.0f} % probable on average, right in "
        f"{100 * report['first_right']:.0f} %; {100 * report['confident']:.0f} % of queries have a "
        f"confident match, right in {_percent(report['right_if_confident'])}, the others in "
        f"{_percent(report['right_if_not'])}",
        f"no match, from queries whose place was taken out: AUROC {report['none_auroc']:.2f}, "
        f"{100 * report['none_fpr_at_95_recall']:.0f} % of them accepted where 95 % of true ones "
        "are",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
