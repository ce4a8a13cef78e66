"""Malformed imagery of one's own: photos whose metadata lies, rasters, tables and catalogues."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from drone_photos import P1, PHANTOM, exif, gps_tags, packet
from PIL.TiffImagePlugin import IFDRational

from fuzz.datasets import NAMES, ODD_VALUES, PLACES, Family, damaged
from fuzz.sound import encoded, in_mode
from fuzz.tiff import PLAIN, geotiff, lying_tiff, tiff

_ODD_TEXTS = (
    "nan",
    "+inf",
    "1e999",
    "",
    "x",
    "+-3",
    "٣",
    "9" * 40,
    "95.1",
    "<",
    "&#0;",
    "\x01",
    "'",
)
_ODD_NUMBERS = (0.0, -0.0, float("nan"), float("inf"), 1e308, -1.0, 91.0, 181.0, 1e9)


@dataclass(frozen=True, slots=True)
class Photo:
    """A file for a folder of photos.

    Attributes:
        told: whether it must be left out or noted: nothing about it can be as it should.
    """

    name: str
    family: str
    content: bytes
    told: bool


def malformed_photos(seed: int, count: int) -> Iterator[Photo]:
    """``count`` photos and rasters, the families by turns."""
    names = sorted(PHOTOS)
    for number in range(count):
        family = names[number % len(names)]
        suffix, content, told = PHOTOS[family](random.Random(f"{seed}:{number}"))
        yield Photo(f"{number:03}{suffix}", family, content, told)


Made = tuple[str, bytes, bool]  # suffix, content, told


def _jpeg(tags: bytes = b"", xmp: bytes = b"") -> bytes:
    return encoded(in_mode("RGB"), "JPEG", exif=tags, xmp=xmp)


def _truncated_exif(draw: random.Random) -> Made:
    whole = exif("DJI", "FC6310", gps_tags(48, 11), {0x9003: "2024:03:01 00:30:00", 0xA405: 24})
    kind, suffix = draw.choice((("JPEG", ".jpg"), ("PNG", ".png"), ("WEBP", ".webp")))
    cut = whole[: draw.randrange(8, len(whole) - 1)]
    return suffix, encoded(in_mode("RGB"), kind, exif=cut), False


def _lying_exif(draw: random.Random) -> Made:
    """A position that is none, and whatever else."""
    gps = gps_tags(48, 11)
    zero = IFDRational(0, 1)
    wrong = draw.choice((91, 181, 10**9))
    parts = draw.choice(
        (
            (IFDRational(wrong, 1), zero, IFDRational(draw.choice((0, 1)), 1)),
            (IFDRational(wrong, 1),),
            (IFDRational(1, 0), zero, zero),
            (IFDRational(0, 0), zero, zero),
        )
    )
    gps[2 if wrong == 91 else draw.choice((2, 4))] = parts
    if draw.random() < 0.3:
        gps[draw.choice((1, 3))] = draw.choice(("X", "", "\x01"))
    gps |= {6: IFDRational(1, draw.choice((0, 1))), 29: draw.choice(("2024:99:99", "x", ""))}
    gps[7] = tuple(IFDRational(draw.choice((0, 24, 99)), draw.choice((0, 1))) for _ in range(3))
    times = ("2024:13:01 00:00:00", "\0", "0000:00:00 00:00:00", "9999:12:31 23:59:59", "x" * 500)
    camera: dict[int, Any] = {0x9003: draw.choice(times), 0xA405: draw.choice((0, 1, 65535))}
    camera[0x9011] = draw.choice(("+99:99", "Z", "-14:00", "\xff"))
    return ".jpg", _jpeg(exif("DJI", "FC\x01", gps, camera)), True


def _flipped_exif(draw: random.Random) -> Made:
    content = bytearray(_jpeg(exif("Apple", "iPhone", gps_tags(-33, 151), {0xA405: 24})))
    start = content.find(b"Exif\0\0") + 6
    for _ in range(draw.choice((1, 2, 8))):
        content[start + draw.randrange(150)] = draw.choice((0, 1, 255, draw.randrange(256)))
    return ".jpg", bytes(content), False


def _bomb(draw: random.Random) -> Made:
    plain, value = packet(P1, elements=draw.random() < 0.5), b"+80.000"
    depth, width = draw.randint(3, 12), draw.randint(2, 30)
    entities = '<!ENTITY a0 "lol">' + "".join(
        f'<!ENTITY a{n} "{f"&a{n - 1};" * width}">' for n in range(1, depth + 1)
    )
    last = f"&a{depth};".encode()
    head = draw.choice(
        (
            f"<!DOCTYPE x [{entities}]>".encode(),
            b'<!DOCTYPE x [<!ENTITY %b "%b">]>' % (last[1:-1], b"x" * draw.randint(1, 40_000)),
            b'<!DOCTYPE x [<!ENTITY %b SYSTEM "file:///dev/zero">]>' % last[1:-1],
            b'<!DOCTYPE x [<!ENTITY %% p SYSTEM "http://127.0.0.1:9/"> %p;]>',
            b'<!DOCTYPE x SYSTEM "x.dtd">',
        )
    )
    made = draw.choice(
        (
            head + plain.replace(value, last),
            head + plain.replace(value, last * draw.randint(1, 300)),
            b"<a>" * draw.randint(500, 15_000) + plain,
            plain.replace(b"?>\n", b"?>\n" + head, 1).replace(value, last),
        )
    )
    return ".jpg", _jpeg(xmp=made[:65_000]), True


def _lying_xmp(draw: random.Random) -> Made:
    fields = dict(draw.choice((P1, PHANTOM)))
    for name in draw.sample(sorted(fields), draw.randint(1, 12)):
        fields[name] = draw.choice(_ODD_TEXTS)
    made = packet(fields, elements=draw.random() < 0.5)
    made = draw.choice(
        (made, made, made[: draw.randrange(len(made))], made.decode().encode("utf-16"),
         made + made, made.replace(b'="', b"=", 1), made.replace(b"</", b"<", 1), b"\0" * 9 + made)
    )  # fmt: skip
    return ".jpg", _jpeg(exif("DJI", "P1", gps_tags(48, 11)), made), False


def _georeference(draw: random.Random) -> Made:
    return ".tif", draw.choice((geotiff, geotiff, lying_tiff))(draw), False


def _without_crs(draw: random.Random) -> Made:
    """Where a rotated, sheared or sound geotransform lies, nothing says."""
    turned = [draw.uniform(-2, 2) for _ in range(16)]
    entry = (34264, 12, [*turned[:12], 0.0, 0.0, 0.0, 1.0])
    return ".tif", tiff([*PLAIN, entry]), True


def _vrt(draw: random.Random) -> Made:
    source = draw.choice(("/etc/passwd", "000.jpg", "/vsicurl/http://127.0.0.1:9/x", "self.tif"))
    text = (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{source}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    return ".tif", text.encode(), True


def _zero_size(draw: random.Random) -> Made:
    if draw.random() < 0.3:
        return draw.choice((".jpg", ".tif", ".png")), b"", True
    if draw.random() < 0.5:
        return ".jpg", _no_height(), True
    zero = draw.choice(((256,), (257,), (256, 257)))
    entries = [(tag, kind, (0,) if tag in zero else values) for tag, kind, values in PLAIN]
    return ".tif", tiff(entries), True


def _no_height() -> bytes:
    content = bytearray(_jpeg())
    place = content.find(b"\xff\xc0") + 5
    content[place : place + 4] = b"\0" * 4
    return bytes(content)


PHOTOS: dict[str, Callable[[random.Random], Made]] = {
    "EXIF truncated": _truncated_exif,
    "EXIF lying": _lying_exif,
    "EXIF flipped": _flipped_exif,
    "XMP bomb": _bomb,
    "XMP lying": _lying_xmp,
    "GeoTIFF odd": _georeference,
    "GeoTIFF without CRS": _without_crs,
    "VRT named .tif": _vrt,
    "no pixels": _zero_size,
}


# --- tables and catalogues ------------------------------------------------------------------------


def _image(draw: random.Random) -> str:
    return f"{draw.choice(PLACES)}/{draw.choice(NAMES)}"


_GEOMETRIES: tuple[Any, ...] = (
    None, {"type": "Point", "coordinates": [11, 48]}, {"type": "Point", "coordinates": [11]},
    {"type": "Point", "coordinates": [48, 111]}, {"type": "Point", "coordinates": ["a", None]},
    {"type": "Polygon", "coordinates": [[[1, 1], [2, 1], [2, 2], [1, 1]]]},
    {"type": "Polygon", "coordinates": [[[1, 1], [1, 1]]]}, {"type": "Polygon"}, {}, [], "POINT",
    {"type": "Polygon", "coordinates": [[[179, 1], [-179, 1], [-179, 2], [179, 2], [179, 1]]]},
    {"type": "Polygon", "coordinates": [[[1e999, 1], [2, 1], [2, 2]]]},
    {"type": "MultiPolygon", "coordinates": [[[[1, 1], [2, 1], [2, 2]]]] * 3},
    {"type": "GeometryCollection", "geometries": []},
)  # fmt: skip


def _spoilt(draw: random.Random, value: Any) -> Any:
    """An odd value somewhere within, or none."""
    for _ in range(draw.choice((0, 1, 1, 3))):
        here = value
        while isinstance(here, dict | list) and here:
            key = draw.choice(sorted(here) if isinstance(here, dict) else range(len(here)))
            if not isinstance(here[key], dict | list) or not here[key] or draw.random() < 0.2:
                here[key] = copy.deepcopy(draw.choice(ODD_VALUES))
                break
            here = here[key]
    return value


def _json(draw: random.Random, value: Any) -> bytes:
    own: tuple[Callable[[str], str], ...] = (
        lambda t: t.replace("11", "NaN", 1),
        lambda t: t.replace("Infinity", "1e999"),
        lambda t: '{"features":' * 50_000 + t,
        lambda t: t.replace("FeatureCollection", "Feature"),
        lambda t: t.replace('"type"', '"type": 1, "typ"', 1),
        lambda t: t.replace("11", "9" * 5000, 1),
    )
    text = json.dumps(value, ensure_ascii=draw.random() < 0.5).replace("Infinity", "1e999")
    if draw.random() < 0.5:  # else next to no entry would ever be looked at
        return text.encode("utf-8", "surrogatepass")
    return damaged(draw, text, own)


def _mostly(draw: random.Random, sound: Any, odd: Sequence[Any]) -> Any:
    return copy.deepcopy(sound if draw.random() < 0.8 else draw.choice(odd))


def _geojson(draw: random.Random) -> tuple[dict[str, bytes], str]:
    features = [
        {"type": "Feature", "geometry": _mostly(draw, _GEOMETRIES[1], _GEOMETRIES),
         "properties": {draw.choice(("image", "path", "href")): _image(draw), "caption": "a hall",
                        "taken": _mostly(draw, "2024-01-01", ("soon", None, 7))}}
        for _ in range(6)
    ]  # fmt: skip
    value = _spoilt(draw, {"type": "FeatureCollection", "features": features})
    return {"own.geojson": _json(draw, value)}, "own.geojson"


def _parquet(draw: random.Random) -> tuple[dict[str, bytes], str]:
    odd_names = ("../x.jpg", "/etc/passwd", "", "gone.jpg")
    names = [_mostly(draw, _image(draw), odd_names) for _ in range(8)]
    columns: dict[str, Any] = {
        "image": names,
        "lat": [_mostly(draw, 48.0, _ODD_NUMBERS) for _ in names],
        "lon": [_mostly(draw, 11.0, _ODD_NUMBERS) for _ in names],
        "platform": [_mostly(draw, "drone", (None, "boat")) for _ in names],
        "caption": [draw.choice((["a"], [], None, ["a", None], ["\0"])) for _ in names],
    }
    odd: dict[str, Any] = {
        "lat": [{"a": 1}] * 8, "taken": [2**62] * 8, "caption": [b"\xff"] * 8, "image": [7] * 8,
        "place_id": [True] * 8, "lon": ["11,5"] * 8, "Image": names, "latitude": [1.0] * 8,
        "geometry": [b"\1"] * 8,
    }  # fmt: skip
    for name in draw.sample(sorted(odd), draw.choice((0, 0, 0, 1))):
        columns[name] = odd[name]
    if "taken" in columns:
        unit = draw.choice(("us", "ns"))
        columns["taken"] = pa.array(
            columns["taken"], pa.timestamp(unit, draw.choice((None, "UTC")))
        )
    geo = draw.choice((*[None] * 6, b"{", b"{}", b'{"primary_column": "geometry", "columns": {}}'))
    table = pa.table(columns).replace_schema_metadata({"geo": geo} if geo else None)
    stream = io.BytesIO()
    pq.write_table(table, stream)
    content = bytearray(stream.getvalue())
    for _ in range(draw.choice((0, 0, 0, 1, 20))):
        content[draw.randrange(len(content))] = draw.randrange(256)
    whole = bytes(content)
    cut = draw.randrange(len(whole))
    return {"own.parquet": draw.choice((*[whole] * 6, whole[:cut], whole[cut:]))}, ("own.parquet")


_HREFS = (
    "../secret.jpg", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:9/a.jpg",
    "https://example.com/?sig=SECRET", "s3://a/b.tif", "loop.jpg", "%2e%2e/x.jpg", "\0", "http://[",
    "a" * 9000, "loop/loop/loop/images/0001/satellite.jpg",
)  # fmt: skip


def _item(draw: random.Random, number: int) -> dict[str, Any]:
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"item-{number}",
        "geometry": _mostly(draw, _GEOMETRIES[5], _GEOMETRIES), "links": [],
        "properties": {"datetime": _mostly(draw, "2024-01-01T00:00:00Z", (None, "soon", 7))},
        "assets": {
            key: {"href": _mostly(draw, f"images/{_image(draw)}", _HREFS),
                  "type": _mostly(draw, "image/jpeg", ("image/jp2", 7)),
                  "roles": draw.choice((["data"], ["thumbnail"], "data", None))}
            for key in ("visual", "B02")
        },
    }  # fmt: skip


def _stac(draw: random.Random) -> tuple[dict[str, bytes], str]:
    items = [_item(draw, number % 5) for number in range(6)]
    value = _spoilt(draw, {"type": "FeatureCollection", "features": items})
    return {"items.json": _json(draw, value)}, "items.json"


def _catalogue(draw: random.Random) -> tuple[dict[str, bytes], str]:
    head = {"type": "Catalog", "stac_version": "1.0.0", "id": "c", "links": []}
    files = {"catalog.json": json.dumps(head).encode()}
    for number in range(4):
        item = _item(draw, number)
        item["assets"]["visual"] = {"href": f"../images/{_image(draw)}", "type": "image/jpeg"}
        files[f"i{number}/item.json"] = _json(draw, _spoilt(draw, item))
    return files, "."


TABLES: dict[str, Family] = {
    "geojson": _geojson,
    "parquet": _parquet,
    "stac items": _stac,
    "stac catalogue": _catalogue,
}
