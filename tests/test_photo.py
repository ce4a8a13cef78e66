"""Photos: what is read of EXIF and XMP, which of them wins, and that no packet does harm."""

from __future__ import annotations

import math
import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drone_photos import P1, PHANTOM, UAV_URI, dms, exif, gps_tags, jpeg, packet
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import IFDRational

from saywhere.data.exif import read_exif
from saywhere.data.folder import read_folder
from saywhere.data.inspect import inspect
from saywhere.data.photo import Photo, read_photo
from saywhere.data.platforms import override_platforms, parse_platform_rule
from saywhere.data.xmp import MAX_BYTES, Telemetry, read_telemetry
from saywhere.errors import InputError
from saywhere.footprints import footprint_centre
from saywhere.geodesy import distances_m
from saywhere.types import Platform, Record

HERE = (47.9921, 11.0253)


def photo(folder: Path, content: bytes, name: str = "a.jpg") -> Photo:
    (folder / name).write_bytes(content)
    return read_photo(folder / name)


# --- XMP ------------------------------------------------------------------------------------------


def test_a_packet_as_the_zenmuse_p1_writes_it() -> None:
    assert read_telemetry(packet(P1)) == Telemetry(
        present=True,
        lat=47.992104811,
        lon=11.025301237,
        rtk_fixed=True,
        relative_m=80.0,
        absolute_m=612.687,
        yaw=30.0,
        pitch=-90.0,
        roll=0.0,
        focal_px=8000.0,
        centre_px=(4096.0, 2730.0),
        taken=datetime(2021, 5, 26, 15, 21, 49, tzinfo=UTC),
    )


@pytest.mark.parametrize("fields", [P1, PHANTOM])
def test_elements_other_namespaces_and_padding_say_the_same(fields: dict[str, str]) -> None:
    plain = read_telemetry(packet(fields))
    assert plain.lon is not None
    assert read_telemetry(packet(fields, elements=True)) == plain
    assert read_telemetry(packet(fields, uri=UAV_URI)) == plain
    assert read_telemetry(packet(fields) + b"\0" * 2000 + b"\n ") == plain
    renamed = packet(fields).replace(b"drone-dji:", b"ns1:").replace(b":drone-dji=", b":ns1=")
    assert b"drone-dji:" not in renamed
    assert read_telemetry(renamed) == plain
    undeclared = packet(fields).replace(b"xmlns:drone-dji=", b"xmlns:x1=")
    assert read_telemetry(undeclared) == plain


def test_the_drone_stands_in_for_its_gimbals_yaw() -> None:
    fields = {name: value for name, value in PHANTOM.items() if name != "GimbalYawDegree"}
    assert read_telemetry(packet(fields)).yaw == -28.1
    assert read_telemetry(packet(PHANTOM)).yaw == -27.0


def test_what_is_no_drones_packet_says_nothing() -> None:
    for content in (b"", b"<x", packet({}).replace(b"drone-dji", b"other"), b"\0" * 99):
        assert read_telemetry(content) == Telemetry()


@pytest.mark.parametrize("value", ["nan", "inf", "1e999", "+-3", "12,5", "٣", "1/0", "9" * 13, "x"])
def test_numbers_that_are_none_are_left_out_and_told(value: str) -> None:
    found = read_telemetry(packet({**P1, "RelativeAltitude": value, "GimbalYawDegree": value}))
    assert (found.relative_m, found.yaw, found.lat) == (None, 28.9, 47.992104811)
    assert len(found.faults) == 2
    assert "relativealtitude" in found.faults[1]


def test_sizes_that_cannot_be_are_left_out() -> None:
    found = read_telemetry(packet({**P1, "RelativeAltitude": "+90000", "GpsLatitude": "+95.1"}))
    assert (found.relative_m, found.lat, found.lon) == (None, None, None)
    assert len(found.faults) == 2
    none = read_telemetry(packet({**P1, "GpsLatitude": "+0.000000", "GpsLongitude": "-0.0"}))
    assert (none.lat, none.faults) == (None, ())


ENTITIES = '<!ENTITY a0 "lol">' + "".join(
    f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)
)
PLAIN = packet(P1)
BOMBS: dict[str, tuple[bytes, str]] = {
    "laughs": (
        f"<!DOCTYPE x [{ENTITIES}]>".encode() + PLAIN.replace(b"+80.000", b"&a11;"),
        "document type",
    ),
    "blowup": (
        b'<!DOCTYPE x [<!ENTITY a "%b">]>' % (b"x" * 50_000)
        + PLAIN.replace(b"+80.000", b"&a;" * 500),
        "document type",
    ),
    "file": (
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
        + packet(P1, elements=True).replace(b"+80.000", b"&a;"),
        "document type",
    ),
    "doctype": (b'<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">' + PLAIN, "document type"),
    "huge": (PLAIN + b"<!--%b-->" % (b"x" * MAX_BYTES), "exceeds"),
    "deep": (b"<a>" * 60_000 + PLAIN, "nested too deeply"),
    "cut": (PLAIN[: len(PLAIN) // 2], "damaged"),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_at_once(kind: str) -> None:
    content, words = BOMBS[kind]
    tracemalloc.start()
    started = time.process_time()
    found = read_telemetry(content)
    seconds, memory = time.process_time() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 0.5
    assert memory < 2_000_000
    assert found == Telemetry(faults=found.faults)
    assert len(found.faults) == 1
    assert words in found.faults[0]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_packet_raises(data: st.DataObject) -> None:
    content = bytearray(packet(P1, elements=data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = read_telemetry(bytes(content[: data.draw(st.integers(0, len(content)))]))
    assert found.lat is None or abs(found.lat) <= 90


# --- EXIF -----------------------------------------------------------------------------------------

ORIGINAL, DIGITIZED, OFFSET, OFFSET_ORIGINAL = 0x9003, 0x9004, 0x9010, 0x9011


def taken(folder: Path, camera: dict[int, Any], gps: dict[int, Any] | None = None) -> Any:
    return photo(folder, jpeg(exif(gps=gps, camera=camera))).taken


def test_the_camera_of_a_photo(tmp_path: Path) -> None:
    tags = exif(
        "DJI",
        "FC6310",
        gps_tags(*HERE, t5=b"\x01", t6=IFDRational(1234, 100)),
        {0x920A: IFDRational(88, 10), 0xA405: 24, ORIGINAL: "2024:02:29 23:59:59"},
    )
    (tmp_path / "a.jpg").write_bytes(jpeg(tags, packet(PHANTOM), (300, 200)))
    found = read_exif(tmp_path / "a.jpg")
    assert (found.make, found.model, found.width, found.height) == ("DJI", "FC6310", 300, 200)
    assert (found.focal_mm, found.focal_35mm, found.altitude_m) == (8.8, 24, -12.34)
    assert (found.lat, found.lon) == pytest.approx(HERE, abs=1e-7)
    assert found.xmp == packet(PHANTOM)
    assert found.faults == ()


def test_times(tmp_path: Path) -> None:
    clock = {ORIGINAL: "2024:03:01 00:30:00"}
    assert taken(tmp_path, clock) == datetime(2024, 3, 1, 0, 30, tzinfo=UTC)
    zone = {**clock, OFFSET_ORIGINAL: "+01:00", OFFSET: "-09:00"}
    assert taken(tmp_path, zone) == datetime(2024, 2, 29, 23, 30, tzinfo=UTC)
    assert taken(tmp_path, {**clock, OFFSET: "-09:30"}) == datetime(2024, 3, 1, 10, 0, tzinfo=UTC)
    finer = taken(tmp_path, {**clock, 0x9291: "25"})
    assert finer - datetime(2024, 3, 1, 0, 30, tzinfo=UTC) == timedelta(seconds=0.25)
    assert taken(tmp_path, {DIGITIZED: "2024:03:01 00:30:00"}) is not None
    assert taken(tmp_path, {}) is None
    assert taken(tmp_path, {ORIGINAL: "0000:00:00 00:00:00"}) is None
    assert taken(tmp_path, {ORIGINAL: "    :  :     :  :  "}) is None


def test_the_receivers_time_is_utc_unless_no_zone_explains_it(tmp_path: Path) -> None:
    clock = {ORIGINAL: "2024:03:01 00:30:00"}

    def gps(day: str, hour: int) -> dict[int, Any]:
        time_of_day = tuple(IFDRational(part, 1) for part in (hour, 30, 5))
        return gps_tags(*HERE, t29=day, t7=time_of_day)

    assert taken(tmp_path, clock, gps("2024:02:29", 23)) == datetime(
        2024, 2, 29, 23, 30, 5, tzinfo=UTC
    )
    assert taken(tmp_path, {}, gps("2024:02:29", 23)) is not None
    stale = taken(tmp_path, clock, gps("2024:02:20", 23))
    assert stale == datetime(2024, 3, 1, 0, 30, tzinfo=UTC)
    named = {**clock, OFFSET_ORIGINAL: "+05:45"}
    assert taken(tmp_path, named, gps("2024:02:29", 23)) == datetime(
        2024, 2, 29, 18, 45, tzinfo=UTC
    )


@pytest.mark.parametrize(
    "text", ["2024:13:01 00:00:00", "2024:02:30 00:00:00", "0001:01:01 00:00:00", "yesterday",
             "9999:12:31 23:59:59", "2024:01:01 25:00:00"],
)  # fmt: skip
def test_times_that_are_none(tmp_path: Path, text: str) -> None:
    found = photo(tmp_path, jpeg(exif(camera={ORIGINAL: text, OFFSET_ORIGINAL: "-14:00"})))
    assert found.taken is None
    assert "is none" in found.faults[0]
    for zone in ("+99:00", "Z", "\0"):
        good = {ORIGINAL: "2024:03:01 00:30:00", OFFSET_ORIGINAL: zone}
        assert taken(tmp_path, good) == datetime(2024, 3, 1, 0, 30, tzinfo=UTC)


def test_the_moment_of_exposure_wins(tmp_path: Path) -> None:
    found = photo(tmp_path, jpeg(exif(camera={ORIGINAL: "2021:05:26 17:21:50"}), packet(P1)))
    assert found.taken == datetime(2021, 5, 26, 15, 21, 49, tzinfo=UTC)


# --- which wins -----------------------------------------------------------------------------------


def test_positions(tmp_path: Path) -> None:
    near = exif("DJI", "P1", gps_tags(47.99212, 11.02531))
    found = photo(tmp_path, jpeg(near, packet(P1)))
    assert (found.lat, found.lon, found.faults) == (47.992104811, 11.025301237, ())
    assert photo(tmp_path, jpeg(xmp=packet(PHANTOM))).lon == 151.20958
    far = photo(tmp_path, jpeg(exif("DJI", "P1", gps_tags(48.5, 11.0)), packet(P1)))
    assert (far.lat, far.lon) == pytest.approx((48.5, 11.0), abs=1e-7)
    assert "m off its EXIF position" in far.faults[0]
    no_fix = {**P1, "GpsLatitude": "+0.000000", "GpsLongitude": "+0.000000"}
    assert photo(tmp_path, jpeg(near, packet(no_fix))).lat == pytest.approx(47.99212, abs=1e-7)


PLATFORMS = [
    (jpeg(xmp=packet(PHANTOM)), "ground/a.jpg", Platform.DRONE),
    (jpeg(exif("DJI", "FC7303")), "a.jpg", Platform.DRONE),
    (jpeg(exif("Hasselblad", "L2D-20c")), "a.jpg", Platform.DRONE),
    (jpeg(exif("Hasselblad", "X2D 100C")), "a.jpg", None),
    (jpeg(exif("Autel Robotics", "XT705")), "a.jpg", Platform.DRONE),
    (jpeg(exif("DJI", "Osmo Pocket 3")), "a.jpg", None),
    (jpeg(exif("DJI", "Osmo Action"), packet({"Version": "1.0"})), "drone/a.jpg", Platform.DRONE),
    (jpeg(exif("Apple", "iPhone 15", gps_tags(*HERE))), "a.jpg", Platform.GROUND),
    (jpeg(exif("Apple", "iPhone 15", gps_tags(*HERE))), "drone/a.jpg", Platform.DRONE),
    (jpeg(exif("Apple", "iPhone 15")), "a.jpg", None),
    (jpeg(exif("SONY", "ILCE-7RM4", gps_tags(*HERE))), "a.jpg", None),
    (jpeg(exif("SONY", "ILCE-7RM4", gps_tags(*HERE))), "street_view.jpg", Platform.GROUND),
    (jpeg(), "a.jpg", None),
]


@pytest.mark.parametrize(("content", "name", "platform"), PLATFORMS)
def test_platforms(tmp_path: Path, content: bytes, name: str, platform: Platform | None) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(content)
    assert read_folder(tmp_path).records[0].platform is platform


# --- footprints -----------------------------------------------------------------------------------


def test_a_nadir_photo_shows_its_ground(tmp_path: Path) -> None:
    """80 m up, 8000 px of focal length, 8192 x 5460 px: 81.92 x 54.6 m about the camera."""
    found = photo(tmp_path, jpeg(exif("DJI", "ZenmuseP1"), packet(P1)))
    assert found.footprint is not None
    assert found.footprint.approximate
    (ring,) = found.footprint.rings
    lats, lons = np.array([*ring, ring[0]]).T
    sides = distances_m(lats[:-1], lons[:-1], lats[1:], lons[1:])
    assert sorted(sides) == pytest.approx([54.6, 54.6, 81.92, 81.92], abs=0.01)
    assert found.lat is not None
    assert found.lon is not None
    assert distances_m(*footprint_centre(found.footprint), found.lat, found.lon) < 0.01


def test_the_equivalent_focal_length_is_by_the_diagonal(tmp_path: Path) -> None:
    """24 mm equivalent of a 4:3 picture: 34.61 x 25.96 mm of film, so 71.6° and 56.8°."""
    fields = {**PHANTOM, "GimbalPitchDegree": "-90.00"}
    tags = exif("DJI", "FC6310", camera={0xA405: 24})
    found = photo(tmp_path, jpeg(tags, packet(fields), (400, 300)))
    assert found.footprint is not None
    lats, lons = np.array(found.footprint.rings[0]).T
    sides = distances_m(lats[0], lons[0], lats[1:], lons[1:])
    diagonal = 50 / 24 * math.hypot(36, 24)
    assert sorted(sides) == pytest.approx([0.6 * diagonal, 0.8 * diagonal, diagonal], rel=1e-3)


def test_an_oblique_photo_shows_what_lies_ahead(tmp_path: Path) -> None:
    tags = exif("DJI", "FC6310", camera={0xA405: 24})
    found = photo(tmp_path, jpeg(tags, packet(PHANTOM), (400, 300)))
    assert found.footprint is not None
    lat, lon = footprint_centre(found.footprint)
    assert lat > -33.85997  # its gimbal looks to the north-west
    assert lon < 151.20958


WITHOUT = [
    {name: value for name, value in P1.items() if name != "RelativeAltitude"},
    {name: value for name, value in P1.items() if name != "GimbalPitchDegree"},
    {**P1, "RelativeAltitude": "-2.00"},
    {**P1, "GimbalPitchDegree": "+60.00"},
    {**P1, "CalibratedFocalLength": "0", "CalibratedOpticalCenterX": "0"},
    {**P1, "CalibratedFocalLength": "1", "CalibratedOpticalCenterX": "40000"},
    {**P1, "GpsLatitude": "", "GpsLongitude": ""},
]


@pytest.mark.parametrize("fields", WITHOUT)
def test_without_height_gimbal_lens_or_position_there_is_no_footprint(
    tmp_path: Path, fields: dict[str, str]
) -> None:
    found = photo(tmp_path, jpeg(xmp=packet(fields)))
    assert found.footprint is None
    assert found.platform is Platform.DRONE
    panorama = packet(P1).replace(b'crs:Version="7.0"', b'GPano:ProjectionType="equirectangular"')
    assert photo(tmp_path, jpeg(xmp=panorama)).footprint is None


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_of_photos(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg(exif("DJI", "P1"), packet(P1)))
    (tmp_path / "b.jpg").write_bytes(
        jpeg(exif(gps=gps_tags(*HERE) | {2: dms(95)}), BOMBS["laughs"][0])
    )
    dataset = read_folder(tmp_path)
    first, second = dataset.records
    assert first.platform is Platform.DRONE
    assert first.taken == datetime(2021, 5, 26, 15, 21, 49, tzinfo=UTC)
    assert first.footprint is not None
    assert (second.lat, second.platform) == (None, None)
    assert dataset.skipped == ()
    (note,) = dataset.notes
    assert note.startswith("'b.jpg': its EXIF position 95, 11.0253 is no WGS84 position, its XMP")
    assert "; it is taken without" in note
    seen = inspect(tmp_path)
    assert (seen.with_coordinates, seen.with_footprints, seen.with_times) == (1, 1, 1)
    assert seen.notes == dataset.notes


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_other_formats_carry_packets_too(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind.lower()}"
    options: dict[str, Any] = {"xmp": packet(PHANTOM)} if kind == "WEBP" else {}
    if kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", packet(PHANTOM).decode())
    if kind == "TIFF":
        options["tiffinfo"] = {700: packet(PHANTOM)}
    Image.new("RGB", (20, 20)).save(path, kind, **options)
    assert read_photo(path).lon == 151.20958


def test_a_truncated_header_is_a_note(tmp_path: Path) -> None:
    tags = bytearray(exif("DJI", "P1", gps_tags(*HERE)))
    found = photo(tmp_path, jpeg(bytes(tags[:70])))
    assert found.faults == ("its EXIF is damaged",)
    assert photo(tmp_path, b"no image").faults == ()
    assert photo(tmp_path, b"").faults == ()


# --- the user's word ------------------------------------------------------------------------------


def test_rules_override_platforms() -> None:
    records = [
        Record("flights/1/a.jpg", Path("a"), Platform.GROUND, lat=1.0, lon=2.0),
        Record("walk/b.jpg", Path("b"), Platform.DRONE),
        Record("c.jpg", Path("c")),
    ]

    def by(*texts: str) -> list[Platform | None]:
        rules = [parse_platform_rule(text) for text in texts]
        found = override_platforms(records, rules)
        assert [replace(r, platform=None) for r in found] == [
            replace(r, platform=None) for r in records
        ]
        return [record.platform for record in found]

    drone, ground, satellite = Platform.DRONE, Platform.GROUND, Platform.SATELLITE
    assert by() == [ground, drone, None]
    assert by("Drone") == [drone, drone, drone]
    assert by("drone=flights/*") == [drone, drone, None]
    assert by("satellite", "drone=*.jpg", "ground=walk/*") == [drone, ground, drone]
    assert by("drone=*", "satellite") == [satellite, satellite, satellite]
    with pytest.raises(InputError, match="matches none of 3 images; globs are of paths"):
        by("drone=flight/*")


@pytest.mark.parametrize("text", ["", "boat", "drone=", "=x", "plane=*"])
def test_what_is_no_rule_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no rule; give"):
        parse_platform_rule(text)


def test_extended_packets_without_end_are_not_kept(tmp_path: Path) -> None:
    """400 MB of header, most of it holes: a JPEG may go on with segments for ever."""
    start, rest = jpeg()[:2], jpeg()[2:]
    name = b"http://ns.adobe.com/xmp/extension/\0"
    segment = b"\xff\xe1" + (0xFFFF).to_bytes(2, "big") + name
    with (tmp_path / "a.jpg").open("wb") as file:
        file.write(start)
        for _ in range(6000):
            file.write(segment)
            file.seek(0xFFFF - 2 - len(name), 1)
        file.write(rest)
    tracemalloc.start()
    found = read_photo(tmp_path / "a.jpg")
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert memory < 40_000_000
    assert found.faults == ("its header exceeds 16,000,000 bytes",)
