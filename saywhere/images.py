"""Safe decoding: any file a user may own becomes an upright RGB image, or one clear error.

Decoders are named (no PostScript, no delegates), pixels are limited before decoding, truncated
files are refused, EXIF rotation is applied, odd modes (palette, alpha, CMYK, 16 bit, float) are
brought to 8-bit RGB. Images far larger than any tower sees come back scaled down.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 178_000_000  # 13,300 x 13,300; below Pillow's own hard limit, so that ours speaks
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")  # MPO comes with JPEG
_WORKING_EDGE = 1024  # towers see at most a few hundred pixels; larger images are held smaller
_MAX_BYTES = 4 * MAX_PIXELS + (1 << 20)  # four bytes a pixel uncompressed, and some metadata
_MAX_EDGE = 100_000  # pixels; a line of a hundred million is a damaged header
_MAX_SCANNED = 20 * MAX_PIXELS  # every scan of a JPEG goes through all of its pixels
_MAX_RUN_LENGTH = 16_000_000  # pixels; Pillow decodes these BMP in Python, one by one
_BLOCK_PIXELS = 1 << 22
BACKDROP = (128, 128, 128)  # where nothing is seen
_NOT_REDUCIBLE = ("1", "P", "PA")  # Pillow has no box filter for them


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode one image file to upright 8-bit RGB.

    Args:
        path: JPEG, PNG, WebP, BMP or TIFF.
        max_pixels: refuse larger images before their pixels are decoded.

    Returns:
        the whole image; where both edges reach 2048 pixels, scaled down by a whole number that
        leaves at least 1024.

    Raises:
        ImageError: missing, no image, too large, truncated or empty.
    """
    return decode_image(read_content(path), str(path), max_pixels=max_pixels)


def read_content(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        ImageError: missing, unreadable, no regular file, or longer than any image that is decoded.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a device would never end
            raise ImageError(f"{path}: is a folder or device, not an image file; name a file")
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ImageError(
                f"{path}: {size:,} bytes exceed the limit of {_MAX_BYTES:,}; "
                "cut it into tiles or compress it"
            )
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def unreadable(path: Path, error: OSError) -> ImageError:
    """The error for a file that the system refuses to open or read."""
    return ImageError(
        f"{path}: cannot be read ({error.strerror or error}); check the path and its rights"
    )


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """As ``read_image``, from bytes; ``name`` stands in the error."""
    import PIL.Image

    if not content:
        raise ImageError(f"{name}: is empty (0 bytes); fetch or export it again")
    try:
        with _pillow_silenced():
            return _decode(content, name, max_pixels)
    except ImageError:
        raise
    except PIL.UnidentifiedImageError:
        raise ImageError(
            f"{name}: is no image in a known format; use JPEG, PNG, WebP, BMP or TIFF"
        ) from None
    except PIL.Image.DecompressionBombError:
        raise _too_large(name, "its", max_pixels) from None
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; scale it down") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        cause = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise ImageError(f"{name}: is not a whole image ({cause}); export it again") from None


def _decode(content: bytes, name: str, max_pixels: int) -> Image:
    import PIL.Image
    from PIL import _imaging

    silence(_imaging)
    image: Image = PIL.Image.open(BytesIO(content), formats=FORMATS)
    _check_cost(image, content, name, max_pixels)
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (_WORKING_EDGE, _WORKING_EDGE))
    image.load()
    # Before and after: Pillow reduces most modes, and those it can't once they are RGB.
    return _reduced(_to_rgb(_upright(_reduced(image))))


def _check_cost(image: Image, content: bytes, name: str, max_pixels: int) -> None:
    """Refuse what would take too much time or memory, or leave pixels unsaid, by the header."""
    width, height = image.size
    run_length = image.format == "BMP" and image.info.get("compression") in (1, 2)
    limit = min(max_pixels, _MAX_RUN_LENGTH) if run_length else max_pixels
    if width * height > limit:
        raise _too_large(name, f"{width} x {height}", limit)
    if max(width, height) > _MAX_EDGE:
        raise ImageError(
            f"{name}: {width} x {height} pixels: an edge exceeds {_MAX_EDGE:,}; cut it into tiles"
        )
    # A scan begins with these bytes, and they can't stand within one.
    scans = content.count(b"\xff\xda") if image.format in ("JPEG", "MPO") else 0
    if scans > 1 and scans * width * height > _MAX_SCANNED:
        raise ImageError(f"{name}: {scans:,} scans of {width} x {height} pixels; save it again")
    tiles = getattr(image, "tile", None) if image.format == "TIFF" else None
    boxes = [box for _, box, *_ in tiles or ()]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if boxes and covered < width * height:  # Pillow would leave the rest black
        raise ImageError(
            f"{name}: is not a whole image ({covered:,} of {width * height:,} pixels are there); "
            "export it again"
        )


def _too_large(name: str, pixels: str, limit: int) -> ImageError:
    return ImageError(
        f"{name}: {pixels} pixels exceed the limit of {limit:,}; cut it into tiles or scale it down"
    )


def _reduced(image: Image) -> Image:
    factor = min(image.size) // _WORKING_EDGE
    if factor < 2 or image.mode in _NOT_REDUCIBLE:
        return image
    exif, info = image.getexif(), image.info
    # No box filter for 16 bit either, but for the 32 it fits into.
    wide = image.convert("I") if image.mode.startswith("I;16") else image
    smaller = wide.reduce(factor)
    smaller.info = info
    smaller.getexif().update(exif)
    return smaller


def _upright(image: Image) -> Image:
    from PIL import ImageOps

    # A damaged EXIF block says nothing about the pixels, which are whole.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)  # else it copies, though nothing turns
    return image


def _to_rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode.startswith("I") or image.mode == "F":
        return PIL.Image.fromarray(_stretch(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        # Transparency becomes mid-grey: black would look like water or shadow to a tower.
        rgba = image.convert("RGBA")
        ground = PIL.Image.new("RGB", rgba.size, BACKDROP)
        ground.paste(rgba, mask=rgba)
        return ground
    return image if image.mode == "RGB" else image.convert("RGB")


def _stretch(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Scale the 1st..99th percentile to 0..255: 16-bit and float rasters have no fixed white."""
    sample = values.ravel()[:: 1 + values.size // 10**7].astype(np.float32)
    finite = sample[np.isfinite(sample)]
    out = np.zeros(values.shape, np.uint8)
    if finite.size == 0:
        return out
    low, high = (float(edge) for edge in np.percentile(finite, (1, 99)))
    step = 1 + _BLOCK_PIXELS // values.shape[1]
    for start in range(0, len(values), step):  # in blocks: float copies of it all are gigabytes
        block = values[start : start + step].astype(np.float32)
        block = np.clip(np.nan_to_num(block, nan=low), low, high)
        out[start : start + step] = (block - low) * (255 / max(high - low, 1e-9))
    return out


@cache
def silence(module: ModuleType) -> None:
    """Once for the process: keep a decoder's log and its libtiff from writing to stderr.

    The errors they raise say as much. An application's own logging still gets the records.

    Args:
        module: a compiled module of the decoder's package, linked to its libtiff.
    """
    import ctypes

    # Without any handler, Python writes warnings and errors to stderr.
    logging.getLogger(module.__name__.partition(".")[0]).addHandler(logging.NullHandler())
    # libtiff writes there itself. Looked up through what links it: the library's own name has a
    # hash in the wheels.
    libraries = ctypes.CDLL(module.__file__)
    for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
        with suppress(AttributeError):  # linked statically, or without libtiff
            getattr(libraries, name)(None)


class _Silence:
    """How many threads are decoding; the first silences Pillow's warnings, the last restores."""

    lock = threading.Lock()
    depth = 0
    saved = warnings.catch_warnings()


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Silence Pillow, which warns of large images and of odd EXIF: the limit is ours, EXIF a hint.

    ``catch_warnings`` alone is not safe where several threads decode: they would restore each
    other's filters in the wrong order and leave the process silent for good.
    """
    with _Silence.lock:
        if _Silence.depth == 0:
            _Silence.saved = warnings.catch_warnings()
            _Silence.saved.__enter__()
            warnings.simplefilter("ignore")
        _Silence.depth += 1
    try:
        yield
    finally:
        with _Silence.lock:
            _Silence.depth -= 1
            if _Silence.depth == 0:
                _Silence.saved.__exit__(None, None, None)


def contact_sheet(
    images: Sequence[Image], labels: Sequence[str], *, columns: int = 6, edge: int = 160
) -> Image:
    """Images in a grid, each squashed to ``edge`` pixels over its label, on white; to look at."""
    import PIL.Image
    from PIL import ImageDraw

    caption, gap = 16, 6
    columns = max(1, min(columns, len(images)))
    rows = -(-len(images) // columns)
    sheet = PIL.Image.new(
        "RGB",
        (columns * (edge + gap) + gap, rows * (edge + caption + gap) + gap),
        "white",
    )
    draw = ImageDraw.Draw(sheet)
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        row, column = divmod(index, columns)
        left, top = gap + column * (edge + gap), gap + row * (edge + caption + gap)
        sheet.paste(image.resize((edge, edge)), (left, top))
        draw.text((left + 2, top + edge + 2), label, fill="black")
    return sheet
