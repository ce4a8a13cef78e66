"""Frozen features, computed once: images through views and the image tower, texts through the
text tower, cached by content.

The cache is one SQLite file per tower. A row is keyed by the hash of the image's bytes, the view
and the adapter, so it knows neither names nor platforms, survives ``kill -9`` (rows are committed
in batches) and is shared by every run with the same tower. Features pass through it batch by batch:
beside the result itself, memory holds a few images and one batch, however many images there are.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhere.adapters import Adapter
from saywhere.errors import ImageError, SaywhereError
from saywhere.files import hash_bytes, hash_file, hash_text
from saywhere.images import decode_image, read_content, unreadable
from saywhere.towers import ImageTower, TextTower, cache_folder
from saywhere.towers.runtime import check_unicode
from saywhere.types import FloatArray, Record
from saywhere.views import View, render

Progress = Callable[[int, int], None]  # (done, total)
_Rendered = list[tuple[str, NDArray[np.uint8]]]  # (key, pixels)

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
    hashes = []
    for record in records:
        try:
            hashes.append(hash_file(record.path))
        except OSError as error:
            raise unreadable(record.path, error) from None
    return hashes


def image_features(
    tower: ImageTower,
    requests: Sequence[ImageRequest],
    size: int,
    progress: Progress | None = None,
    adapter: Adapter | None = None,
) -> list[FloatArray]:
    """Features of every view of every image.

    Args:
        size: the tower's default edge in pixels.
        adapter: whose updates the tower's weights get.
        progress: called with (views done, views to compute) as batches finish.

    Returns:
        for each request (views, dimension) float32, views in the request's order. A tower of one
        fixed size sees every view at that size, whatever the view's scale.

    Raises:
        ImageError: an image that cannot be decoded, or that changed since it was hashed; what was
            computed before it stays in the cache.
        TowerError: a size that the tower does not take.
    """
    tower.check_size(size)
    namespace = f"{_numbers(tower, adapter)}:{size}"
    requests = requests if tower.any_size else [_at_one_size(request) for request in requests]
    wanted = [_keys(namespace, request) for request in requests]
    with _open_cache(tower.fingerprint, tower.dimension) as cache:
        known = cache.known([key for keys in wanted for key in keys])
        missing = _missing(requests, namespace, known)
        total = sum(len(request.views) for request in missing)
        done = 0
        with closing(_batches(missing, namespace, size)) as batches:
            for keys, pixels in batches:
                cache.store(keys, tower.encode(pixels, adapter))
                done += len(keys)
                if progress is not None:
                    progress(done, total)
        return [cache.load(keys) for keys in wanted]


def text_features(
    tower: TextTower,
    texts: Sequence[str],
    progress: Progress | None = None,
    adapter: Adapter | None = None,
) -> FloatArray:
    """Features of texts, cached: (n, dimension) float32, unit length; ``adapter`` as for images.

    Raises:
        InputError: a text that is not Unicode.
    """
    check_unicode(texts)
    keys = [hash_text(f"{_numbers(tower, adapter)}:{text}") for text in texts]
    with _open_cache(tower.fingerprint, tower.dimension) as cache:
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


def _keys(namespace: str, request: ImageRequest) -> list[str]:
    return [hash_text(f"{namespace}:{request.content_hash}:{view.key}") for view in request.views]


def _missing(
    requests: Sequence[ImageRequest], namespace: str, known: set[str]
) -> list[ImageRequest]:
    missing, seen = [], set(known)
    for request in requests:
        views = []
        for key, view in zip(_keys(namespace, request), request.views, strict=True):
            if key not in seen:
                seen.add(key)
                views.append(view)
        if views:
            missing.append(replace(request, views=tuple(views)))
    return missing


def _batches(
    requests: Sequence[ImageRequest], namespace: str, size: int
) -> Generator[tuple[list[str], NDArray[np.uint8]], None, None]:
    """Rendered views in batches of one edge and a bounded number of pixels.

    A thread decodes and renders ahead of the tower: Pillow releases the interpreter lock.
    """
    waiting: dict[int, _Rendered] = defaultdict(list)
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[Future[_Rendered]] = deque()
        queue = iter(requests)
        while True:
            for request in queue:
                ahead.append(pool.submit(_rendered, request, namespace, size))
                if len(ahead) >= _DECODED_AHEAD:
                    break
            if not ahead:
                break
            for key, pixels in ahead.popleft().result():
                edge = len(pixels)
                waiting[edge].append((key, pixels))
                if len(waiting[edge]) * edge * edge >= _BATCH_PIXELS:
                    yield _stacked(waiting.pop(edge))
        for rest in waiting.values():
            yield _stacked(rest)


def _rendered(request: ImageRequest, namespace: str, size: int) -> _Rendered:
    content = read_content(request.path)
    if hash_bytes(content) != request.content_hash:
        # Its features would be kept under the hash of other bytes, for good.
        raise ImageError(f"{request.path}: changed while it was being read; run again")
    image = decode_image(content, str(request.path))
    pixels = [render(image, view, size) for view in request.views]
    return list(zip(_keys(namespace, request), pixels, strict=True))


def _stacked(items: _Rendered) -> tuple[list[str], NDArray[np.uint8]]:
    return [key for key, _ in items], np.stack([pixels for _, pixels in items])


class _Cache:
    """Feature vectors of one dimension by key, as float32 bytes."""

    def __init__(self, connection: sqlite3.Connection, dimension: int) -> None:
        self._connection = connection
        self._dimension = dimension
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS features (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of ``keys`` that have a vector."""
        return {key for part in _chunks(keys) for key, _ in self._select("length(vector)", part)}

    def load(self, keys: Sequence[str]) -> FloatArray:
        """(n, dimension) float32 of ``keys``, all of which are known; repeats are fine."""
        found = {key: blob for part in _chunks(keys) for key, blob in self._select("vector", part)}
        out = np.empty((len(keys), self._dimension), np.float32)
        for row, key in enumerate(keys):
            out[row] = np.frombuffer(found[key], np.float32)
        return out

    def store(self, keys: Sequence[str], vectors: FloatArray) -> None:
        rows = [
            (key, np.ascontiguousarray(v, np.float32).tobytes())
            for key, v in zip(keys, vectors, strict=True)
        ]
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO features VALUES (?, ?)", rows)

    def _select(self, column: str, keys: Sequence[str]) -> sqlite3.Cursor:
        marks = ",".join("?" * len(keys))
        return self._connection.execute(
            f"SELECT key, {column} FROM features "  # noqa: S608 - marks and our own column names
            f"WHERE key IN ({marks}) AND length(vector) = ?",
            [*keys, 4 * self._dimension],
        )


def _chunks(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), 500):
        yield keys[start : start + 500]


@contextmanager
def _open_cache(fingerprint: str, dimension: int) -> Iterator[_Cache]:
    path = cache_folder() / "features" / f"{fingerprint}.sqlite"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=60)
    except (OSError, sqlite3.Error) as error:
        raise SaywhereError(
            f"{path}: the feature cache cannot be opened ({error}); set SAYWHERE_CACHE to a "
            "folder that can be written to"
        ) from None
    try:
        yield _Cache(connection, dimension)
    except sqlite3.Error as error:
        raise SaywhereError(
            f"{path}: the feature cache failed ({error}); free disk space, or delete the file"
        ) from None
    finally:
        connection.close()
