"""What an index holds of an image beside its vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from saywhere.data.source import is_unicode
from saywhere.errors import InputError
from saywhere.types import Footprint, Platform, Window


@dataclass(frozen=True, slots=True)
class Row:
    """What is stored of one image besides its vector.

    Attributes:
        image_id: unique within the index; adding it again replaces the image.
        path: where the file is.
        content_hash: hash of the file's bytes, by which a later run sees what changed.
        platform: None where nothing says so; such images answer unfiltered searches only.
        place_id: None where unknown.
        lat, lon: WGS84 degrees, lat in [-90, 90], lon in [-180, 180]; both or neither.
        size, mtime_ns: of the file when it was hashed, in bytes and in nanoseconds since 1970: a
            file that still has both is not read again. None where they cannot vouch for it.
        window, footprint: as in ``Record``; ``content_hash``, size and time are the whole file's.
        taken: when, with a time zone; None where unknown.

    Raises:
        InputError: an empty or unencodable text, a position that isn't on Earth, or a time without
            a zone.
    """

    image_id: str
    path: str
    content_hash: str
    platform: Platform | None = None
    place_id: str | None = None
    lat: float | None = None
    lon: float | None = None
    size: int | None = None
    mtime_ns: int | None = None
    window: Window | None = None
    footprint: Footprint | None = None
    taken: datetime | None = None

    def __post_init__(self) -> None:
        if not self.image_id:
            raise InputError(f"image {self.path!r}: its image_id is empty; give each image an id")
        for text in (self.image_id, self.path, self.content_hash, self.place_id or ""):
            if not is_unicode(text):
                raise InputError(f"image {text!a}: the name is not UTF-8; rename the file")
        if not _is_position(self.lat, self.lon):
            raise InputError(
                f"image {self.image_id!r}: lat {self.lat}, lon {self.lon} is no WGS84 position; "
                "give lat in [-90, 90] and lon in [-180, 180], or neither"
            )
        if self.taken is not None and self.taken.utcoffset() is None:
            raise InputError(
                f"image {self.image_id!r}: taken {self.taken.isoformat()}, but in no time zone; "
                "give one"
            )


def _is_position(lat: float | None, lon: float | None) -> bool:
    if lat is None or lon is None:
        return lat is None and lon is None
    return math.isfinite(lat) and math.isfinite(lon) and abs(lat) <= 90 and abs(lon) <= 180
