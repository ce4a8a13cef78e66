"""What the header of an image file says of its camera: EXIF tags, size, the XMP packet. No pixels.

Tag numbers and meanings are those of EXIF 2.32 (CIPA DC-008-2019). Broken metadata never raises: it
is left out, and ``Exif.faults`` says what and why.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import IO

from saywhere.data.source import shown
from saywhere.images import FORMATS, silence

Tags = Mapping[int, object]
_MAKE, _MODEL, _EXIF_IFD, _GPS_IFD = 0x010F, 0x0110, 0x8769, 0x8825
_ORIGINAL, _DIGITIZED, _FOCAL_MM, _FOCAL_35MM = 0x9003, 0x9004, 0x920A, 0xA405
_OFFSET, _OFFSET_ORIGINAL, _OFFSET_DIGITIZED = 0x9010, 0x9011, 0x9012
_SUBSECOND_ORIGINAL, _SUBSECOND_DIGITIZED = 0x9291, 0x9292
_LAT_REF, _LAT, _LON_REF, _LON, _ALTITUDE_REF, _ALTITUDE, _GPS_TIME, _GPS_DATE = (
    1, 2, 3, 4, 5, 6, 7, 29,
)  # fmt: skip
_TIME = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)[ T](\d\d):(\d\d):(\d\d)", re.ASCII)
_DATE = re.compile(r"(\d{4})[:-](\d\d)[:-](\d\d)", re.ASCII)
_ZONE = re.compile(r"([+-])(\d\d):(\d\d)", re.ASCII)
_MAX_HEADER = 16_000_000  # bytes; a WebP, which is read whole, is hardly longer
_FURTHEST_ZONE = timedelta(hours=15)  # UTC-12 … UTC+14, and an hour for clocks that are wrong


@dataclass(frozen=True, slots=True)
class Exif:
    """What a file says of its camera; None or empty where it says nothing that can be used.

    Attributes:
        lat, lon: WGS84 degrees, both or neither.
        altitude_m: metres above sea level as the receiver has it, not above the ground.
        taken: when, with a time zone.
        focal_mm, focal_35mm: the focal length, and that which sees as much on 35 mm film.
        make, model: of the camera.
        width, height: pixels as stored, not turned upright.
        xmp: the XMP packet as it stands.
        faults: what was left out, and why; a clause each.
    """

    lat: float | None = None
    lon: float | None = None
    altitude_m: float | None = None
    taken: datetime | None = None
    focal_mm: float | None = None
    focal_35mm: float | None = None
    make: str = ""
    model: str = ""
    width: int = 0
    height: int = 0
    xmp: bytes = b""
    faults: tuple[str, ...] = ()


def read_exif(path: Path) -> Exif:
    """The header of a JPEG, PNG, WebP, BMP or TIFF file; an empty one where it cannot be read.

    That a file is no image is no fault here: whoever decodes it says so.
    """
    from PIL import Image, _imaging

    silence(_imaging)
    found = Exif()
    try:
        # Nothing is decoded, so size is no danger; what Pillow warns of is told as a fault.
        with warnings.catch_warnings(record=True) as remarks:
            warnings.simplefilter("always")
            with path.open("rb") as file, Image.open(_Bounded(file), formats=FORMATS) as image:  # type: ignore[arg-type]
                found = Exif(
                    width=image.width, height=image.height, xmp=_packet(image.info.get("xmp"))
                )
                # Image.getexif itself: the PNG class would decode all pixels to look behind them.
                exif = Image.Image.getexif(image)
                main = dict(exif)
                camera = exif.get_ifd(_EXIF_IFD) if _EXIF_IFD in main else {}
                gps = exif.get_ifd(_GPS_IFD) if _GPS_IFD in main else {}
        damaged = any("EXIF" in str(remark.message) for remark in remarks)
    except _TooLongError:
        return replace(found, faults=(f"its header exceeds {_MAX_HEADER:,} bytes",))
    except Exception:  # Pillow raises many unrelated types on damaged files
        return replace(found, faults=("its EXIF is damaged",)) if found.width else found
    faults = ["its EXIF is damaged"] if damaged else []
    return _from_tags(found, main, camera, gps, faults)


class _TooLongError(Exception):
    """A header without end."""


class _Bounded:
    """A file of which only so much is read: Pillow keeps every segment of a JPEG's header.

    Extended XMP and kin may be as long as the file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left = file, _MAX_HEADER
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        content = self.file.read(self.left + 1 if size < 0 else min(size, self.left + 1))
        self.left -= len(content)
        if self.left < 0:
            raise _TooLongError
        return content


def _from_tags(found: Exif, main: Tags, camera: Tags, gps: Tags, faults: list[str]) -> Exif:
    lat, lon = _gps_position(gps, faults) or (None, None)
    return replace(
        found,
        lat=lat,
        lon=lon,
        altitude_m=_altitude(gps),
        taken=_taken(camera, gps, faults),
        focal_mm=_positive(camera.get(_FOCAL_MM)),
        focal_35mm=_positive(camera.get(_FOCAL_35MM)),
        make=_text(main.get(_MAKE)),
        model=_text(main.get(_MODEL)),
        faults=tuple(faults),
    )


def _packet(packet: object) -> bytes:
    return packet if isinstance(packet, bytes) else b""


def _gps_position(gps: Tags, faults: list[str]) -> tuple[float, float] | None:
    if gps.get(_LAT) is None and gps.get(_LON) is None:
        return None
    lat = _degrees(gps.get(_LAT), gps.get(_LAT_REF), "NS")
    lon = _degrees(gps.get(_LON), gps.get(_LON_REF), "EW")
    if lat is None or lon is None:
        faults.append("its EXIF position is not degrees, minutes and seconds with N or S, E or W")
        return None
    return usable_position(lat, lon, "EXIF", faults)


def usable_position(
    lat: float, lon: float, source: str, faults: list[str]
) -> tuple[float, float] | None:
    """The pair, or None where it is none, which becomes a fault unless it is 0, 0: no fix."""
    if lat == 0 and lon == 0:
        return None
    if not (abs(lat) <= 90 and abs(lon) <= 180):  # false for NaN
        faults.append(f"its {source} position {lat:g}, {lon:g} is no WGS84 position")
        return None
    return float(lat), float(lon)


def _degrees(parts: object, ref: object, signs: str) -> float | None:
    """Signed degrees from degrees, minutes and seconds (EXIF 2.32, GPSLatitude) and N, S, E, W."""
    letter = _text(ref).upper()
    values = _floats(parts)
    if letter not in tuple(signs) or not 1 <= len(values) <= 3:
        return None
    if not all(0 <= value < math.inf for value in values):
        return None
    size = sum(value / 60.0**power for power, value in enumerate(values))
    return size if letter == signs[0] else -size


def _altitude(gps: Tags) -> float | None:
    size = _number(gps.get(_ALTITUDE))
    below = gps.get(_ALTITUDE_REF) in (1, b"\x01")
    return None if size is None else -size if below else size


def _taken(camera: Tags, gps: Tags, faults: list[str]) -> datetime | None:
    """The clock's time by its zone, else the receiver's, which is UTC, else the clock's as UTC.

    A receiver without a fix goes on writing its last time, so one that no zone explains is left.
    """
    clock, zone = _clock(camera, faults)
    if clock is not None and zone is not None:
        return (clock - zone).replace(tzinfo=UTC)
    received = _gps_time(gps)
    if received is not None and (clock is None or abs(received - clock) <= _FURTHEST_ZONE):
        return received.replace(tzinfo=UTC)
    return None if clock is None else clock.replace(tzinfo=UTC)


def _clock(camera: Tags, faults: list[str]) -> tuple[datetime | None, timedelta | None]:
    """The camera's clock, without a zone, and the zone if it is named (EXIF 2.31 and later)."""
    for time_tag, offset_tag, fraction_tag in (
        (_ORIGINAL, _OFFSET_ORIGINAL, _SUBSECOND_ORIGINAL),
        (_DIGITIZED, _OFFSET_DIGITIZED, _SUBSECOND_DIGITIZED),
    ):
        text = _text(camera.get(time_tag))
        if not text.strip(" :0"):  # empty, or a clock that was never set
            continue
        clock = parse_time(text)
        if clock is None:
            faults.append(f"its EXIF time {shown(text)} is none")
            continue
        fraction = _text(camera.get(fraction_tag))
        if fraction.isdecimal() and fraction.isascii():
            clock += timedelta(seconds=float(f"0.{fraction[:6]}"))
        return clock, _zone(_text(camera.get(offset_tag)) or _text(camera.get(_OFFSET)))
    return None, None


def parse_time(text: str) -> datetime | None:
    """``YYYY:MM:DD hh:mm:ss`` as EXIF has it, or with - and T, at the beginning of a text."""
    match = _TIME.match(text)
    try:
        clock = datetime(*(int(part) for part in match.groups())) if match else None  # type: ignore[arg-type]
    except ValueError:
        return None
    # A year of margin, so that no zone leads out of what a datetime can be.
    return clock if clock and 1 < clock.year < 9999 else None


def _zone(text: str) -> timedelta | None:
    match = _ZONE.fullmatch(text)
    if match is None:
        return None
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return None if offset > _FURTHEST_ZONE else -offset if sign == "-" else offset


def _gps_time(gps: Tags) -> datetime | None:
    match = _DATE.fullmatch(_text(gps.get(_GPS_DATE)))
    parts = _floats(gps.get(_GPS_TIME))
    if match is None or len(parts) != 3 or not all(0 <= part <= 60 for part in parts):
        return None
    try:
        day = date(*(int(part) for part in match.groups()))
    except ValueError:
        return None
    if not 1 < day.year < 9999:
        return None
    midnight = datetime(day.year, day.month, day.day)
    return midnight + timedelta(hours=parts[0], minutes=parts[1], seconds=parts[2])


def _text(value: object) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text.partition("\0")[0].strip() if isinstance(text, str) else ""


def _floats(value: object) -> list[float]:
    parts = value if isinstance(value, tuple) else ()
    numbers = [_number(part) for part in parts]
    return [math.nan if number is None else number for number in numbers]


def _number(value: object) -> float | None:
    """A finite number from a rational (which may be 1/0), an integer or a float."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _positive(value: object) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None
