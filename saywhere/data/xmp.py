"""A drone's telemetry from an XMP packet: position, heights, and how the gimbal was turned.

DJI writes it in its own namespace, ``drone-dji``, and other makers' cameras copy that. Fields and
their meaning: the "Photo File" tables of DJI's manuals (Zenmuse P1, Mavic 3M). A packet comes from
anywhere, so it is bounded, and one that declares a document type or entities is refused before any
of them is expanded: XMP needs neither (ISO 16684-1, 6.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from xml.parsers import expat

from saywhere.data.exif import parse_time, usable_position
from saywhere.data.source import shown

MAX_BYTES = 1 << 18  # a JPEG holds at most 64 KiB; drones write 2 to 5
_NAMESPACE = re.compile(r"/drone-[a-z]+/")  # http://www.dji.com/drone-dji/1.0/, later www.uav.com
_PREFIX = re.compile(r"drone-[a-z]+")
_NUMBER = re.compile(r"[+-]?([0-9]{1,12}\.?[0-9]{0,18}|\.[0-9]{1,18})")
_DEEPEST = 32  # elements within each other; XMP's own have eight or so
_LONGEST = 64  # characters of a value; times are the longest ones wanted
# Wanted fields, and the misspelling that early firmware writes.
_SPELLINGS: Mapping[str, str] = {"gpslongtitude": "gpslongitude"}
# The largest size that is no slip, in degrees, metres and pixels.
_LIMITS: Mapping[str, float] = {
    "gimbalyawdegree": 360, "gimbalpitchdegree": 180, "gimbalrolldegree": 360,
    "flightyawdegree": 360, "relativealtitude": 20_000, "absolutealtitude": 20_000,
    "calibratedfocallength": 100_000, "calibratedopticalcenterx": 100_000,
    "calibratedopticalcentery": 100_000, "rtkflag": 100,
    "gpslatitude": float("inf"), "gpslongitude": float("inf"),
}  # fmt: skip
_TIME = "utcatexposure"
_RTK_FIXED = 50  # 16 single point, 34 floating solution, 50 fixed: centimetres


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a drone writes beside EXIF; None where it doesn't.

    Attributes:
        present: whether the packet has any field of a drone's namespace.
        lat, lon: WGS84 degrees, both or neither.
        rtk_fixed: whether the position is a fixed RTK solution, good to centimetres.
        relative_m: metres above the point of take-off.
        absolute_m: metres above sea level or the ellipsoid, as the drone was set.
        yaw, pitch, roll: of the gimbal, degrees as in ``footprints.Pose``; yaw of the drone where
            the gimbal's is missing.
        focal_px: calibrated focal length in pixels of the sensor.
        centre_px: calibrated (x, y) of the optical centre, in the same pixels.
        taken: the moment of exposure, UTC.
        panorama: whether it was stitched from several views to all directions.
        faults: what was left out, and why; a clause each.
    """

    present: bool = False
    lat: float | None = None
    lon: float | None = None
    rtk_fixed: bool = False
    relative_m: float | None = None
    absolute_m: float | None = None
    yaw: float | None = None
    pitch: float | None = None
    roll: float | None = None
    focal_px: float | None = None
    centre_px: tuple[float, float] | None = None
    taken: datetime | None = None
    panorama: bool = False
    faults: tuple[str, ...] = ()


class _RefusedError(Exception):
    """A packet that is not parsed any further; the text is the fault."""


def read_telemetry(packet: bytes) -> Telemetry:
    """A drone's fields of an XMP packet, be they attributes or elements; never raises."""
    if b"drone-" not in packet:  # most packets are a phone's or an editor's; also UTF-16, unused
        return Telemetry()
    try:
        fields = _fields(packet)
    except _RefusedError as refused:
        return Telemetry(faults=(str(refused),))
    faults: list[str] = []
    numbers = {
        name: number
        for name in _LIMITS
        if name in fields and (number := _number(name, fields[name], faults)) is not None
    }
    position = None
    if "gpslatitude" in numbers and "gpslongitude" in numbers:
        position = usable_position(numbers["gpslatitude"], numbers["gpslongitude"], "XMP", faults)
    lat, lon = position or (None, None)
    centre = numbers.get("calibratedopticalcenterx"), numbers.get("calibratedopticalcentery")
    taken = parse_time(fields.get(_TIME, ""))
    return Telemetry(
        present=bool(fields),
        lat=lat,
        lon=lon,
        rtk_fixed=numbers.get("rtkflag") == _RTK_FIXED,
        relative_m=numbers.get("relativealtitude"),
        absolute_m=numbers.get("absolutealtitude"),
        yaw=numbers.get("gimbalyawdegree", numbers.get("flightyawdegree")),
        pitch=numbers.get("gimbalpitchdegree"),
        roll=numbers.get("gimbalrolldegree"),
        focal_px=numbers.get("calibratedfocallength"),
        centre_px=None if centre[0] is None or centre[1] is None else (centre[0], centre[1]),
        taken=taken.replace(tzinfo=UTC) if taken else None,
        panorama=b"equirectangular" in packet,
        faults=tuple(faults),
    )


def _number(name: str, text: str, faults: list[str]) -> float | None:
    if not text:  # older firmware leaves fields empty
        return None
    number = float(text) if _NUMBER.fullmatch(text) else None
    if number is None or abs(number) > _LIMITS[name]:
        faults.append(f"its XMP {name} {shown(text)} is no number that can be")
        return None
    return number


def _fields(packet: bytes) -> dict[str, str]:
    """Values of a drone's namespace by lower-case name, the first of each.

    Raises:
        _RefusedError: too long, not well-formed, or with a document type.
    """
    if len(packet) > MAX_BYTES:
        raise _RefusedError(f"its XMP packet of {len(packet):,} bytes exceeds {MAX_BYTES:,}")
    parser, collector = expat.ParserCreate("UTF-8"), _Collector()
    parser.buffer_text = True
    parser.StartElementHandler = collector.start
    parser.EndElementHandler = collector.end
    parser.CharacterDataHandler = collector.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    try:
        parser.Parse(packet.rstrip(b"\0 \r\n\t"), True)
    except expat.ExpatError as error:
        cause = expat.ErrorString(error.code)
        raise _RefusedError(f"its XMP packet is damaged ({cause})") from None
    return collector.fields


def _refuse_doctype(*_: object) -> None:
    raise _RefusedError("its XMP packet declares a document type, as attacks do")


class _Collector:
    """Keeps the wanted values only, so that no packet costs more memory than its own bytes.

    Prefixes count as well as namespaces: there are packets that never declare theirs.
    """

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.prefixes: set[str] = set()
        self.open = ""  # the wanted element whose text is being read
        self.pieces: list[str] = []
        self.depth = 0

    def start(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise _RefusedError("its XMP packet is nested too deeply")
        for name, value in attributes.items():
            prefix, _, local = name.partition(":")
            if prefix == "xmlns" and _NAMESPACE.search(value):
                self.prefixes.add(local)
        for name, value in attributes.items():
            self._keep(name, value)
        self.open, self.pieces = self._wanted(tag), []

    def text(self, data: str) -> None:
        if self.open:
            self.pieces.append(data)

    def end(self, tag: str) -> None:
        if self.open and self._wanted(tag) == self.open:
            self._keep(tag, "".join(self.pieces))
        self.open = ""
        self.depth -= 1

    def _keep(self, name: str, value: str) -> None:
        wanted = self._wanted(name)
        if wanted and len(value) <= _LONGEST:
            self.fields.setdefault(wanted, value.strip())

    def _wanted(self, name: str) -> str:
        prefix, _, local = name.partition(":")
        if not local or not (prefix in self.prefixes or _PREFIX.fullmatch(prefix)):
            return ""
        local = local.lower()
        return _SPELLINGS.get(local, local)
