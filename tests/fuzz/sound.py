"""Sound images of every format, mode and oddity that users own: what is then damaged."""

from __future__ import annotations

from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

SIZE = (48, 32)
_MODES: dict[str, tuple[str, ...]] = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
}
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp", "BMP": ".bmp"}


def pixels(seed: int = 0) -> NDArray[np.uint8]:
    """(32, 48, 3) uint8: a gradient under noise, so that every format has something to compress."""
    width, height = SIZE
    noise = np.random.default_rng(seed).integers(0, 80, (height, width, 3))
    return np.asarray(noise + np.linspace(0, 170, width)[None, :, None], np.uint8)


def encoded(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of an image file."""
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def in_mode(mode: str) -> PIL.Image.Image:
    """The picture in a Pillow mode."""
    image = PIL.Image.fromarray(pixels())
    if mode == "I;16":
        return PIL.Image.fromarray(np.asarray(image.convert("L"), np.uint16) * 200)
    if mode in ("I", "F"):
        values = np.asarray(image.convert("L"), np.int32 if mode == "I" else np.float32)
        return PIL.Image.fromarray(values - 99)
    return image.convert(mode)


def frames() -> list[PIL.Image.Image]:
    """Three further frames; new ones, because saving leaves its settings in an image."""
    return [PIL.Image.fromarray(pixels(seed)) for seed in range(1, 4)]


def floats(bad: float) -> bytes:
    """A float TIFF of which one row is ``bad``."""
    values = np.asarray(in_mode("F")).copy()
    values[5] = bad
    return encoded(PIL.Image.fromarray(values), "TIFF")


@cache
def sound_images() -> dict[str, tuple[str, bytes]]:
    """By name (suffix, bytes); all of them whole files of their format."""
    found: dict[str, tuple[str, bytes]] = {}
    for kind, modes in _MODES.items():
        for mode in modes:
            found[f"{kind} {mode}"] = SUFFIXES[kind], encoded(in_mode(mode), kind)
    extra: dict[str, tuple[str, bytes]] = {
        "PNG P transparent": (".png", encoded(in_mode("P"), "PNG", transparency=3)),
        "PNG P alpha bytes": (".png", encoded(in_mode("P"), "PNG", transparency=bytes(range(200)))),
        "PNG RGB keyed": (".png", encoded(in_mode("RGB"), "PNG", transparency=(9, 9, 9))),
        "PNG animated": (
            ".png",
            encoded(in_mode("RGB"), "PNG", save_all=True, append_images=frames()),
        ),
        "WEBP animated": (
            ".webp",
            encoded(in_mode("RGB"), "WEBP", save_all=True, append_images=frames()),
        ),
        "WEBP lossless": (".webp", encoded(in_mode("RGB"), "WEBP", lossless=True)),
        "GIF animated": (
            ".gif",
            encoded(in_mode("P"), "GIF", save_all=True, append_images=frames()),
        ),
        "JPEG progressive": (".jpg", encoded(in_mode("RGB"), "JPEG", progressive=True)),
        "JPEG 4:4:4": (".jpg", encoded(in_mode("RGB"), "JPEG", subsampling=0)),
        "MPO": (".jpg", encoded(in_mode("RGB"), "MPO", save_all=True, append_images=frames())),
        "TIFF lzw": (".tif", encoded(in_mode("RGB"), "TIFF", compression="tiff_lzw")),
        "TIFF deflate": (".tif", encoded(in_mode("RGB"), "TIFF", compression="tiff_adobe_deflate")),
        "TIFF jpeg": (".tif", encoded(in_mode("RGB"), "TIFF", compression="jpeg")),
        "TIFF g4": (".tif", encoded(in_mode("1"), "TIFF", compression="group4")),
        "TIFF pages": (
            ".tif",
            encoded(in_mode("RGB"), "TIFF", save_all=True, append_images=frames()),
        ),
        "TIFF big": (".tif", encoded(in_mode("RGB"), "TIFF", big_tiff=True)),
        "TIFF F nan": (".tif", floats(np.nan)),
        "TIFF F inf": (".tif", floats(np.inf)),
        "one pixel": (".png", encoded(PIL.Image.new("RGB", (1, 1)), "PNG")),
        "one row": (".jpg", encoded(PIL.Image.new("L", (4000, 1), 9), "JPEG")),
        "one column": (".png", encoded(PIL.Image.new("L", (1, 4000), 9), "PNG")),
    }
    return found | extra
