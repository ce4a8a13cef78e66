"""A photo's metadata made one: which platform, where, when, and what ground it shows.

Which source wins, and why, is in docs/photos.md.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from saywhere.data.exif import Exif, read_exif
from saywhere.data.xmp import Telemetry, read_telemetry
from saywhere.footprints import Pose, camera_footprint
from saywhere.geodesy import distances_m
from saywhere.types import Footprint, Platform

# Makers as EXIF spells them, in lower case, by their first word.
_DRONE_MAKERS = frozenset(
    {"dji", "parrot", "autel", "skydio", "sensefly", "ageagle", "yuneec", "wingtra", "fimi",
     "powervision", "freefly"}
)  # fmt: skip
_DRONE_MODELS = re.compile(r"L\dD-\d+c", re.IGNORECASE)  # Hasselblad's cameras on DJI's Mavics
_HANDHELD_WORDS = ("osmo", "pocket", "action", "ronin")  # what drone makers sell to be held
# Phones only: cameras of Sony, Canon and Ricoh fly on survey drones as well.
_PHONE_MAKERS = frozenset(
    {"apple", "samsung", "google", "huawei", "honor", "xiaomi", "redmi", "oneplus", "oppo", "vivo",
     "realme", "motorola", "nokia", "hmd", "fairphone", "lge", "asus", "nothing"}
)  # fmt: skip
_AGREE_M = 100.0  # RTK corrects by some metres; a position further off is another one
_FILM_DIAGONAL_MM = math.hypot(36, 24)  # by which 35 mm equivalents are defined (CIPA DCG-001)
_FOV = (2.0, 150.0)  # degrees; outside, the focal length is a slip or the lens a fisheye
_FAR_M, _FAR_HEIGHTS = 1000.0, 4.0  # further off, an oblique view shows nothing one could find


@dataclass(frozen=True, slots=True)
class Photo:
    """What a photo's file says of it; None where nothing does.

    Attributes:
        platform: drone, or None: a file cannot say for sure that it is of the ground.
        likely_platform: ground where a phone took it and knew where, for want of anything else.
        lat, lon: WGS84 degrees of the camera, both or neither.
        taken: with a time zone.
        footprint: the ground it shows, approximately.
        faults: metadata that was left out, and why; a clause each.
    """

    platform: Platform | None
    likely_platform: Platform | None
    lat: float | None
    lon: float | None
    taken: datetime | None
    footprint: Footprint | None
    faults: tuple[str, ...]


def read_photo(path: Path) -> Photo:
    """The metadata of an image file; broken metadata is left out and told in ``faults``."""
    exif = read_exif(path)
    telemetry = read_telemetry(exif.xmp)
    faults = [*exif.faults, *telemetry.faults]
    lat, lon = _position(exif, telemetry, faults) or (None, None)
    platform = _platform(exif, telemetry)
    footprint = None
    if platform is Platform.DRONE and lat is not None and lon is not None:
        footprint = _footprint(exif, telemetry, lat, lon)
    by_phone = _first_word(exif.make) in _PHONE_MAKERS
    return Photo(
        platform,
        Platform.GROUND if by_phone and lat is not None else None,
        lat,
        lon,
        telemetry.taken or exif.taken,
        footprint,
        tuple(faults),
    )


def fault_line(name: str, faults: Sequence[str]) -> str:
    """One line about an image that is kept without some of its metadata."""
    return (
        f"{name!a}: {', '.join(faults)}; it is taken without, correct or remove these tags to "
        "have them used"
    )


def _position(exif: Exif, telemetry: Telemetry, faults: list[str]) -> tuple[float, float] | None:
    """XMP's, which has more digits and RTK's corrections, unless EXIF says another place."""
    by_exif = None if exif.lat is None or exif.lon is None else (exif.lat, exif.lon)
    if telemetry.lat is None or telemetry.lon is None:
        return by_exif
    by_xmp = telemetry.lat, telemetry.lon
    if by_exif is None:
        return by_xmp
    apart = float(distances_m(*by_exif, *by_xmp))
    if apart <= _AGREE_M:
        return by_xmp
    # EXIF is what people and programs correct: a packet is copied along unread.
    faults.append(f"its XMP position is {apart:,.0f} m off its EXIF position, which stands")
    return by_exif


def _platform(exif: Exif, telemetry: Telemetry) -> Platform | None:
    model = exif.model.lower()
    if any(word in model for word in _HANDHELD_WORDS):
        return None
    flown = _first_word(exif.make) in _DRONE_MAKERS or _DRONE_MODELS.fullmatch(exif.model)
    return Platform.DRONE if telemetry.present or flown else None


def _first_word(make: str) -> str:
    return make.lower().partition(" ")[0].strip(",.")


def _footprint(exif: Exif, telemetry: Telemetry, lat: float, lon: float) -> Footprint | None:
    """None where the height, the gimbal or the lens is unknown, and of panoramas."""
    height, yaw, pitch = telemetry.relative_m, telemetry.yaw, telemetry.pitch
    view = _field_of_view(exif, telemetry)
    if height is None or yaw is None or pitch is None or view is None or telemetry.panorama:
        return None
    pose = Pose(lat, lon, height, yaw, pitch, telemetry.roll or 0.0)
    far = max(_FAR_M, _FAR_HEIGHTS * height)
    return camera_footprint(pose, *view, max_distance_m=far)


def _field_of_view(exif: Exif, telemetry: Telemetry) -> tuple[float, float] | None:
    """Degrees from side to side and from top to bottom, None where no tag tells the lens."""
    sizes: list[tuple[float, float, float]] = []  # focal length, half width, half height
    if telemetry.focal_px:
        # By the optical centre, since the picture may have been scaled down since.
        x, y = telemetry.centre_px or (exif.width / 2, exif.height / 2)
        sizes.append((telemetry.focal_px, x, y))
    if exif.focal_35mm and exif.width and exif.height:
        scale = _FILM_DIAGONAL_MM / math.hypot(exif.width, exif.height) / 2
        sizes.append((exif.focal_35mm, exif.width * scale, exif.height * scale))
    for focal, half_width, half_height in sizes:
        view = tuple(math.degrees(2 * math.atan2(h, focal)) for h in (half_width, half_height))
        if all(_FOV[0] <= angle <= _FOV[1] for angle in view):
            return view[0], view[1]
    return None
