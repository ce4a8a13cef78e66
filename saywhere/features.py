"""Frozen features, computed once: images through views and the image tower, texts through the
text tower, cached by content.

A row of the cache is keyed by the hash of the file's bytes, the part of it that is the image, the
view and the adapter, so it knows neither names nor platforms. Features pass through it batch by
batch: beside the result itself, memory holds a few images and one batch, however many images there
are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from saywhere.adapters import Adapter
from saywhere.decoding import (
    ContentHashes,
    Decoding,
    ImageRequest,
    Progress,
    content_hashes,
    decoded_batches,
)
from saywhere.errors import ImageError
from saywhere.feature_cache import NoSpaceError, open_cache
from saywhere.files import hash_text
from saywhere.towers import ImageTower, TextTower
from saywhere.towers.runtime import check_unicode
from saywhere.types import FloatArray

__all__ = [
    "ContentHashes",
    "ImageRequest",
    "Progress",
    "content_hashes",
    "feature_blocks",
    "image_features",
    "text_features",
]

_LOADED = 256  # images whose features are handed out together


def image_features(
    tower: ImageTower,
    requests: Sequence[ImageRequest],
    size: int,
    progress: Progress | None = None,
    refused: dict[str, str] | None = None,
    adapter: Adapter | None = None,
) -> list[FloatArray]:
    """Features of every view of every image, all at once; see ``feature_blocks``."""
    blocks = feature_blocks(tower, requests, size, progress, refused, adapter)
    return [features for block in blocks for features in block]


def feature_blocks(
    tower: ImageTower,
    requests: Sequence[ImageRequest],
    size: int,
    progress: Progress | None = None,
    refused: dict[str, str] | None = None,
    adapter: Adapter | None = None,
) -> Iterator[list[FloatArray]]:
    """Features of every view of every image, a few hundred images at a time.

    All that is missing is computed, and ``refused`` filled, before the first block.

    Args:
        size: the tower's default edge in pixels.
        progress: called with (views done, views to compute) as batches finish.
        refused: where given, an image that cannot be decoded doesn't stop the others: cause and
            remedy are put here by its ``source``.
        adapter: whose updates the tower's weights get.

    Yields:
        for each of the next requests (views, dimension) float32, views in the request's order; no
        views for an image in ``refused``. A tower of one fixed size sees every view at that size,
        whatever the view's scale.

    Raises:
        ImageError: an image that cannot be decoded, or that changed since it was hashed; what was
            computed before it stays in the cache.
        TowerError: a size that the tower does not take.
    """
    tower.check_size(size)
    namespace = f"{_numbers(tower, adapter)}:{size}"
    requests = requests if tower.any_size else [_at_one_size(request) for request in requests]
    with open_cache(tower.fingerprint, tower.dimension) as cache:
        known = cache.known([key for request in requests for key in request.keys(namespace)])
        missing = _missing(requests, namespace, known)
        total = sum(len(request.views) for request in missing)
        done = 0
        decoding = Decoding(namespace, size, refused)
        with closing(decoded_batches(missing, decoding, tower.workers)) as batches:
            for keys, features in _encoded(tower, batches, adapter):
                cache.store(keys, features)
                done += len(keys)
                if progress is not None:
                    progress(done, total)
        for start in range(0, len(requests), _LOADED):
            yield [
                cache.load(() if request.source in (refused or ()) else request.keys(namespace))
                for request in requests[start : start + _LOADED]
            ]


def text_features(
    tower: TextTower,
    texts: Sequence[str],
    progress: Progress | None = None,
    adapter: Adapter | None = None,
) -> FloatArray:
    """Features of texts, cached: (n, dimension) float32; ``adapter`` as for images.

    Raises:
        InputError: a text that is not Unicode.
    """
    check_unicode(texts)
    try:
        return _cached_texts(tower, texts, progress, adapter)
    except NoSpaceError:
        if len(texts) > tower.batch_size:
            raise
        return tower.encode(texts, adapter)  # a full disk must not stop a search


def _cached_texts(
    tower: TextTower, texts: Sequence[str], progress: Progress | None, adapter: Adapter | None
) -> FloatArray:
    keys = [hash_text(f"{_numbers(tower, adapter)}:{text}") for text in texts]
    with open_cache(tower.fingerprint, tower.dimension) as cache:
        known = cache.known(keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        items = sorted(missing.items(), key=lambda item: len(item[1]))
        step = tower.batch_size
        for start in range(0, len(items), step):
            part = items[start : start + step]
            encoded = tower.encode([text for _, text in part], adapter)
            cache.store([key for key, _ in part], encoded)
            if progress is not None:
                progress(min(start + step, len(items)), len(items))
        return cache.load(keys)


def _numbers(tower: ImageTower | TextTower, adapter: Adapter | None) -> str:
    """Identifies the numbers that ``tower`` gives under ``adapter``."""
    return tower.fingerprint if adapter is None else f"{tower.fingerprint}+{adapter.hash}"


def _at_one_size(request: ImageRequest) -> ImageRequest:
    return replace(request, views=tuple(replace(view, scale=1.0) for view in request.views))


def _missing(
    requests: Sequence[ImageRequest], namespace: str, known: set[str]
) -> list[ImageRequest]:
    missing, seen = [], set(known)
    for request in requests:
        views = []
        for key, view in zip(request.keys(namespace), request.views, strict=True):
            if key not in seen:
                seen.add(key)
                views.append(view)
        if views:
            missing.append(replace(request, views=tuple(views)))
    return missing


def _encoded(
    tower: ImageTower,
    batches: Iterable[tuple[list[str], NDArray[np.uint8]]],
    adapter: Adapter | None,
) -> Iterator[tuple[list[str], FloatArray]]:
    """Features of batches in their order, ``tower.workers`` of them computed side by side."""
    failure = None
    with ThreadPoolExecutor(tower.workers) as pool:
        running: deque[tuple[list[str], Future[FloatArray]]] = deque()
        try:
            for keys, pixels in batches:
                running.append((keys, pool.submit(tower.encode, pixels, adapter)))
                if len(running) > tower.workers:  # one waits, so that no worker does
                    done, features = running.popleft()
                    yield done, features.result()
        except ImageError as error:  # what comes before the bad image is not lost
            failure = error
        for done, features in running:
            yield done, features.result()
    if failure is not None:
        raise failure
