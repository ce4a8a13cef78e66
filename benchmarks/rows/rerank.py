"""Scores of a gallery put right by the gallery itself: re-ranking, query expansion, diffusion.

All see similarities only: of queries to images, of images to images, of a bank of training captions
to images. Three generalists averaged give them; parameters are chosen on training places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from rows.base import name_of
from rows.common import KINDS, Question, Row, Setting, parameters, say, similarity, value
from saywhere.expert import Expert
from saywhere.types import BoolArray, FloatArray

MEMBERS = 3
CHOOSING = 1  # members a fold that parameters are chosen with: a third of the time


@dataclass(frozen=True, slots=True)
class Scores:
    """Similarities.

    Attributes:
        queries: (q, n) of queries to images.
        images: (n, n) of images to images.
        bank: (b, n) of training captions to images.
    """

    queries: FloatArray
    images: FloatArray
    bank: FloatArray


Method = Callable[..., FloatArray]


def k_reciprocal(scores: Scores, *, k: int, k2: int, weight: float) -> FloatArray:
    """k-reciprocal re-ranking (Zhong et al. 2017) of a gallery of images for queries of text.

    A query and an image are reciprocal where the image is among the query's ``k`` best and the
    query ranks as high among the bank's captions for that image as ``k`` images do in the gallery;
    two images where each is among the other's ``k`` best. Each becomes a vector over the gallery,
    exp(-distance) where reciprocal, averaged over its ``k2`` nearest images, and Jaccard similarity
    compares two vectors. ``weight`` is the share of the similarity as it was.
    """
    count = len(scores.images)
    nearest = _best(scores.queries, k)
    bank_k = min(max(1, round(k * len(scores.bank) / count)), len(scores.bank))
    limit = -np.partition(-scores.bank, bank_k - 1, axis=0)[bank_k - 1]  # (n,)
    mutual = _best(scores.images, k + 1)  # an image's best is itself
    of_queries = _weights(scores.queries, nearest & (scores.queries >= limit))
    of_images = _weights(scores.images, mutual & mutual.T)
    query_near, image_near = _best(scores.queries, k2), _best(scores.images, k2)
    of_queries = (of_queries + query_near @ of_images) / (1 + k2)
    of_images = image_near @ of_images / k2
    alike = np.empty(scores.queries.shape)
    for row, vector in enumerate(of_queries):
        least = np.minimum(vector, of_images).sum(1)
        alike[row] = least / np.maximum(vector, of_images).sum(1)
    return (1 - weight) * alike + weight * _unit_range(scores.queries)


def query_expansion(scores: Scores, *, k: int, alpha: float, weight: float) -> FloatArray:
    """Alpha query expansion (Radenović et al. 2019): the ``k`` best hits join the query.

    Each hit's image vector is added, weighted by its rank-normalised similarity to the power of
    ``alpha``; together they weigh ``weight`` against the query's 1.
    """
    shares = _unit_range(scores.queries) ** alpha * _best(scores.queries, k)
    shares /= shares.sum(1, keepdims=True)
    return scores.queries + weight * (shares @ scores.images)


def diffusion(scores: Scores, *, k: int, alpha: float) -> FloatArray:
    """Diffusion over the gallery's neighbours (Iscen et al. 2017), in closed form.

    Scores spread along the graph of mutual ``k`` nearest images; ``alpha`` is what is passed on.
    """
    near = _best(scores.images, k + 1)
    graph = np.where(near & near.T, np.maximum(scores.images, 0) ** 3, 0)
    np.fill_diagonal(graph, 0)
    degree = np.sqrt(np.maximum(graph.sum(1), 1e-9))
    graph = graph / degree[:, None] / degree
    spread = np.linalg.inv(np.eye(len(graph)) - alpha * graph)
    return np.asarray(_unit_range(scores.queries) @ spread)


GRIDS: Mapping[str, tuple[Method, Mapping[str, Sequence[Any]]]] = {
    "k-reciprocal re-ranking": (
        k_reciprocal,
        {"k": (5, 10, 20), "k2": (1, 3, 6), "weight": (0.3, 0.5, 0.7, 0.9)},
    ),
    "query expansion": (
        query_expansion,
        {"k": (1, 2, 3, 5, 10), "alpha": (0.0, 3.0), "weight": (0.05, 0.1, 0.25, 0.5, 1.0)},
    ),
    "diffusion": (diffusion, {"k": (3, 5, 10, 20), "alpha": (0.1, 0.3, 0.5, 0.7, 0.9)}),
}


def rows(setting: Setting) -> list[Row]:
    """A row for each of ``GRIDS`` at what was best on training places."""
    return setting.kept("re-ranking", lambda: _make(setting))


def _make(setting: Setting) -> list[Row]:
    held = _held_out(setting)
    return [_row(setting, name, _choose(name, held)) for name in GRIDS]


def _held_out(setting: Setting) -> list[tuple[Question, str, Scores]]:
    out = []
    for fold, (items, asked) in enumerate(setting.material.folds()):
        data = setting.material.data.train.take(items)
        seed = 1000 + fold  # none of the seeds that answer the test
        expert, _ = setting.pool.ensemble(setting.material.config, data, seed, CHOOSING)
        bank = data.texts[data.text_start[:-1]]
        out += [(found, kind, _scores(expert, found, bank)) for kind, found in asked.items()]
    return out


def _choose(name: str, held: Sequence[tuple[Question, str, Scores]]) -> dict[str, Any]:
    """The parameters with the highest mean of R@1/5/10 over both kinds and all folds."""
    method, grid = GRIDS[name]
    answers = {kind: [q.ranks(s.queries) for q, k, s in held if k == kind] for kind in KINDS}
    plain = value({kind: [np.concatenate(found)] for kind, found in answers.items()})
    best, chosen = -1.0, dict[str, Any]()
    for values in product(*grid.values()):
        options = dict(zip(grid, values, strict=True))
        found = {
            kind: [np.concatenate([q.ranks(method(s, **options)) for q, k, s in held if k == kind])]
            for kind in KINDS
        }
        if value(found) > best:
            best, chosen = value(found), options
    say(f"{name}: on training places {best:.1f}, without {plain:.1f}, by {chosen}")
    return chosen


def _row(setting: Setting, name: str, options: Mapping[str, Any]) -> Row:
    material, (method, _) = setting.material, GRIDS[name]
    shown = ", ".join(f"{key} {found:g}" for key, found in options.items())
    row = Row(f"{name} ({shown})", name_of(MEMBERS))
    bank = material.data.train.texts[material.data.train.text_start[:-1]]
    for seed in setting.seeds:
        expert, seconds = setting.pool.ensemble(material.config, material.data.train, seed, MEMBERS)
        row.heads, row.seconds = parameters([expert]), row.seconds + seconds / len(setting.seeds)
        for kind, question in material.questions.items():
            row.add(kind, question.ranks(method(_scores(expert, question, bank), **options)))
    return row


def _scores(expert: Expert, question: Question, bank: FloatArray) -> Scores:
    images = expert.encode_image(question.images)
    return Scores(
        similarity(expert, question), images @ images.T, expert.encode_text(bank) @ images.T
    )


def _best(scores: FloatArray, k: int) -> BoolArray:
    """(rows, n) bool: the k largest of each row; what ties with the last of them counts, too."""
    k = min(k, scores.shape[1])
    return np.asarray(scores >= -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k])


def _weights(scores: FloatArray, kept: BoolArray) -> FloatArray:
    """exp(-distance) where kept, rows summing to one; an empty row keeps its best."""
    kept = kept | _best(scores, 1)
    weights = np.exp(_unit_range(scores) - 1) * kept
    return np.asarray(weights / weights.sum(1, keepdims=True))


def _unit_range(scores: FloatArray) -> FloatArray:
    """Each row from 0 (its least) to 1 (its best)."""
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    return np.asarray((scores - low) / (high - low))
