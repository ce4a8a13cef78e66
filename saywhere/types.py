"""The nouns of saywhere: what is read, embedded, found and located.

Coordinates are WGS84 (EPSG:4326) decimal degrees. Fields are named ``lat`` and ``lon`` so that an
order can never be mistaken; where a pair is needed it is written (lat, lon).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import InputError

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
class Window:
    """A rectangle of a raster in its own pixels; column 0, row 0 is the upper left one."""

    column: int
    row: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large rasters are cut into tiles.

    Attributes:
        size_m: edge of a tile on the ground, metres.
        overlap: share of a tile that the next one shows again, at least; 0 <= overlap < 1.

    Raises:
        InputError: no size, or no share.
    """

    size_m: float = 128.0
    overlap: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.size_m < float("inf"):
            raise InputError(f"tiles of {self.size_m} m: give more than 0 metres")
        if not 0 <= self.overlap < 1:
            raise InputError(f"overlap of {self.overlap}: give at least 0 and less than 1")


@dataclass(frozen=True, slots=True)
class Footprint:
    """The ground an image shows, in WGS84 degrees.

    Attributes:
        rings: polygons without holes, each a ring of (lat, lon) pairs, not closed, at least three;
            one, or two where the antimeridian cuts it.
        approximate: computed from a camera's pose over flat ground, not from a georeference.
    """

    rings: tuple[tuple[tuple[float, float], ...], ...]
    approximate: bool


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
        window: the part of the file that is the image, None for all of it.
        footprint: None where nothing tells it.
        taken: when, with a time zone (UTC where the file names none); None where unknown.
    """

    image_id: str
    path: Path
    platform: Platform | None = None
    place_id: str | None = None
    lat: float | None = None
    lon: float | None = None
    window: Window | None = None
    footprint: Footprint | None = None
    taken: datetime | None = None


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
        kind: ``geotext``, ``track4``, ``rsicd``, ``table``, ``stac`` or ``folder``.
        source: the path that was read.
        records: one an image, image_id unique, in file order.
        captions: texts bound to images (``geotext``, ``rsicd``, ``table``), in file order.
        queries: texts not bound to images (``track4``).
        skipped: one line an entry that was left out because it is bad; empty unless asked for.
        notes: one line an entry that is there, but without metadata that could not be used.
    """

    kind: str
    source: Path
    records: tuple[Record, ...]
    captions: tuple[Caption, ...] = ()
    queries: tuple[Query, ...] = ()
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def only(self, records: Iterable[Record]) -> Dataset:
        """The dataset with these of its records, and their captions."""
        kept = tuple(records)
        known = {record.image_id for record in kept}
        captions = tuple(caption for caption in self.captions if caption.image_id in known)
        return replace(self, records=kept, captions=captions)


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
        probability: that it is the image that was meant; None where nothing was fitted to tell.
        lat, lon: WGS84 degrees, None where the image has no position.
        window, footprint, taken: as in ``Record``.
    """

    rank: int
    image_id: str
    path: str
    score: float
    platform: Platform | None = None
    place_id: str | None = None
    lat: float | None = None
    lon: float | None = None
    window: Window | None = None
    footprint: Footprint | None = None
    taken: datetime | None = None
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One place that may be the one described.

    Attributes:
        rank: 1 is the most probable.
        probability: that it is this place and no other; all places, those not listed and "none of
            these" sum to one.
        lat, lon: WGS84 degrees of its representative point.
        radius_50_m, radius_95_m: metres about that point within which the described spot lies with
            50 and 95 % probability, *if* this is the place.
        place_id: None where the index knows none.
        images: how many images of the index show it.
        evidence: its best images, best first, up to three a platform; ``Hit.rank`` counts these.
    """

    rank: int
    probability: float
    lat: float
    lon: float
    radius_50_m: float
    radius_95_m: float
    place_id: str | None
    images: int
    evidence: tuple[Hit, ...]


@dataclass(frozen=True, slots=True)
class Location:
    """The answer to "where is that?".

    Attributes:
        places: the most probable ones, best first.
        none_probability: that the index doesn't hold the place; None while uncalibrated.
        elsewhere_probability: of all places of the index that are not in ``places``.
        radius_50_m, radius_95_m: metres about the first place's point within which the described
            spot lies with 50 and 95 % probability if the index holds it, all places considered.
            None without any place.
        calibrated: whether the numbers were fitted on known pairs of this index.
        confident: whether the first place is more probable than all else together.
        notes: what the reader must know, a line each.
    """

    places: tuple[Place, ...]
    none_probability: float | None
    elsewhere_probability: float
    radius_50_m: float | None
    radius_95_m: float | None
    calibrated: bool
    confident: bool
    notes: tuple[str, ...] = ()
