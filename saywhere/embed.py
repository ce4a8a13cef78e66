"""Records and queries to folded vectors: towers, views, experts and gates in one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path

import numpy as np

from saywhere.adapters import Adapter
from saywhere.errors import ImageError, printable
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import ExpertTowers
from saywhere.features import (
    ContentHashes,
    ImageRequest,
    Progress,
    content_hashes,
    feature_blocks,
    image_features,
    text_features,
)
from saywhere.fusion import UNKNOWN, fold_images, fold_queries, image_gates, query_log_prior
from saywhere.hardware import Runtime
from saywhere.manifest import check_towers
from saywhere.text.orientation import remove_orientation
from saywhere.text.spelling import corrected
from saywhere.types import PLATFORMS, Embeddings, FloatArray, IntArray, Query, Record
from saywhere.views import FIXED_VIEWS, View

_FROZEN = ""  # where features are told apart by their adapter's hash: those without one


@dataclass(frozen=True, slots=True)
class EmbeddedImages:
    """Embeddings of images with what the index keeps beside them.

    Attributes:
        embeddings: one vector an image, in the order they were given, without those in ``bad``.
        content_hashes: of the same images' files.
        bad: by image_id, one line about each image that cannot be read or decoded.
    """

    embeddings: Embeddings
    content_hashes: tuple[str, ...]
    bad: Mapping[str, str] = field(default_factory=dict)


def query_views(experts: ExpertSet) -> tuple[View, ...]:
    """The views averaged at query time."""
    return tuple(FIXED_VIEWS[name] for name in experts.config.views.test)


def embed_images(
    experts: ExpertSet,
    records: Sequence[Record],
    *,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    skip_bad: bool = False,
) -> EmbeddedImages:
    """Embed images; one folded vector each.

    Where a record knows its platform its gate is one-hot, else the image-side classifier decides.

    Args:
        skip_bad: embed the other images where some cannot be read or decoded.

    Raises:
        ImageError: an image that cannot be read or decoded, unless ``skip_bad``.
        ExpertError: the towers are altered, or not those the experts were trained with.
    """
    if experts.folder is not None:
        check_towers(experts.folder)
    towers = ExpertTowers(experts, runtime)
    wanted, bad = _requests(records, query_views(experts), skip_bad=skip_bad)
    readable = [record for record in records if record.image_id in wanted]
    requests = list(wanted.values())
    refused: dict[str, str] = {}
    size = experts.config.towers.image.size
    blocks = {}
    for key, adapter in image_adapters(experts).items():
        tower, unmerged = towers.image(adapter)
        refusing = refused if skip_bad else None
        blocks[key] = feature_blocks(tower, requests, size, progress, refusing, unmerged)
    sound, vectors = _fold_blocks(
        experts, blocks, readable, lambda record: wanted[record.image_id].source not in refused
    )
    bad |= {
        image_id: printable(f"{request.path}: {refused[request.source]}")
        for image_id, request in wanted.items()
        if request.source in refused
    }
    ids = tuple(record.image_id for record in sound)
    made = Embeddings(ids, vectors, experts.hash)
    return EmbeddedImages(made, tuple(wanted[image_id].content_hash for image_id in ids), bad)


def _fold_blocks(
    experts: ExpertSet,
    blocks: Mapping[str, Iterable[list[FloatArray]]],
    records: Sequence[Record],
    is_sound: Callable[[Record], bool],
) -> tuple[list[Record], FloatArray]:
    """The sound records and their folded vectors; of the features one block is held at a time.

    Args:
        blocks: by adapter, features of ``records`` in their order, several times as long as what
            is kept. They go side by side, since an image's gates weigh all experts' vectors.
        is_sound: asked when the first block of each has come.
    """
    sound: list[Record] = []
    nothing: dict[str, list[FloatArray]] = {key: [] for key in blocks}
    folded = [fold_image_features(experts, nothing, platform_codes([]))]
    start = 0
    for together in zip(*blocks.values(), strict=True):
        part = records[start : start + len(together[0])]
        start += len(part)
        is_kept = [is_sound(record) for record in part]
        kept = list(compress(part, is_kept))
        features = {
            key: list(compress(block, is_kept)) for key, block in zip(blocks, together, strict=True)
        }
        sound += kept
        folded.append(fold_image_features(experts, features, platform_codes(kept)))
    return sound, np.concatenate(folded)


def _requests(
    records: Sequence[Record], views: tuple[View, ...], *, skip_bad: bool
) -> tuple[dict[str, ImageRequest], dict[str, str]]:
    """Requests by image_id; in the second dict a line about each file that cannot be hashed."""
    requests, bad, hashes = dict[str, ImageRequest](), dict[str, str](), ContentHashes()
    for record in records:
        try:
            requests[record.image_id] = hashes.request(record, views)
        except ImageError as error:
            if not skip_bad:
                raise
            bad[record.image_id] = str(error)
    return requests, bad


def image_adapters(experts: ExpertSet) -> dict[str, Adapter | None]:
    """What the image tower is to run under, once each; the classifier sees the frozen tower."""
    adapters = _distinct(expert.image_adapter for expert in experts.experts)
    return adapters | {_FROZEN: None} if _by_images(experts) else adapters


def _text_adapters(experts: ExpertSet) -> dict[str, Adapter | None]:
    adapters = _distinct(expert.text_adapter for expert in experts.experts)
    return adapters | {_FROZEN: None} if _by_words(experts) else adapters


def _distinct(adapters: Iterable[Adapter | None]) -> dict[str, Adapter | None]:
    return {_key(adapter): adapter for adapter in adapters}


def _key(adapter: Adapter | None) -> str:
    return adapter.hash if adapter else _FROZEN


def fold_image_features(
    experts: ExpertSet, features: Mapping[str, Sequence[FloatArray]], known: IntArray
) -> FloatArray:
    """Features of test views to folded vectors.

    Args:
        features: by the hash of an adapter, the frozen tower's under no name, for each image
            (views, features) float32.
        known: (n,) index into ``PLATFORMS`` or ``UNKNOWN``.
    """
    log_probability = None
    if experts.image_classifier is not None and _by_images(experts) and len(known):
        means = np.stack([views.mean(0) for views in features[_FROZEN]])
        log_probability = experts.image_classifier.log_probability(means)
    mode = experts.config.fusion.mode
    if mode == "known":
        known = experts.in_domain(known, features.get(_FROZEN, ()))
    gates = image_gates(mode, experts.platforms, known, log_probability)
    embeddings = [e.encode_image(features[_key(e.image_adapter)]) for e in experts.experts]
    return fold_images(embeddings, gates)


def _by_images(experts: ExpertSet) -> bool:
    """Whether images are told apart by the classifier."""
    return experts.image_classifier is not None and experts.config.fusion.mode in ("own", "gated")


def _by_words(experts: ExpertSet) -> bool:
    """Whether queries are told apart by the classifier."""
    return experts.word_classifier is not None and experts.config.fusion.prior == "words"


def embed_queries(
    experts: ExpertSet,
    queries: Sequence[Query],
    *,
    runtime: Runtime | None = None,
    told: Callable[[str, str], None] | None = None,
) -> Embeddings:
    """Embed texts; one folded vector each. Errors as ``embed_images`` and ``clean_texts``.

    Args:
        told: called with each text in which a mistyped word was put right, as it was and as it is.
    """
    towers, adapters = ExpertTowers(experts, runtime), _text_adapters(experts)
    texts = [query.text for query in queries]
    if experts.config.text.spelling and texts:
        knows = towers.text(next(iter(adapters.values())))[0].knows
        typed, texts = texts, [corrected(text, knows) for text in texts]
        for before, after in zip(typed, texts, strict=True):
            if told is not None and before != after:
                told(before, after)
    texts = clean_texts(experts, texts)
    features = {}
    for key, adapter in adapters.items():
        tower, unmerged = towers.text(adapter)
        features[key] = text_features(tower, texts, adapter=unmerged)
    ids = tuple(query.query_id for query in queries)
    return Embeddings(ids, fold_text_features(experts, features), experts.hash)


def embed_image_queries(
    experts: ExpertSet, paths: Sequence[Path], *, runtime: Runtime | None = None
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
    towers = ExpertTowers(experts, runtime)
    records = [Record(str(path), path) for path in paths]
    views = query_views(experts)
    requests = [
        ImageRequest(path, digest, views)
        for path, digest in zip(paths, content_hashes(records), strict=True)
    ]
    size = experts.config.towers.image.size
    features = {}
    for key, adapter in _distinct(expert.image_adapter for expert in experts.experts).items():
        tower, unmerged = towers.image(adapter)
        features[key] = image_features(tower, requests, size, adapter=unmerged)
    embeddings = [e.encode_photo_query(features[_key(e.image_adapter)]) for e in experts.experts]
    no_prior = np.zeros((len(paths), len(experts.experts)), np.float32)
    folded = fold_queries(embeddings, experts.calibration(), no_prior)
    return Embeddings(tuple(map(str, paths)), folded, experts.hash)


def clean_texts(experts: ExpertSet, texts: Sequence[str]) -> list[str]:
    """What is done to queries before the text tower; the same functions as for captions.

    Raises:
        ConfigError: queries are to be refined, but by no model, or by a host not allowed.
        MissingExtraError: queries are to be refined, but the extra is not installed.
    """
    config = experts.config.text
    if config.query.enabled:
        from saywhere.refine.query import refine_queries

        return refine_queries(texts, config.query)
    return [remove_orientation(text) for text in texts] if config.clean_queries else list(texts)


def fold_text_features(experts: ExpertSet, features: Mapping[str, FloatArray]) -> FloatArray:
    """Text features to folded query vectors.

    Args:
        features: by the hash of an adapter, the frozen tower's under no name, (q, features)
            float32.
    """
    first = next(iter(features.values()))
    log_prior = query_prior(experts, features.get(_FROZEN, first))
    embeddings = [e.encode_text(features[_key(e.text_adapter)]) for e in experts.experts]
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
