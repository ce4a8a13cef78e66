"""Safe decoding: every odd mode, every rotation, and nothing but ImageError for what is broken."""

from __future__ import annotations

import os
import random
import resource
import struct
import threading
import time
import tracemalloc
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from fuzz.sound import sound_images
from fuzz.tiff import PLAIN, tiff
from numpy.typing import NDArray

from saywhere.errors import ImageError
from saywhere.images import MAX_PIXELS, contact_sheet, decode_image, read_image


def picture(width: int = 40, height: int = 30) -> NDArray[np.uint8]:
    """A smooth colour picture whose four corners differ."""
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    return np.asarray(np.stack([x * 255, y * 255, (1 - x) * (1 - y) * 255], -1), np.uint8)


def encoded(image: PIL.Image.Image, kind: str, **options: object) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(content: bytes) -> NDArray[np.int64]:
    image = decode_image(content, "x")
    assert image.mode == "RGB"
    return np.asarray(image, np.int64)


def one_line(error: pytest.ExceptionInfo[ImageError], name: str) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"{name}: ")
    assert "; " in message  # cause; remedy
    assert " at 0x" not in message
    return message


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO"])
def test_known_formats_give_the_picture(kind: str) -> None:
    found = pixels(encoded(PIL.Image.fromarray(picture()), kind))
    assert np.abs(found - picture()).mean() < 6


def test_transparency_becomes_grey() -> None:
    rgba = np.dstack([picture(), np.full((30, 40), 255, np.uint8)])
    rgba[:, 20:, 3] = 0
    for mode in ("RGBA", "LA"):
        found = pixels(encoded(PIL.Image.fromarray(rgba).convert(mode), "PNG"))
        assert (found[:, 20:] == 128).all()
        assert found[:, :20].std() > 10


def test_palette_with_transparency_and_colour_key() -> None:
    palette = PIL.Image.new("P", (20, 10), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 10, 10))
    found = pixels(encoded(palette, "PNG", transparency=0))
    assert (found[:, :10] == 128).all()
    assert (found[:, 10:] == (255, 0, 0)).all()
    keyed = PIL.Image.new("RGB", (20, 10), (0, 0, 0))
    keyed.paste((9, 200, 9), (10, 0, 20, 10))
    found = pixels(encoded(keyed, "PNG", transparency=(0, 0, 0)))
    assert (found[:, :10] == 128).all()
    assert (found[:, 10:] == (9, 200, 9)).all()


def test_cmyk_and_one_bit_and_grey() -> None:
    assert np.abs(pixels(encoded(PIL.Image.fromarray(picture()).convert("CMYK"), "JPEG"))
                  - picture()).mean() < 30  # fmt: skip
    bits = PIL.Image.new("1", (20, 10), 1)
    assert (pixels(encoded(bits, "PNG")) == 255).all()
    assert (pixels(encoded(PIL.Image.new("L", (20, 10), 77), "PNG")) == 77).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_is_stretched(kind: str) -> None:
    ramp = np.tile(np.linspace(300, 9000, 64), (8, 1)).astype(np.uint16)
    found = pixels(encoded(PIL.Image.fromarray(ramp), kind))
    assert found.min() == 0
    assert found.max() == 255
    assert (np.diff(found[0, :, 0]) >= 0).all()


def test_float_with_nan_and_infinity() -> None:
    ramp = np.tile(np.linspace(-1, 1, 64), (32, 1)).astype(np.float32)
    ramp[0, :3] = (np.nan, np.inf, -np.inf)
    found = pixels(encoded(PIL.Image.fromarray(ramp), "TIFF"))
    assert found[5, 0, 0] < 10
    assert found[5, -1, 0] > 245
    assert (found[0, 0], found[0, 1], found[0, 2]) == pytest.approx((0, 255, 0), abs=3)
    nothing = np.full((8, 8), np.nan, np.float32)
    assert (pixels(encoded(PIL.Image.fromarray(nothing), "TIFF")) == 0).all()
    flat = np.full((8, 8), 7, np.int32)
    assert pixels(encoded(PIL.Image.fromarray(flat), "TIFF")).std() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_gives_the_upright_picture(kind: str, orientation: int) -> None:
    upright = PIL.Image.fromarray(picture())
    transpose = PIL.Image.Transpose
    undo = {2: transpose.FLIP_LEFT_RIGHT, 3: transpose.ROTATE_180, 4: transpose.FLIP_TOP_BOTTOM,
            5: transpose.TRANSPOSE, 6: transpose.ROTATE_90, 7: transpose.TRANSVERSE,
            8: transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    found = pixels(encoded(stored, kind, exif=exif))
    assert found.shape == (30, 40, 3)
    assert np.abs(found - picture()).mean() < 6


def test_large_images_come_back_smaller_and_upright() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for mode, kind in (("RGB", "PNG"), ("P", "PNG"), ("RGB", "JPEG")):
        image = PIL.Image.fromarray(picture(2600, 2100)).convert(mode)
        found = decode_image(encoded(image, kind, exif=exif), "x")
        assert found.size == (1050, 1300)
    deep = PIL.Image.fromarray(np.zeros((2100, 2600), np.uint16))
    assert decode_image(encoded(deep, "PNG"), "x").size == (1300, 1050)


def test_damaged_exif_does_not_lose_the_picture() -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    content = encoded(PIL.Image.fromarray(picture()), "JPEG", exif=exif)
    start = content.index(b"Exif\0\0") + 6
    broken = content[:start] + b"\xff" * 12 + content[start + 12 :]
    assert pixels(broken).shape == (30, 40, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_refused(kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = encoded(PIL.Image.fromarray(noise), kind)
    with pytest.raises(ImageError) as error:
        decode_image(content[: int(len(content) * share)], "cut.img")
    one_line(error, "cut.img")


def test_files_that_are_no_images(tmp_path: Path) -> None:
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'
    contents = {
        "zero.jpg": b"",
        "text.jpg": b"not an image at all\n" * 20,
        "vector.jpg": svg,
        "paper.jpg": b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n",
        "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "vrt.tif": b"<VRTDataset rasterXSize='9' rasterYSize='9'></VRTDataset>",
        "gif.jpg": encoded(PIL.Image.new("P", (4, 4)), "GIF"),
    }
    for name, content in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError) as error:
            read_image(path)
        message = one_line(error, str(path))
        assert ("is empty" in message) == (name == "zero.jpg")


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere")
    for name in ("folder.jpg", "pipe.jpg", "lost.jpg", "missing.jpg", "x" * 300):
        with pytest.raises(ImageError) as error:
            read_image(tmp_path / name)
        one_line(error, str(tmp_path / name))


def bomb(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10_000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize("edge", [18_000, 100_000])  # over our limit; over Pillow's as well
def test_a_bomb_is_refused_before_decoding(edge: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    started = time.perf_counter()
    with pytest.raises(ImageError) as error:
        decode_image(bomb(edge, edge), "bomb.png")
    elapsed = time.perf_counter() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "exceed the limit" in one_line(error, "bomb.png")
    assert elapsed < 1
    assert peak < 5_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def refusal(content: bytes) -> str:
    with pytest.raises(ImageError) as error:
        decode_image(content, "x")
    return one_line(error, "x")


def test_the_stated_limit_is_the_one_that_holds() -> None:
    """Pillow refuses at twice its MAX_IMAGE_PIXELS, whatever we say."""
    assert PIL.Image.MAX_IMAGE_PIXELS is not None
    assert 2 * PIL.Image.MAX_IMAGE_PIXELS > MAX_PIXELS
    edge = int(MAX_PIXELS**0.5) + 10
    assert f"{edge} x {edge} pixels exceed the limit of 178,000,000" in refusal(bomb(edge, edge))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    """Half a megabyte of scans over 13,000 x 13,000 pixels took a minute."""
    content = sound_images()["JPEG progressive"][1]
    start, scan = content.find(b"\xff\xc2"), content.rfind(b"\xff\xda")
    large = content[: start + 5] + struct.pack(">HH", 13_000, 13_000) + content[start + 9 :]
    started = time.perf_counter()
    assert "510 scans of 13000 x 13000" in refusal(large[:-2] + large[scan:-2] * 500 + b"\xff\xd9")
    assert time.perf_counter() - started < 1
    few = content[:-2] + content[scan:-2] * 50 + b"\xff\xd9"
    assert decode_image(few, "x").size == (48, 32)


def test_a_large_run_length_bmp_is_refused() -> None:
    """Pillow decodes these in Python: an end of line in a row of a hundred million took seconds."""
    content = bytearray(sound_images()["BMP P"][1])
    content[30] = 1
    content[18:26] = struct.pack("<ii", 90_000, 1500)
    started = time.perf_counter()
    assert "90000 x 1500 pixels exceed the limit of 16,000,000" in refusal(bytes(content))
    assert time.perf_counter() - started < 1


def test_a_column_of_a_million_pixels_is_refused() -> None:
    tall = [(257, 4, (1_000_000,)) if tag == 257 else (tag, kind, values)
            for tag, kind, values in PLAIN]  # fmt: skip
    assert "an edge exceeds 100,000" in refusal(tiff(tall))


def test_a_tiff_with_too_few_strips_is_no_whole_image() -> None:
    """Pillow leaves what no strip covers black, and says nothing."""
    tall = [(257, 4, (40,)) if tag == 257 else (tag, kind, values)
            for tag, kind, values in PLAIN]  # fmt: skip
    assert "192 of 640 pixels are there" in refusal(tiff(tall))
    assert decode_image(tiff(PLAIN), "x").size == (16, 12)


def test_damaged_tiffs_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff writes to the file descriptor itself, Pillow's log to it where nobody listens."""
    lzw = bytearray(sound_images()["TIFF lzw"][1])
    start = lzw.find(b"\x80")
    lzw[start + 20 : start + 400] = b"\xff" * 380
    assert "not a whole image" in refusal(bytes(lzw))
    many = [(277, 3, (61_000,)) if tag == 277 else (tag, kind, values)
            for tag, kind, values in PLAIN]  # fmt: skip
    refusal(tiff(many))
    assert capfd.readouterr() == ("", "")


def test_sixteen_bit_rasters_stay_within_a_few_times_their_size() -> None:
    """36 million pixels, 72 MB; float copies of them all would be seven times that."""
    deep = encoded(PIL.Image.fromarray(np.zeros((6000, 6000), np.uint16)), "PNG")
    tracemalloc.start()
    assert decode_image(deep, "x").size == (1200, 1200)
    assert tracemalloc.get_traced_memory()[1] < 60_000_000
    tracemalloc.stop()


def test_a_file_name_cannot_break_the_line() -> None:
    with pytest.raises(ImageError) as error:
        decode_image(b"", "a\nb\x1b[2J\udcff.jpg")
    assert str(error.value).startswith("a\\nb\\x1b[2J\\udcff.jpg: is empty")


def test_the_limit_can_be_lowered() -> None:
    content = encoded(PIL.Image.fromarray(picture()), "PNG")
    assert decode_image(content, "x", max_pixels=1200).size == (40, 30)
    with pytest.raises(ImageError, match="40 x 30 pixels exceed the limit of 1,199"):
        decode_image(content, "x", max_pixels=1199)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_corrupted_files_give_an_image_or_our_error(kind: str) -> None:
    draw = random.Random(f"corrupt {kind}")
    options = {"compression": "tiff_lzw"} if kind == "TIFF" else {}
    sound = encoded(PIL.Image.fromarray(picture(64, 48)), kind, **options)
    outcomes = []
    for _ in range(60):
        content = bytearray(sound)
        for _ in range(draw.choice((1, 3, 10, 40))):
            content[draw.randrange(len(content))] = draw.randrange(256)
        if draw.random() < 0.2:
            del content[draw.randrange(len(content)) :]
        try:
            outcomes.append(decode_image(bytes(content), "x", max_pixels=10**7).mode)
        except ImageError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
            outcomes.append("refused")
    assert set(outcomes) <= {"RGB", "refused"}
    assert "refused" in outcomes


def test_threads_leave_the_warning_filters_as_they_were() -> None:
    content = encoded(PIL.Image.fromarray(picture()), "PNG")
    before = list(warnings.filters)
    threads = [
        threading.Thread(target=lambda: [decode_image(content, "x") for _ in range(30)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_contact_sheet_shows_every_image_over_its_label() -> None:
    colours = ["red", "lime", "blue", "cyan", "magenta", "yellow", "black"]
    images = [PIL.Image.new("RGB", (9, 50), colour) for colour in colours]
    sheet = contact_sheet(images, [f"{n}°" for n in range(7)], columns=3, edge=20)
    assert sheet.size == (3 * 26 + 6, 3 * 42 + 6)
    for index, image in enumerate(images):
        row, column = divmod(index, 3)
        left, top = 6 + 26 * column, 6 + 42 * row
        assert sheet.getpixel((left + 10, top + 10)) == image.getpixel((0, 0))
        label = np.asarray(sheet.crop((left, top + 21, left + 20, top + 38)))
        assert label.min() < 100
    assert (
        contact_sheet(images[:2], ["a", "b"]).width < contact_sheet(images, list("abcdefg")).width
    )
    with pytest.raises(ValueError, match="zip"):
        contact_sheet(images, ["one label"])
