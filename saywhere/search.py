"""Queries to images: over an index, or exactly between two sets of embeddings.

Imports neither torch nor a vector store's engine: what searches only must start fast.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from saywhere.area import Area
from saywhere.errors import IndexMismatchError, InputError
from saywhere.match import Belief, hit_probabilities, is_confident
from saywhere.period import Period
from saywhere.products import Best, ScoreTotals, exact_scores, places_in_groups
from saywhere.store import Platforms, VectorStore, check_k, check_vectors, require_experts
from saywhere.types import Embeddings, FloatArray, Hit, IntArray

# Scores held at once, queries x images: 64 MB of float32.
MAX_SCORES = 2**24
_BLOCK = 4096  # images scored at once


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a ranking. The order is total, so pages neither overlap nor leave gaps.

    Attributes:
        offset: hits left out at the top.
        least: hits of a lower score are left out; None for all.
    """

    offset: int = 0
    least: float | None = None

    def __post_init__(self) -> None:
        if self.offset < 0 or self.least != self.least:
            raise InputError(f"{self}: give an offset of 0 or more, and a number as the threshold")


@dataclass(frozen=True, slots=True)
class Scope:
    """Which images are searched; None: all.

    Attributes:
        platform: only images recorded as of this platform, or one of these.
        area: only images whose position lies in it.
        period: only images known to be taken in it.
    """

    platform: Platforms = None
    area: Area | None = None
    period: Period | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Hits of one query with their match probabilities.

    Attributes:
        hits: a page of the ranking.
        first: probability of the best image of the whole scope; None where it holds none.
        none: probability that the image meant is none of the scope; None where hits have no
            probability, or nothing was searched.
    """

    hits: list[Hit]
    first: float | None
    none: float | None

    @property
    def confident(self) -> bool | None:
        """Whether the best image is worth calling a match; None where nothing tells."""
        return None if self.first is None else is_confident(self.first)


def search(
    store: VectorStore,
    queries: Embeddings,
    k: int = 10,
    *,
    platform: Platforms = None,
    area: Area | None = None,
    period: Period | None = None,
    page: Page | None = None,
) -> list[list[Hit]]:
    """Finds the images that answer each query best.

    Args:
        store: an index, opened with ``open_store``.
        queries: q folded query vectors, made by the experts of the index.
        k: 1 to 10,000; fewer hits come back where fewer images qualify.
        platform: only images recorded as of this platform, or one of these.
        area: only images whose position lies in it.
        period: only images known to be taken in it.
        page: which part of the ranking; ranks go on counting from its start.

    Returns:
        q lists of hits, best first, rank from 1; equal scores are in order of image_id.

    Raises:
        IndexMismatchError: other experts made the queries than the index.
        InputError: vectors, k or platform out of range, or an index that cannot be read.
    """
    page = page or Page()
    vectors = _asked(store, queries, k, page)
    found = store.search(vectors, page.offset + k, platform=platform, area=area, period=period)
    return [_turned(hits, page) for hits in found]


def search_matches(
    store: VectorStore,
    queries: Embeddings,
    belief: Belief | None,
    k: int = 10,
    scope: Scope | None = None,
    page: Page | None = None,
) -> list[Answer]:
    """As ``search``, with how likely each hit is the image that was meant, in the same one pass.

    Args:
        belief: fitted for queries of this kind by the experts of the index; None: hits only.
        scope: what is searched; probabilities are among these images, so a smaller scope trusts
            the same score more.

    Returns:
        q answers; without probabilities also where the store can't see every image's score.

    Raises:
        IndexMismatchError, InputError: as ``search``, or a belief that was not fitted.
    """
    scope, page = scope or Scope(), page or Page()
    if belief is None:
        found = search(
            store, queries, k,
            platform=scope.platform, area=scope.area, period=scope.period, page=page,
        )  # fmt: skip
        return [Answer(hits, None, None) for hits in found]
    vectors = _asked(store, queries, k, page)
    found, totals = store.search_and_total(
        vectors, page.offset + k, belief.sharpness.temperature,
        platform=scope.platform, area=scope.area, period=scope.period,
    )  # fmt: skip
    if totals is None or not totals.count:
        return [Answer(_turned(hits, page), None, None) for hits in found]
    return [_answer(hits, totals.of(row), belief, page) for row, hits in enumerate(found)]


def _answer(hits: list[Hit], totals: ScoreTotals, belief: Belief, page: Page) -> Answer:
    """Args: totals: of this query alone."""
    scores = np.asarray([[hit.score for hit in hits]], np.float32)
    matches = hit_probabilities(scores, totals, belief)
    shares = matches.images[0].tolist()
    likely = [replace(hit, probability=p) for hit, p in zip(hits, shares, strict=True)]
    return Answer(_turned(likely, page), shares[0], float(matches.none[0]))


def _asked(store: VectorStore, queries: Embeddings, k: int, page: Page) -> FloatArray:
    """The query vectors, checked against the index; (q, d) float32."""
    check_k(k)
    check_k(page.offset + k)
    info = store.info()
    require_experts(info, queries.expert_hash)
    return _checked(queries, info.dimension, "queries")


def _turned(hits: list[Hit], page: Page) -> list[Hit]:
    return [hit for hit in hits[page.offset :] if page.least is None or hit.score >= page.least]


def fused(queries: Embeddings) -> Embeddings:
    """Several descriptions of one thing as one query: the mean vector, hence the mean score."""
    mean = queries.vectors.mean(0, keepdims=True).astype(np.float32)
    return Embeddings((queries.ids[0],), mean, queries.expert_hash)


def rank_exact(queries: Embeddings, gallery: Embeddings, k: int | None) -> IntArray:
    """Ranks a gallery for each query by dot product, without an index.

    Args:
        queries: (q, d) folded query vectors.
        gallery: (n, d) folded image vectors of the same experts.
        k: at least 1, cut to n; None for all n.

    Returns:
        (q, min(k, n)) int64 positions in the gallery, best first; ties by ascending position.

    Raises:
        IndexMismatchError: queries and gallery are of different experts.
        InputError: k below 1, vectors of different dimensions or not finite.
    """
    if queries.expert_hash != gallery.expert_hash:
        raise IndexMismatchError(
            f"gallery of experts {gallery.expert_hash[:12]}, queries of experts "
            f"{queries.expert_hash[:12]}: their vectors don't compare; embed both with the same"
        )
    if k is not None and k < 1:
        raise InputError(f"k = {k}: cannot rank that many images; give 1 or more, or leave it out")
    dimension = gallery.vectors.shape[-1]
    images = _checked(gallery, dimension, "gallery")
    asked = _checked(queries, dimension, "queries")
    width = len(images) if k is None else min(k, len(images))
    ranking = np.empty((len(asked), width), dtype=np.int64)
    step = max(1, MAX_SCORES // max(1, len(images)))
    for start in range(0, len(asked), step):
        part = asked[start : start + step]
        if 8 * width > len(images):  # picking the best first would save nothing
            scores = exact_scores(part, images)
            # A stable sort leaves ties in the order of the gallery.
            ranking[start : start + step] = np.argsort(-scores, axis=1, kind="stable")[:, :width]
            continue
        best = Best(part, width)
        for first in range(0, len(images), _BLOCK):
            best.offer(images[first : first + _BLOCK])
        rank = places_in_groups(best.rows)
        within = rank < width
        ranking[start + best.rows[within], rank[within]] = best.positions[within]
    return ranking


def _checked(embeddings: Embeddings, dimension: int, what: str) -> FloatArray:
    vectors = check_vectors(embeddings.vectors, dimension, what)
    if len(vectors) != len(embeddings.ids):
        raise InputError(
            f"{what}: {len(embeddings.ids)} ids but {len(vectors)} vectors; embed them again"
        )
    return vectors
