"""Frozen features, computed once: images through views and the image tower, texts through the
text tower, cached by content.

The cache is one SQLite file per tower. A row is keyed by the hash of the image's bytes and the
view, so it knows neither names nor platforms, survives ``kill -9`` (rows are committed in batches)
and is shared by every run with the same tower.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import SaywhereError
from saywhere.files import hash_file, hash_text
from saywhere.images import read_image
from saywhere.towers import ImageTower, TextTower, cache_folder
from saywhere.types import FloatArray, Record
from saywhere.views import View, render

Progress = Callable[[int, int], None]  # (done, total)

_BATCH_PIXELS = 16 * 224 * 224
_DECODED_AHEAD = 3


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image and the views of it that are wanted."""

    path: Path
    content_hash: str
    views: tuple[View, ...]


def content_hashes(records: Sequence[Record]) -> list[str]:
    """SHA-256 of each record's file.

    Raises:
        ImageError: a file that cannot be read.
    """
    from saywhere.errors import ImageError

    hashes = []
    for record in records:
        try:
            hashes.append(hash_file(record.path))
        except OSError as error:
            raise ImageError(
                f"{record.path}: cannot be read ({error.strerror}); check the path and its rights"
            ) from None
    return hashes


def image_features(
    tower: ImageTower,
    requests: Sequence[ImageRequest],
    size: int,
    progress: Progress | None = None,
) -> list[FloatArray]:
    """Features of every view of every image.

    Args:
        size: the tower's default edge in pixels.
        progress: called with (views done, views to compute) as batches finish.

    Returns:
        for each request (views, dimension) float32, views in the request's order.

    Raises:
        ImageError: an image that cannot be decoded.
    """
    namespace = f"{tower.fingerprint}:{size}"
    with _open_cache(tower.fingerprint) as cache:
        wanted = {
            _key(namespace, request.content_hash, view): None
            for request in requests
            for view in request.views
        }
        known = cache.load(list(wanted), tower.dimension)
        missing = _missing(requests, namespace, known)
        total = sum(len(request.views) for request in missing)
        done = 0
        for keys, pixels in _batches(missing, namespace, size):
            features = tower.encode(pixels)
            cache.store(keys, features)
            known.update(zip(keys, features, strict=True))
            done += len(keys)
            if progress is not None:
                progress(done, total)
    return [
        np.stack([known[_key(namespace, request.content_hash, view)] for view in request.views])
        for request in requests
    ]


def text_features(
    tower: TextTower, texts: Sequence[str], progress: Progress | None = None
) -> FloatArray:
    """Features of texts, cached: (n, dimension) float32, unit length."""
    keys = [hash_text(f"{tower.fingerprint}:{text}") for text in texts]
    with _open_cache(tower.fingerprint) as cache:
        known = cache.load(list(dict.fromkeys(keys)), tower.dimension)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        items = sorted(missing.items(), key=lambda item: len(item[1]))
        step = tower.batch_size
        for start in range(0, len(items), step):
            part = items[start : start + step]
            features = tower.encode([text for _, text in part])
            cache.store([key for key, _ in part], features)
            known.update(zip([key for key, _ in part], features, strict=True))
            if progress is not None:
                progress(min(start + step, len(items)), len(items))
    return np.stack([known[key] for key in keys]) if keys else np.empty((0, tower.dimension), "f4")


def _key(namespace: str, content_hash: str, view: View) -> str:
    return hash_text(f"{namespace}:{content_hash}:{view.key}")


def _missing(
    requests: Sequence[ImageRequest], namespace: str, known: Mapping[str, FloatArray]
) -> list[ImageRequest]:
    missing, seen = [], set(known)
    for request in requests:
        views = []
        for view in request.views:
            key = _key(namespace, request.content_hash, view)
            if key not in seen:
                seen.add(key)
                views.append(view)
        if views:
            missing.append(ImageRequest(request.path, request.content_hash, tuple(views)))
    return missing


def _batches(
    requests: Sequence[ImageRequest], namespace: str, size: int
) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """Rendered views in batches of one edge and a bounded number of pixels.

    A thread decodes and renders ahead of the tower: Pillow releases the interpreter lock.
    """
    waiting: dict[int, list[tuple[str, NDArray[np.uint8]]]] = defaultdict(list)

    def rendered(request: ImageRequest) -> list[tuple[str, NDArray[np.uint8]]]:
        image = read_image(request.path)
        return [
            (_key(namespace, request.content_hash, view), render(image, view, size))
            for view in request.views
        ]

    with ThreadPoolExecutor(1) as pool:
        ahead: list[Future[list[tuple[str, NDArray[np.uint8]]]]] = []
        queue = iter(requests)
        while True:
            for request in queue:
                ahead.append(pool.submit(rendered, request))
                if len(ahead) >= _DECODED_AHEAD:
                    break
            if not ahead:
                break
            for key, pixels in ahead.pop(0).result():
                edge = len(pixels)
                waiting[edge].append((key, pixels))
                if len(waiting[edge]) * edge * edge >= _BATCH_PIXELS:
                    yield _stacked(waiting.pop(edge))
        for rest in waiting.values():
            yield _stacked(rest)


def _stacked(items: list[tuple[str, NDArray[np.uint8]]]) -> tuple[list[str], NDArray[np.uint8]]:
    return [key for key, _ in items], np.stack([pixels for _, pixels in items])


class _Cache:
    """Feature vectors by key, float32 bytes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )

    def load(self, keys: Sequence[str], dimension: int) -> dict[str, FloatArray]:
        found: dict[str, FloatArray] = {}
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            rows = self._connection.execute(
                f"SELECT key, vector FROM features WHERE key IN ({marks})",  # noqa: S608 - marks only
                part,
            )
            for key, blob in rows:
                vector = np.frombuffer(blob, np.float32)
                if len(vector) == dimension:
                    found[key] = vector
        return found

    def store(self, keys: Sequence[str], vectors: FloatArray) -> None:
        rows = [
            (key, np.ascontiguousarray(v).tobytes()) for key, v in zip(keys, vectors, strict=True)
        ]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)


@contextmanager
def _open_cache(fingerprint: str) -> Iterator[_Cache]:
    path = cache_folder() / "features" / f"{fingerprint}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=60)
    except (OSError, sqlite3.Error) as error:
        raise SaywhereError(f"{path}: the feature cache cannot be opened ({error})") from None
    try:
        yield _Cache(connection)
    except sqlite3.Error as error:
        raise SaywhereError(
            f"{path}: the feature cache failed ({error}); free disk space, or delete the file"
        ) from None
    finally:
        connection.close()
