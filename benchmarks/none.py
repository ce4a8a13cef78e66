"""Signs in a query's scores that its hits are not to be relied on: how good is each.

    python benchmarks/none.py ../shared/data [--experts saywhere/shipped]

The tables of docs/robustness.md. Every query is asked twice, platforms hidden: of all 300 images,
and of those that are not of its place. A sign is a number from the scores. Its AUROC is the chance
that it is larger for a query whose place is missing than for one whose place is there; and, of the
queries whose place is there, for one whose first hit is wrong than for one whose is right (0.5: no
sign at all). The last rows are logistic regressions on several signs, cross-fitted by place.
Intervals are of 95 %, bootstrapped by place.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saywhere.bundle import load_experts
from saywhere.data import read
from saywhere.embed import embed_images, embed_queries
from saywhere.expert_set import ExpertSet
from saywhere.manifest import SHIPPED
from saywhere.match import match_probabilities
from saywhere.products import exact_scores
from saywhere.sharpness import FOLDS, Sharpness, place_folds
from saywhere.task import Task, make_task
from saywhere.types import FloatArray, Query

Floats = NDArray[np.float64]

SAMPLES = 2000
SIGNS = (
    "top minus mean, sd",
    "top minus second, sd",
    "top minus tenth, sd",
    "top score",
    "P(none)",
    "P(first)",
    "entropy",
    "spread",
    "like a training caption",
)
TOP = ("top minus mean, sd", "top minus second, sd", "top score")
SETS = {
    "logistic: the three of the top": TOP,
    "logistic: all": SIGNS,
}


def main() -> None:
    """Embed, ask twice, tabulate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--experts", type=Path, default=SHIPPED)
    options = parser.parse_args()
    experts = load_experts(options.experts)
    captions = read(options.data / "geotext-mini/train.json").captions
    seen = [Query(str(n), caption.text) for n, caption in enumerate(captions)]
    known = embed_queries(experts, seen).vectors
    tasks = {
        "operator queries": make_task(read(options.data / "track4-mini")),
        "captions": make_task(read(options.data / "geotext-mini/test_mini.json")),
    }
    columns = {}
    for name, task in tasks.items():
        asked = _asked(experts, task, known)
        columns[f"{name}: place missing"] = _column(asked, missing=True)
        columns[f"{name}: first hit wrong"] = _column(asked, missing=False)
        print(f"{name}: first hit of their place in {100 * asked.found.mean():.1f} %")
    print(_table(columns))


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """q queries asked of the whole gallery and of what is not of their place.

    Attributes:
        there, missing: (q, signs).
        right: (q,) whether the first hit of the whole gallery is the image meant.
        found: (q,) whether it is of the place meant.
        places: (q,) of the image meant.
    """

    there: Floats
    missing: Floats
    right: NDArray[np.bool_]
    found: NDArray[np.bool_]
    places: NDArray[np.int64]


def _asked(experts: ExpertSet, task: Task, known: FloatArray) -> Asked:
    """Args: known: (m, d) of training captions."""
    sharpness = experts.sharpness[experts.config.fusion.mode]
    hidden = [replace(record, platform=None) for record in task.records]
    images = embed_images(experts, hidden).embeddings.vectors
    texts = embed_queries(experts, task.queries).vectors
    places = np.unique(task.places, return_inverse=True)[1]
    asked = places[task.target]
    near = _cosines(texts, known).max(1)
    scores = exact_scores(texts, images)
    keep = places[None, :] != asked[:, None]  # (q, n)
    there = [_signs(row, sharpness, like) for row, like in zip(scores, near, strict=True)]
    rest = zip(scores, keep, near, strict=True)
    missing = [_signs(row[kept], sharpness, like) for row, kept, like in rest]
    first = scores.argmax(1)
    return Asked(
        np.asarray(there), np.asarray(missing), first == task.target, places[first] == asked, asked
    )


def _column(asked: Asked, *, missing: bool) -> dict[str, str]:
    """AUROC with interval by sign: of places that are missing, or of first hits that are wrong."""
    if missing:
        signs = np.concatenate([asked.missing, asked.there])
        labels = np.repeat([True, False], len(asked.there))
        places = np.tile(asked.places, 2)
    else:
        signs, labels, places = asked.there, ~asked.right, asked.places
    cells = {name: _cell(signs[:, SIGNS.index(name)], labels, places) for name in SIGNS}
    for name, parts in SETS.items():
        chosen = signs[:, [SIGNS.index(part) for part in parts]]
        cells[name] = _cell(_logistic(chosen, labels, places), labels, places)
    return cells


def _signs(scores: FloatArray, sharpness: Sharpness, near: float) -> list[float]:
    """Of one query, in the order of ``SIGNS``; more of each should be a bad sign.

    Args:
        scores: (n,) of the gallery.
        near: cosine to the nearest training caption.
    """
    ordered = np.sort(scores.astype(np.float64))[::-1]
    spread = ordered.std()
    found = match_probabilities(scores[None], sharpness)
    shares = found.images[0] / found.images[0].sum()
    return [
        -(ordered[0] - ordered.mean()) / spread,
        -(ordered[0] - ordered[1]) / spread,
        -(ordered[0] - ordered[9]) / spread,
        -ordered[0],
        float(found.none[0]),  # log-sum-exp at the fitted temperature
        -float(found.images.max()),
        -float(shares @ np.log(shares)),
        -spread,
        -near,
    ]


def _logistic(signs: Floats, labels: NDArray[np.bool_], places: NDArray[np.int64]) -> Floats:
    """(m,) log-odds, each fitted without a fifth of the places, the own one among them."""
    folds = place_folds(places)
    out = np.empty(len(signs))
    for fold in range(FOLDS):
        fit, test = folds != fold, folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression())
        out[test] = model.fit(signs[fit], labels[fit]).decision_function(signs[test])
    return out


def _cell(values: Floats, labels: NDArray[np.bool_], places: NDArray[np.int64]) -> str:
    """AUROC and interval: places are drawn, and bring their queries."""
    above = values[labels][:, None] - values[~labels]
    above = (above > 0) + (above == 0) / 2
    names, codes = np.unique(places, return_inverse=True)
    drawn = np.random.default_rng(0).multinomial(
        len(names), np.full(len(names), 1 / len(names)), SAMPLES
    )
    ones, others = drawn[:, codes[labels]], drawn[:, codes[~labels]]  # (samples, …)
    sums = np.einsum("sq,sq->s", ones @ above, others)
    low, high = np.quantile(sums / (ones.sum(1) * others.sum(1)), [0.025, 0.975])
    return f"{above.mean():.3f} [{low:.3f}, {high:.3f}]"


def _cosines(ones: FloatArray, others: FloatArray) -> FloatArray:
    ones, others = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (ones, others))
    return np.asarray(ones @ others.T, np.float32)


def _table(columns: dict[str, dict[str, str]]) -> str:
    lines = ["| sign | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for name in next(iter(columns.values())):
        lines.append(f"| {name} | " + " | ".join(cells[name] for cells in columns.values()) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
