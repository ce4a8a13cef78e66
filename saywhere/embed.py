"""Records and queries to folded vectors: towers, views, experts and gates in one place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
    features = image_features(tower, requests, experts.config.towers.image.size, progress)
    vectors = fold_image_features(experts, features, platform_codes(records))
    ids = tuple(record.image_id for record in records)
    return EmbeddedImages(Embeddings(ids, vectors, experts.hash), tuple(hashes))


def fold_image_features(
    experts: ExpertSet, features: Sequence[FloatArray], known: IntArray
) -> FloatArray:
    """Features of test views to folded vectors.

    Args:
        features: for each image (views, features) float32.
        known: (n,) index into ``PLATFORMS`` or ``UNKNOWN``.
    """
    log_probability = None
    if experts.image_classifier is not None and features:
        means = np.stack([views.mean(0) for views in features])
        log_probability = experts.image_classifier.log_probability(means)
    gates = image_gates(experts.config.fusion.mode, experts.platforms, known, log_probability)
    return fold_images([expert.encode_image(features) for expert in experts.experts], gates)


def embed_queries(experts: ExpertSet, queries: Sequence[Query], *, threads: int = 2) -> Embeddings:
    """Embed texts; one folded vector each. Errors as ``embed_images``."""
    tower = open_text_tower(experts, threads)
    texts = [clean_query(experts, query.text) for query in queries]
    features = text_features(tower, texts)
    ids = tuple(query.query_id for query in queries)
    return Embeddings(ids, fold_text_features(experts, features), experts.hash)


def embed_image_queries(
    experts: ExpertSet, paths: Sequence[Path], *, threads: int = 2
) -> Embeddings:
    """Embed images that ask: one folded *query* vector each, ids being their paths.

    Each expert's image head stands where its text head stands for words, so a drone photo meets
    satellite tiles in the satellite expert's joint space, and drone photos in the drone expert's.
    Calibration is that of words: it weighs experts against each other, while the spread of image
    scores is another, which is why ``calibrate`` fits a temperature for images of their own. There
    is no platform prior: what a photo was taken from says nothing of what it is compared with. A
    photo is like all photos of its platform, so in a mixed ranking those come first; search one
    platform at a time, or let ``locate`` compare within each.

    Raises:
        ImageError, ExpertError: as ``embed_images``.
    """
    tower = open_image_tower(experts, threads)
    records = [Record(str(path), path) for path in paths]
    views = query_views(experts)
    requests = [
        ImageRequest(path, digest, views)
        for path, digest in zip(paths, content_hashes(records), strict=True)
    ]
    features = image_features(tower, requests, experts.config.towers.image.size, None)
    embeddings = [expert.encode_image(features) for expert in experts.experts]
    no_prior = np.zeros((len(paths), len(experts.experts)), np.float32)
    folded = fold_queries(embeddings, experts.calibration(), no_prior)
    return Embeddings(tuple(map(str, paths)), folded, experts.hash)


def clean_query(experts: ExpertSet, text: str) -> str:
    """What is done to a query before the text tower; the same function as for captions."""
    return remove_orientation(text) if experts.config.text.clean_queries else text


def fold_text_features(experts: ExpertSet, features: FloatArray) -> FloatArray:
    """(q, features) float32 text features to folded query vectors."""
    log_prior = query_prior(experts, features)
    embeddings = [expert.encode_text(features) for expert in experts.experts]
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
    tower = image_tower(experts.config.towers.image, threads=threads, bundle=_bundle(experts))
    _check(experts, "image", tower.fingerprint)
    return tower


def open_text_tower(experts: ExpertSet, threads: int) -> TextTower:
    """The text tower these experts were trained with."""
    tower = text_tower(experts.config.towers.text, threads=threads, bundle=_bundle(experts))
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
