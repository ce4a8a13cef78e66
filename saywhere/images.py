"""Safe decoding: any file a user may own becomes an upright RGB image, or one clear error.

Decoders are named (no PostScript, no delegates), pixels are limited before decoding, truncated
files are refused, EXIF rotation is applied, odd modes (palette, alpha, CMYK, 16 bit, float) are
brought to 8-bit RGB.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 400_000_000  # 20,000 x 20,000; larger rasters are tiled, not decoded whole
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "MPO")
_WORKING_EDGE = 1024  # towers see at most a few hundred pixels; large JPEGs decode at a fraction


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image:
    """Decode one image file to upright 8-bit RGB.

    Args:
        path: JPEG, PNG, WebP, BMP or TIFF.
        max_pixels: refuse larger images before their pixels are decoded.

    Raises:
        ImageError: missing, no image, too large, truncated or empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(
            f"{path}: cannot be read ({error.strerror or error}); check the path and its rights"
        ) from None
    return decode_image(content, str(path), max_pixels=max_pixels)


def decode_image(content: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> Image:
    """As ``read_image``, from bytes; ``name`` stands in the error."""
    import PIL.Image
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            # Pillow warns of bombs and of odd EXIF; the limit below is ours, EXIF is best effort.
            warnings.simplefilter("ignore")
            image: Image = PIL.Image.open(BytesIO(content), formats=FORMATS)
            width, height = image.size
            if width * height > max_pixels:
                raise ImageError(
                    f"{name}: {width} x {height} pixels exceed the limit of {max_pixels:,}; "
                    "cut it into tiles or scale it down"
                )
            if image.format in ("JPEG", "MPO"):
                image.draft("RGB", (_WORKING_EDGE, _WORKING_EDGE))
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _to_rgb(upright if upright is not None else image)
    except ImageError:
        raise
    except MemoryError:
        raise ImageError(f"{name}: does not fit into memory; scale it down") from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more
        cause = (str(error).splitlines() or [""])[0][:160] or type(error).__name__
        raise ImageError(
            f"{name}: is not a whole image in a known format ({cause}); export it again"
        ) from None


def _to_rgb(image: Image) -> Image:
    import PIL.Image

    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return PIL.Image.fromarray(_stretch(np.asarray(image, np.float64))).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        # Transparency becomes mid-grey: black would look like water or shadow to a tower.
        rgba = image.convert("RGBA")
        ground = PIL.Image.new("RGBA", rgba.size, (128, 128, 128, 255))
        return PIL.Image.alpha_composite(ground, rgba).convert("RGB")
    return image.convert("RGB")


def _stretch(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Scale the 1st..99th percentile to 0..255: 16-bit and float rasters have no fixed white."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (1, 99))
    scaled = (np.nan_to_num(values, nan=low) - low) / max(float(high - low), 1e-9)
    return np.asarray(np.clip(scaled, 0, 1) * 255, np.uint8)


def contact_sheet(
    images: Sequence[Image], labels: Sequence[str], *, columns: int = 6, edge: int = 160
) -> Image:
    """Images in a grid, each with its label under it, on white; for a person to look at."""
    import PIL.Image
    from PIL import ImageDraw

    caption, gap = 16, 6
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
