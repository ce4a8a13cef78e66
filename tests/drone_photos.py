"""JPEGs as drones and phones write them: EXIF by Pillow, XMP packets in DJI's own layout."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import Image, TiffImagePlugin

# Names, order, signs and number of digits as a Zenmuse P1 on an M300 RTK writes them.
P1: Mapping[str, str] = {
    "Version": "1.4", "GpsStatus": "RTK", "AltitudeType": "RtkAlt",
    "GpsLatitude": "+47.992104811", "GpsLongitude": "+11.025301237",
    "AbsoluteAltitude": "+612.687", "RelativeAltitude": "+80.000",
    "GimbalRollDegree": "+0.00", "GimbalYawDegree": "+30.00", "GimbalPitchDegree": "-90.00",
    "FlightRollDegree": "+5.00", "FlightYawDegree": "+28.90", "FlightPitchDegree": "-7.40",
    "FlightXSpeed": "5.1", "FlightYSpeed": "7.4", "FlightZSpeed": "0.0",
    "CamReverse": "0", "GimbalReverse": "0", "SelfData": "", "RtkFlag": "50",
    "RtkStdLon": "0.01389", "RtkStdLat": "0.01331", "RtkStdHgt": "0.02741", "RtkDiffAge": "0.60000",
    "SurveyingMode": "1", "UTCAtExposure": "2021-05-26T15:21:49.073960",
    "ShutterType": "Mechanical", "ShutterCount": "23122", "DroneModel": "Matrice 300 RTK",
    "CalibratedFocalLength": "8000.000", "CalibratedOpticalCenterX": "4096.000",
    "CalibratedOpticalCenterY": "2730.000", "DewarpFlag": "0",
}  # fmt: skip
# An early Phantom 4 Pro: the misspelled longitude, no RTK, no calibration.
PHANTOM: Mapping[str, str] = {
    "AbsoluteAltitude": "+400.33", "RelativeAltitude": "+50.00",
    "GpsLatitude": "-33.8599700", "GpsLongtitude": "+151.2095800",
    "GimbalRollDegree": "+0.00", "GimbalYawDegree": "-27.00", "GimbalPitchDegree": "-60.00",
    "FlightRollDegree": "+0.70", "FlightYawDegree": "-28.10", "FlightPitchDegree": "-3.70",
    "CamReverse": "0", "GimbalReverse": "0", "SelfData": "Undefined",
}  # fmt: skip
DJI_URI, UAV_URI = "http://www.dji.com/drone-dji/1.0/", "http://www.uav.com/drone-dji/1.0/"
_OPEN = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    ' <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    '  <rdf:Description rdf:about="DJI Meta Data"\n'
    '    xmlns:tiff="http://ns.adobe.com/tiff/1.0/"\n'
    '    xmlns:xmp="http://ns.adobe.com/xap/1.0/"\n'
    '    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"\n'
    '    xmlns:GPano="http://ns.google.com/photos/1.0/panorama/"\n'
    '    xmlns:drone-dji="{uri}"\n'
    '   xmp:ModifyDate="1970-01-01"\n   xmp:CreateDate="1970-01-01"\n   tiff:Make="DJI"'
)
_CLOSE = '  </rdf:Description>\n </rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'


def packet(fields: Mapping[str, str], *, elements: bool = False, uri: str = DJI_URI) -> bytes:
    """An XMP packet; the camera writes attributes, programs that edit it may write elements."""
    text = _OPEN.replace("{uri}", uri)
    if elements:
        lines = [f"   <drone-dji:{k}>{v}</drone-dji:{k}>\n" for k, v in fields.items()]
        return (text + ">\n" + "".join(lines) + _CLOSE).encode()
    attributes = "".join(f'\n   drone-dji:{k}="{v}"' for k, v in fields.items())
    return (text + attributes + '\n   crs:Version="7.0"\n  >\n' + _CLOSE).encode()


def dms(degrees: float) -> tuple[Any, ...]:
    """Degrees, minutes and seconds to 1/10000 as EXIF holds them."""
    parts = round(abs(degrees) * 3600 * 10_000)
    rational = TiffImagePlugin.IFDRational
    minutes, seconds = divmod(parts, 600_000)
    return rational(minutes // 60, 1), rational(minutes % 60, 1), rational(seconds, 10_000)


def gps_tags(lat: float, lon: float, **more: Any) -> dict[int, Any]:
    """The GPS directory of a position; ``more`` as t6=…, by tag number."""
    refs = "N" if lat >= 0 else "S", "E" if lon >= 0 else "W"
    tags: dict[int, Any] = {1: refs[0], 2: dms(lat), 3: refs[1], 4: dms(lon)}
    return tags | {int(name[1:]): value for name, value in more.items()}


def exif(
    make: str = "",
    model: str = "",
    gps: Mapping[int, Any] | None = None,
    camera: Mapping[int, Any] | None = None,
) -> bytes:
    """EXIF as bytes, of the tags given."""
    made = Image.Exif()
    for tag, text in ((0x010F, make), (0x0110, model)):
        if text:
            made[tag] = text
    for tag, directory in ((0x8825, gps), (0x8769, camera)):
        if directory:
            made[tag] = dict(directory)
    return made.tobytes()


def jpeg(tags: bytes = b"", xmp: bytes = b"", size: tuple[int, int] = (60, 40)) -> bytes:
    """The bytes of a JPEG with both."""
    stream = BytesIO()
    Image.new("RGB", size, (90, 120, 60)).save(stream, "JPEG", exif=tags, xmp=xmp)
    return stream.getvalue()
