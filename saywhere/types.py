"""The nouns of saywhere: what is read, embedded, found and located.

Coordinates are WGS84 (EPSG:4326) decimal degrees. Fields are named ``lat`` and ``lon`` so that an
order can never be mistaken; where a pair is needed it is written (lat, lon).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Log = Callable[[str], None]  # takes one line, a remark on what is being done


class Platform(StrEnum):
    """Where the camera was. The order is the order of experts everywhere."""

    SATELLITE = "satellite"
    DRONE = "drone"
    GROUND = "ground"


PLATFORMS: tuple[Platform, ...] = tuple(Platform)


@dataclass(frozen=True, slots=True)
class Record:
    """One image, as a reader found it; nothing is decoded yet.

    Attributes:
        image_id: unique within its dataset; for a folder the POSIX path relative to the root.
        path: where the file is.
        platform: None where nothing says so (hashed names, a user's own folder).
        place_id: images of one place share it; None where unknown. Defines the positives.
        lat, lon: WGS84 degrees of the image centre (satellite) or of the camera (drone, ground);
            both or neither.
    """

    image_id: str
    path: Path
    platform: Platform | None = None
    place_id: str | None = None
    lat: float | None = None
    lon: float | None = None


@dataclass(frozen=True, slots=True)
class Caption:
    """One text about one image.

    Attributes:
        image_id: the Record it describes.
        text: what is trained or searched with.
        original: the text as the dataset has it; equal to ``text`` until something rewrites it.
        origin: ``dataset``, ``rule``, or a model name with its prompt hash.
    """

    image_id: str
    text: str
    original: str
    origin: str = "dataset"


@dataclass(frozen=True, slots=True)
class Query:
    """One text that asks for an image. ``query_id`` is the Track 4 submission form (``q1``)."""

    query_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a reader returns.

    Attributes:
        kind: ``geotext``, ``track4``, ``rsicd``, ``table`` or ``folder``.
        source: the path that was read.
        records: one an image, image_id unique, in file order.
        captions: texts bound to images (``geotext``, ``rsicd``, ``table``), in file order.
        queries: texts not bound to images (``track4``).
        skipped: one line an entry that was left out because it is bad; empty unless asked for.
    """

    kind: str
    source: Path
    records: tuple[Record, ...]
    captions: tuple[Caption, ...] = ()
    queries: tuple[Query, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Vectors of images or of queries, row i belonging to ``ids[i]``.

    Attributes:
        ids: image ids or query ids.
        vectors: (n, d) float32. Folded vectors are not unit length: compare by dot product.
        expert_hash: which experts made them; an index refuses others.
    """

    ids: tuple[str, ...]
    vectors: FloatArray
    expert_hash: str


@dataclass(frozen=True, slots=True)
class Hit:
    """One answer to a query.

    Attributes:
        rank: 1 is best.
        score: fused score; comparable within one query only.
        lat, lon: WGS84 degrees, None where the image has no position.
    """

    rank: int
    image_id: str
    path: str
    score: float
    platform: Platform | None = None
    place_id: str | None = None
    lat: float | None = None
    lon: float | None = None
