"""A dataset becomes a TrainingSet: cleaned texts, cached views, integer codes."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from saywhere.batches import TrainingSet, starts_of
from saywhere.config import Config, TextConfig
from saywhere.errors import InputError
from saywhere.features import (
    ImageRequest,
    Progress,
    content_hashes,
    feature_blocks,
    image_features,
    text_features,
)
from saywhere.files import hash_text
from saywhere.ranks import count, meet, rank
from saywhere.text.orientation import remove_orientation
from saywhere.text.variants import operator_variants
from saywhere.towers import ImageTower, TextTower
from saywhere.types import PLATFORMS, Dataset, FloatArray, IntArray, Platform, Record
from saywhere.views import FIXED_VIEWS, View, degraded_views, random_views


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Everything training and fitting need, in arrays.

    Attributes:
        train: items with their fixed and random views.
        test_features: for each item (test views, features), as at query time.
        requests: for each item its image and views, in the order of ``train.views``.
        size: edge in pixels of the default view.
        texts: the texts, in the order of ``train.texts``.
        place_ids: (n,) the records' place_ids.
        data_hash: of image contents, platforms, places and captions.
    """

    train: TrainingSet
    test_features: tuple[FloatArray, ...]
    requests: tuple[ImageRequest, ...]
    size: int
    texts: tuple[str, ...]
    place_ids: tuple[str, ...]
    data_hash: str


def prepare(
    dataset: Dataset,
    config: Config,
    towers: tuple[ImageTower, TextTower],
    progress: Progress | None = None,
) -> PreparedData:
    """Clean, embed and number a captioned dataset.

    Raises:
        InputError: images without caption, platform or place_id: nothing to train on.
        ImageError: an image that cannot be decoded.
    """
    records = dataset.records
    texts = training_texts(dataset, config.text)
    _check_trainable(dataset, records, texts)
    hashes = content_hashes(records)
    fixed = tuple(FIXED_VIEWS[name] for name in config.views.test)
    requests = [
        ImageRequest(record.path, digest, fixed + _random(record, digest, config))
        for record, digest in zip(records, hashes, strict=True)
    ]
    size = config.towers.image.size
    _share_work(towers[0], requests, size, progress)
    features = image_features(towers[0], requests, size, progress)
    flat = [text for item in texts for text in item]
    train = TrainingSet(
        views=np.concatenate(features),
        view_start=starts_of(len(views) for views in features),
        texts=text_features(towers[1], flat),
        text_start=starts_of(len(item) for item in texts),
        text_codes=codes(flat),
        places=codes([record.place_id for record in records]),
        platforms=np.asarray(
            [PLATFORMS.index(record.platform) for record in records if record.platform], np.int64
        ),
    )
    return PreparedData(
        train=train,
        # Slices of the one array: the features are too many to hold twice.
        test_features=tuple(
            train.views[start : start + len(fixed)] for start in train.view_start[:-1]
        ),
        requests=tuple(requests),
        size=size,
        texts=tuple(flat),
        place_ids=tuple(str(record.place_id) for record in records),
        data_hash=_data_hash(records, hashes, texts),
    )


def _share_work(
    tower: ImageTower, requests: Sequence[ImageRequest], size: int, progress: Progress | None
) -> None:
    """Of several processes each fills the cache with its part; what others lack they compute."""
    if count() > 1:
        for _ in feature_blocks(tower, requests[rank() :: count()], size, progress):
            pass
        meet()


def training_texts(dataset: Dataset, config: TextConfig) -> list[list[str]]:
    """Texts of each record, in record order, without repeats.

    On platforms in ``config.remove_orientation`` a caption loses its orientation words; with
    ``keep_full`` the full caption stays beside it. Rule-based variants are made of what the dataset
    has (refined texts are variants already).
    """
    by_image: dict[str, dict[str, None]] = {record.image_id: {} for record in dataset.records}
    platforms = {record.image_id: record.platform for record in dataset.records}
    for caption in dataset.captions:
        texts = by_image[caption.image_id]
        removes = platforms[caption.image_id] in config.remove_orientation
        if config.keep_full or not removes:
            texts[caption.text] = None
        if removes:
            texts[remove_orientation(caption.text)] = None
        if caption.text == caption.original:
            texts |= dict.fromkeys(operator_variants(caption.original, config.rule_variants))
    return [list(texts) for texts in by_image.values()]


def kept_for_fitting(place: str | None, ending: str | None) -> bool:
    """Whether a place is kept apart to fit on; ``ending``: ``train.fit_places_ending_in``."""
    return ending is not None and (place or "").endswith(ending)


def codes(values: Iterable[Hashable]) -> IntArray:
    """(n,) int64: equal values share a code, numbered by first appearance."""
    seen: dict[Hashable, int] = {}
    return np.asarray([seen.setdefault(value, len(seen)) for value in values], np.int64)


def _random(record: Record, digest: str, config: Config) -> tuple[View, ...]:
    platform = record.platform
    if platform is Platform.SATELLITE and not config.views.satellite_augmentation:
        platform = None
    plain = random_views(digest, config.views.train, platform)
    return plain + degraded_views(digest, config.views.degraded, platform)


def _data_hash(
    records: Sequence[Record], hashes: Sequence[str], texts: Sequence[Sequence[str]]
) -> str:
    """One hash of all that is trained on, whatever the order and the names of the files."""
    described = [
        f"{digest}|{record.platform}|{record.place_id}|{'|'.join(item)}"
        for record, digest, item in zip(records, hashes, texts, strict=True)
    ]
    return hash_text("\n".join(sorted(described)))


def _check_trainable(
    dataset: Dataset, records: Sequence[Record], texts: Sequence[Sequence[str]]
) -> None:
    bare = sum(not item for item in texts)
    lost = sum(record.platform is None or record.place_id is None for record in records)
    if bare or lost:
        raise InputError(
            f"{dataset.source}: {bare} images have no caption and {lost} no platform or place; "
            "train on captioned images, such as a GeoText-1652 JSON file"
        )
