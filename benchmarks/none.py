"""Signs in a query's scores that what it describes is not in the gallery: how good is each.

    python benchmarks/none.py ../shared/data [--experts saywhere/shipped]

The table of docs/robustness.md. Every query is asked twice, platforms hidden: of all 300 images,
and of those that are not of its place. A sign is a number from the scores; its AUROC is the chance
that a query whose place is missing shows more of it than one whose place is there (0.5: no sign at
all). The last rows are logistic regressions on several signs, cross-fitted by place. Intervals are
of 95 %, bootstrapped by place.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from saywhere.bundle import ExpertSet, load_experts
from saywhere.data import read
from saywhere.embed import embed_images, embed_queries
from saywhere.evaluate import Task, make_task
from saywhere.manifest import SHIPPED
from saywhere.match import match_probabilities
from saywhere.products import exact_scores
from saywhere.sharpness import FOLDS, Sharpness, place_folds
from saywhere.types import FloatArray, Query

Floats = NDArray[np.float64]

SAMPLES = 2000
TOP = ("top minus mean, sd", "top minus second, sd", "top score")
SETS = {
    "logistic: the three of the top": TOP,
    "logistic: all": (*TOP, "P(none)", "P(first)", "entropy", "spread", "like a training caption"),
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
    columns = {name: _column(experts, task, known) for name, task in tasks.items()}
    print(_table(columns))


def _column(experts: ExpertSet, task: Task, known: FloatArray) -> dict[str, str]:
    """AUROC with interval by name, of one kind of query."""
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
    signs = {
        name: (np.asarray([one[name] for one in missing]), np.asarray([one[name] for one in there]))
        for name in there[0]
    }
    found = {name: _cell(*pair, asked) for name, pair in signs.items()}
    found |= {
        name: _cell(*_logistic([signs[part] for part in parts], asked), asked)
        for name, parts in SETS.items()
    }
    moved = (places[scores.argmax(1)] == asked).mean()
    found["queries whose first hit changes when the place is taken out"] = f"{100 * moved:.1f} %"
    return found


def _signs(scores: FloatArray, sharpness: Sharpness, near: float) -> dict[str, float]:
    """Of one query; more of each should mean that the place is missing.

    Args:
        scores: (n,) of the gallery.
        near: cosine to the nearest training caption.
    """
    ordered = np.sort(scores.astype(np.float64))[::-1]
    spread = ordered.std()
    found = match_probabilities(scores[None], sharpness)
    shares = found.images[0] / found.images[0].sum()
    return {
        "top minus mean, sd": -(ordered[0] - ordered.mean()) / spread,
        "top minus second, sd": -(ordered[0] - ordered[1]) / spread,
        "top minus tenth, sd": -(ordered[0] - ordered[9]) / spread,
        "top score": -ordered[0],
        "P(none)": float(found.none[0]),  # log-sum-exp at the fitted temperature
        "P(first)": -float(found.images.max()),
        "entropy": -float(shares @ np.log(shares)),
        "spread": -spread,
        "like a training caption": -near,
    }


def _logistic(
    signs: list[tuple[Floats, Floats]], places: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Log-odds of (missing, there), each from four fifths of the other places."""
    missing, there = (np.stack([pair[side] for pair in signs], 1) for side in (0, 1))
    folds = place_folds(places)
    out = np.empty(len(missing)), np.empty(len(missing))
    for fold in range(FOLDS):
        fit, test = folds != fold, folds == fold
        model = make_pipeline(StandardScaler(), LogisticRegression())
        labels = np.repeat([1, 0], fit.sum())
        model.fit(np.concatenate([missing[fit], there[fit]]), labels)
        out[0][test] = model.decision_function(missing[test])
        out[1][test] = model.decision_function(there[test])
    return out


def _cell(missing: Floats, there: Floats, places: NDArray[np.int64]) -> str:
    """AUROC and interval: places are drawn, and bring their queries both ways."""
    above = (missing[:, None] > there) + (missing[:, None] == there) / 2  # (q, q)
    names, codes = np.unique(places, return_inverse=True)
    draw = np.random.default_rng(0)
    drawn = draw.multinomial(len(names), np.full(len(names), 1 / len(names)), SAMPLES)
    weights = drawn[:, codes]  # (samples, q)
    values = np.einsum("sq,qr,sr->s", weights, above, weights, optimize=True)
    low, high = np.quantile(values / weights.sum(1) ** 2, [0.025, 0.975])
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
