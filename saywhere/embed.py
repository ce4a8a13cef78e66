"""Records and queries to folded vectors: towers, views, experts and gates in one place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from saywhere.adapters import Adapter
from saywhere.bundle import ExpertSet
from saywhere.errors import ExpertError
from saywhere.features import (
    ImageRequest,
    Progress,
    content_hashes,
    image_features,
    text_features,
)
from saywhere.fusion import UNKNOWN, fold_images, fold_queries, image_gates, query_log_prior
from saywhere.manifest import check_towers
from saywhere.text.orientation import remove_orientation
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.types import PLATFORMS, Embeddings, FloatArray, IntArray, Query, Record
from saywhere.views import FIXED_VIEWS, View


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """Embeddings of images with what the index keeps beside them."""

    embeddings: Embeddings
    content_hashes: tuple[str, ...]


def query_views(experts: ExpertSet) -> tuple[View, ...]:
    """The views averaged at query time."""
    return tuple(FIXED_VIEWS[name] for name in experts.config.views.test)


def embed_images(
    experts: ExpertSet,
    records: Sequence[Record],
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> EmbeddedImages:
    """Embed images; one folded vector each.

    Where a record knows its platform its gate is one-hot, else the image-side classifier decides.

    Raises:
        ImageError: an image that cannot be decoded.
        ExpertError: the towers are altered, or not those the experts were trained with.
    """
    if experts.folder is not None:
        check_towers(experts.folder)
    tower = open_image_tower(experts, threads)
    hashes = content_hashes(records)
    views = query_views(experts)
    requests = [
        ImageRequest(record.path, digest, views)
        for record, digest in zip(records, hashes, strict=True)
    ]
    size = experts.config.towers.image.size
    features = partial(image_features, tower, requests, size, progress)
    vectors = fold_image_features(experts, features, platform_codes(records))
    ids = tuple(record.image_id for record in records)
    return EmbeddedImages(Embeddings(ids, vectors, experts.hash), tuple(hashes))


def fold_image_features(
    experts: ExpertSet,
    features: Callable[[Adapter | None], Sequence[FloatArray]],
    known: IntArray,
) -> FloatArray:
    """Features of test views to folded vectors.

    Args:
        features: under an adapter, or of the frozen tower, for each image (views, features)
            float32. Asked only for what is needed: it is a pass of the tower over every image.
        known: (n,) index into ``PLATFORMS`` or ``UNKNOWN``.
    """
    mode, log_probability = experts.config.fusion.mode, None
    if experts.image_classifier is not None and mode in ("own", "gated") and len(known):
        means = np.stack([views.mean(0) for views in features(None)])
        log_probability = experts.image_classifier.log_probability(means)
    gates = image_gates(mode, experts.platforms, known, log_probability)
    embeddings = [expert.encode_image(features(expert.image_adapter)) for expert in experts.experts]
    return fold_images(embeddings, gates)


def embed_queries(experts: ExpertSet, queries: Sequence[Query], *, threads: int = 2) -> Embeddings:
    """Embed texts; one folded vector each. Errors as ``embed_images``."""
    tower = open_text_tower(experts, threads)
    texts = [clean_query(experts, query.text) for query in queries]
    features = partial(text_features, tower, texts, None)
    ids = tuple(query.query_id for query in queries)
    return Embeddings(ids, fold_text_features(experts, features), experts.hash)


def clean_query(experts: ExpertSet, text: str) -> str:
    """What is done to a query before the text tower; the same function as for captions."""
    return remove_orientation(text) if experts.config.text.clean_queries else text


def fold_text_features(
    experts: ExpertSet, features: Callable[[Adapter | None], FloatArray]
) -> FloatArray:
    """Text features to folded query vectors.

    Args:
        features: under an adapter, or of the frozen tower, (q, features) float32.
    """
    log_prior = query_prior(experts, features(None))
    embeddings = [expert.encode_text(features(expert.text_adapter)) for expert in experts.experts]
    return fold_queries(embeddings, experts.calibration(), log_prior)


def query_prior(experts: ExpertSet, features: FloatArray) -> FloatArray:
    """Log w_e(q): (q, E) float32; zero where no prior is configured."""
    if experts.config.fusion.prior != "words" or experts.word_classifier is None:
        return np.zeros((len(features), len(experts.experts)), np.float32)
    return query_log_prior(experts.platforms, experts.word_classifier.log_probability(features))


def platform_codes(records: Sequence[Record]) -> IntArray:
    """(n,) index into ``PLATFORMS``, ``UNKNOWN`` where a record does not say."""
    return np.asarray(
        [UNKNOWN if record.platform is None else PLATFORMS.index(record.platform)
         for record in records],
        np.int64,
    )  # fmt: skip


def open_image_tower(experts: ExpertSet, threads: int) -> ImageTower:
    """The image tower these experts were trained with."""
    tower = image_tower(
        experts.config.towers.image,
        threads=threads,
        bundle=_bundle(experts),
        adapter=experts.config.adapters.image,
    )
    _check(experts, "image", tower.fingerprint)
    return tower


def open_text_tower(experts: ExpertSet, threads: int) -> TextTower:
    """The text tower these experts were trained with."""
    tower = text_tower(
        experts.config.towers.text,
        threads=threads,
        bundle=_bundle(experts),
        adapter=experts.config.adapters.text,
    )
    _check(experts, "text", tower.fingerprint)
    return tower


def _bundle(experts: ExpertSet) -> Path | None:
    return experts.folder / "towers" if experts.folder else None


def _check(experts: ExpertSet, side: str, found: str) -> None:
    expected = experts.towers[side]
    if found != expected:
        raise ExpertError(
            f"{side} tower {found[:12]} is not the one the experts were trained with "
            f"({expected[:12]}); use the experts' own towers folder, or train anew"
        )
