"""From image files to the pixels a tower gets: hashed, decoded and rendered ahead of it."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import ImageError, printable
from saywhere.files import hash_bytes, hash_file, hash_text
from saywhere.images import decode_image, read_content, unreadable
from saywhere.rasters import RasterReader, raster_reader
from saywhere.types import Record, Window
from saywhere.views import View, render

Progress = Callable[[int, int], None]  # (done, total)
Stamp = tuple[int, int]  # size in bytes, mtime in ns
_Rendered = list[tuple[str, NDArray[np.uint8]]]  # (key, pixels)

_BATCH_PIXELS = 4 * 224 * 224  # larger ones are slower: their activations fall out of the caches


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image and the views of it that are wanted.

    Attributes:
        content_hash: of the whole file.
        window: the part of it that is the image, None for all.
        stamp: size and time of the file when it was hashed. A window needs it: nobody hashes a
            gigabyte again for each of its tiles, so these must vouch for the bytes.
    """

    path: Path
    content_hash: str
    views: tuple[View, ...]
    window: Window | None = None
    stamp: Stamp | None = None

    @property
    def source(self) -> str:
        """What the pixels come from: equal sources, equal pixels."""
        if (part := self.window) is None:
            return self.content_hash
        return f"{self.content_hash}@{part.column},{part.row},{part.width},{part.height}"

    def keys(self, namespace: str) -> list[str]:
        """Names of its views' features in the cache."""
        return [hash_text(f"{namespace}:{self.source}:{view.key}") for view in self.views]


class ContentHashes:
    """SHA-256 of files, each read once however many records are parts of it."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[str, Stamp]] = {}

    def request(self, record: Record, views: tuple[View, ...]) -> ImageRequest:
        """What is wanted of a record.

        Raises:
            ImageError: a file that cannot be read.
        """
        if record.window is None:
            return ImageRequest(record.path, content_hashes([record])[0], views)
        if record.path not in self._known:
            stamp = _stamp(record.path)
            self._known[record.path] = content_hashes([record])[0], stamp
        content_hash, stamp = self._known[record.path]
        return ImageRequest(record.path, content_hash, views, record.window, stamp)


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


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    return status.st_size, status.st_mtime_ns


@dataclass(frozen=True, slots=True)
class Decoding:
    """How images become batches.

    Attributes:
        namespace: what the features are of, besides image and view.
        size: the tower's default edge in pixels.
        refused: as in ``features.feature_blocks``.
    """

    namespace: str
    size: int
    refused: dict[str, str] | None


def decoded_batches(
    requests: Sequence[ImageRequest], decoding: Decoding, workers: int
) -> Generator[tuple[list[str], NDArray[np.uint8]], None, None]:
    """Keys and rendered views, in batches of one edge and a bounded number of pixels.

    Threads decode and render ahead of the tower's ``workers``: Pillow releases the interpreter
    lock. They are few, since a large image takes a gigabyte while it is decoded.
    """
    waiting: dict[int, _Rendered] = defaultdict(list)
    decoders = 1 + workers // 4
    with raster_reader() as rasters, ThreadPoolExecutor(decoders) as pool:
        ahead: deque[Future[_Rendered]] = deque()
        queue = iter(requests)
        while True:
            for request in queue:
                ahead.append(pool.submit(_rendered_or_refused, request, decoding, rasters))
                if len(ahead) >= decoders + 2:
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


def _rendered_or_refused(
    request: ImageRequest, decoding: Decoding, rasters: RasterReader
) -> _Rendered:
    try:
        return _rendered(request, decoding, rasters)
    except ImageError as error:
        if decoding.refused is None:
            raise
        # Without the name: other files may have the same bytes.
        cause = str(error).removeprefix(printable(f"{request.path}: "))
        decoding.refused[request.source] = cause
        return []


def _rendered(request: ImageRequest, decoding: Decoding, rasters: RasterReader) -> _Rendered:
    if request.window is None:
        content = read_content(request.path)
        if hash_bytes(content) != request.content_hash:
            # Its features would be kept under the hash of other bytes, for good.
            raise _changed(request)
        image = decode_image(content, str(request.path))
    else:
        image = rasters.read(request.path, request.window)
        if _stamp(request.path) != request.stamp:
            raise _changed(request)
    pixels = [render(image, view, decoding.size) for view in request.views]
    return list(zip(request.keys(decoding.namespace), pixels, strict=True))


def _changed(request: ImageRequest) -> ImageError:
    return ImageError(f"{request.path}: changed while it was being read; run again")


def _stacked(items: _Rendered) -> tuple[list[str], NDArray[np.uint8]]:
    return [key for key, _ in items], np.stack([pixels for _, pixels in items])
