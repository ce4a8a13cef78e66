"""Malformed images: families of damage, each drawing from one seeded generator."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from zipfile import ZipFile

import PIL.Image

from fuzz.sound import encoded, in_mode, sound_images
from fuzz.tiff import geotiff, lying_tiff

Made = tuple[str, bytes]  # suffix, content
_DAMAGED = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One malformed file: a name that is unique in its run, its family and its bytes."""

    name: str
    family: str
    content: bytes


def malformed_images(seed: int, count: int) -> Iterator[Case]:
    """``count`` files, of every family about equally many."""
    names = sorted(FAMILIES)
    for number in range(count):
        family = names[number % len(names)]
        # Each file has a generator of its own: any one can be made again without the others.
        draw = random.Random(f"{seed}:{number}")
        suffix, content = FAMILIES[family](draw)
        yield Case(f"{number:04}{suffix}", family, content)


def _sound(draw: random.Random) -> Made:
    suffix, content = draw.choice(list(sound_images().values()))
    return suffix if suffix in _DAMAGED else ".png", content  # only known suffixes are read at all


def _sound_or_wrong_suffix(draw: random.Random) -> Made:
    suffix, content = _sound(draw)
    return suffix if draw.random() < 0.5 else draw.choice(_DAMAGED), content


def _truncated(draw: random.Random) -> Made:
    suffix, content = _sound(draw)
    return suffix, content[: draw.randrange(len(content))]


def _bits_flipped(draw: random.Random) -> Made:
    suffix, content = _sound(draw)
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 2, 8, 64))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return suffix, bytes(damaged)


def _head_damaged(draw: random.Random) -> Made:
    """Where the sizes, modes and offsets are."""
    suffix, content = _sound(draw)
    damaged = bytearray(content)
    for _ in range(draw.choice((1, 3, 9))):
        place = draw.randrange(min(64, len(damaged)))
        damaged[place] = draw.choice((0, 1, 127, 128, 254, 255))
    return suffix, bytes(damaged)


def _zeroed(draw: random.Random) -> Made:
    suffix, content = _sound(draw)
    start = draw.randrange(len(content))
    stop = min(len(content), start + draw.choice((1, 16, 400)))
    return suffix, content[:start] + bytes(stop - start) + content[stop:]


def _spliced(draw: random.Random) -> Made:
    (suffix, first), (_, second) = _sound(draw), _sound(draw)
    return suffix, first[: draw.randrange(len(first))] + second[draw.randrange(len(second)) :]


def _grown(draw: random.Random) -> Made:
    """Bytes put in, or a tail of noise, text or another file."""
    suffix, content = _sound(draw)
    place = draw.choice((len(content), draw.randrange(len(content))))
    return suffix, content[:place] + draw.randbytes(draw.choice((1, 8, 3000))) + content[place:]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its right length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *more: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG whose header says what is asked, over ten thousand bytes of black."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return _PNG + chunk(b"IHDR", header) + b"".join(more) + body + chunk(b"IEND", b"")


def _size(draw: random.Random) -> int:
    return draw.choice((0, 1, 7, 33, 3000, 20_000, 65_535, 1 << 20, 2**31 - 1))


def _lying_png(draw: random.Random) -> Made:
    text = chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(draw.choice((10, 8_000_000)))))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(draw.choice((10, 3_000_000)))))
    more = draw.choice(
        (
            (), (text,), (profile,), (chunk(b"tRNS", draw.randbytes(draw.choice((1, 2, 300)))),),
            (chunk(b"PLTE", draw.randbytes(draw.choice((0, 5, 900)))),),
            (chunk(b"eXIf", draw.randbytes(60)),), (chunk(b"acTL", bytes(8)),),
            (chunk(b"IHDR", bytes(13)),), (b"\xff\xff\xff\xf0IDAT",),
        )
    )  # fmt: skip
    depth, colour = draw.choice(((8, 2), (8, 3), (1, 0), (16, 6), (16, 0), (3, 2), (8, 9)))
    sizes = (_size(draw), _size(draw)) if draw.random() < 0.6 else (40, 30)
    return ".png", png(*sizes, *more, depth=depth, colour=colour)


def _lying_jpeg(draw: random.Random) -> Made:
    suffix, content = sound_images()[draw.choice(("JPEG RGB", "JPEG progressive", "JPEG CMYK"))]
    start = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    size = struct.pack(">HH", _size(draw) & 0xFFFF, _size(draw) & 0xFFFF)
    content = content[: start + 5] + size + content[start + 9 :]
    if draw.random() < 0.3:  # the same scans over and over
        scan = content.find(b"\xff\xda")
        content = content[:-2] + content[scan:-2] * draw.choice((2, 30)) + b"\xff\xd9"
    return suffix, content


def _lying_bmp(draw: random.Random) -> Made:
    content = bytearray(sound_images()[draw.choice(("BMP RGB", "BMP P", "BMP 1"))][1])
    width, height = (draw.choice((_size(draw), -_size(draw), 48)) for _ in range(2))
    content[18:26] = struct.pack("<ii", width, height)
    content[28] = draw.choice((0, 1, 4, 8, 16, 24, 32, 99))
    content[30] = draw.choice((0, 1, 2, 3, 4, 9))
    return ".bmp", bytes(content)


def _lying_webp(draw: random.Random) -> Made:
    content = bytearray(sound_images()[draw.choice(("WEBP animated", "WEBP RGBA"))][1])
    place = content.find(b"VP8X") + 12
    content[place : place + 6] = draw.randbytes(6)
    return ".webp", bytes(content)


def _odd_exif(draw: random.Random) -> Made:
    """Orientations that are none, positions that are none, directories that hold themselves."""
    exif = PIL.Image.Exif()
    exif[0x0112] = draw.choice((0, 1, 6, 9, 65535))
    if draw.random() < 0.7:
        parts = draw.choice(
            ((1e9, 0.0, 0.0), (91.0, 0.0, 0.0), (1.0,), (0.0, 0.0, 0.0), (48.0, 99.0, 9.5))
        )
        exif[0x8825] = {1: draw.choice(("N", "X", "")), 2: parts, 3: "E", 4: (11.0, 5.0, 1.0)}
    kind = draw.choice(("JPEG", "PNG", "WEBP", "TIFF"))
    content = bytearray(encoded(in_mode("RGB"), kind, exif=exif.tobytes()))
    start = max(0, content.find(b"II*\0"), content.find(b"MM\0*"))
    for _ in range(draw.choice((0, 1, 4))):
        place = start + 4 + draw.randrange(60)
        content[min(place, len(content) - 1)] = draw.choice((0, 8, 255))
    return f".{kind.lower()}".replace(".jpeg", ".jpg").replace(".tiff", ".tif"), bytes(content)


def _odd_profile(draw: random.Random) -> Made:
    kind = draw.choice(("JPEG", "PNG", "TIFF", "WEBP"))
    profile = draw.randbytes(draw.choice((0, 5, 128, 900_000)))
    content = encoded(in_mode("RGB"), kind, icc_profile=profile)
    return {"JPEG": ".jpg", "PNG": ".png", "TIFF": ".tif", "WEBP": ".webp"}[kind], content


def _archive() -> bytes:
    stream = BytesIO()
    with ZipFile(stream, "w") as archive:
        archive.writestr("a.jpg", sound_images()["JPEG RGB"][1])
    return stream.getvalue()


def _no_image(draw: random.Random) -> Made:
    vrt = (
        '<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1">'
        "<SimpleSource><SourceFilename>/etc/hostname</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    contents = (
        b"", b"\0", b"\0" * 5000, b"\xff\xd8", b"\xff\xd8\xff\xe0", _PNG, b"II*\0", b"MM\0*" * 9,
        b"RIFF\xff\xff\xff\xffWEBP", b"BM" + b"\xff" * 60, b"GIF89a", b"not an image\n" * 40,
        b"<!doctype html><title>404</title>", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n%%EOF\n", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        b"\x7fELF\x02\x01\x01" + bytes(200), b"#!/bin/sh\nexit 1\n", b"SQLite format 3\0" * 9,
        vrt.encode(), _archive(), sound_images()["GIF animated"][1], b"P6 9999999 9999999 255\n",
        b"DDS |\0\0\0" + b"\xff" * 120, b"SIMPLE  =                    T" + b" " * 2880,
        b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60), draw.randbytes(draw.choice((3, 50, 4000))),
    )  # fmt: skip
    return draw.choice(_DAMAGED), draw.choice(contents)


def _georeferenced(draw: random.Random) -> Made:
    return draw.choice((".tif", ".tiff", ".TIF")), geotiff(draw)


def _lying_tiff(draw: random.Random) -> Made:
    return ".tif", lying_tiff(draw)


FAMILIES: dict[str, Callable[[random.Random], Made]] = {
    "sound or wrong suffix": _sound_or_wrong_suffix,
    "truncated": _truncated,
    "bits flipped": _bits_flipped,
    "head damaged": _head_damaged,
    "zeroed": _zeroed,
    "spliced": _spliced,
    "grown": _grown,
    "lying PNG": _lying_png,
    "lying JPEG": _lying_jpeg,
    "lying BMP": _lying_bmp,
    "lying WebP": _lying_webp,
    "lying TIFF": _lying_tiff,
    "GeoTIFF": _georeferenced,
    "odd EXIF": _odd_exif,
    "odd profile": _odd_profile,
    "no image": _no_image,
}
