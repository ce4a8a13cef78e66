"""The fifteen common corruptions of images, at five severities.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations, ICLR 2019; computed by the package ``imagecorruptions-imaug``. Their severities are
made for images of 224 pixels, so an image is brought to that size first: a blur of ten pixels would
leave nothing of a small image, and would not be seen on a large one.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from saywhere.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

GROUPS: Mapping[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "occlusion": ("occlusion",),
}
COMMON = tuple(name for group in GROUPS.values() for name in group if name != "occlusion")
SEVERITIES = (1, 2, 3, 4, 5)
_EDGE = 224
_SEEDED = ("glass_blur", "impulse_noise")  # draw from a generator of their own
_HIDDEN = (0.05, 0.1, 0.2, 0.3, 0.4)  # share of the image, by severity
_GREY = 128
_NUMPY_RANDOM = threading.Lock()


def corrupt_image(image: Image, name: str, severity: int, seed: int) -> Image:
    """One corrupted copy, its shorter edge 224 pixels; equal arguments give equal pixels.

    Args:
        image: upright RGB.
        name: one of ``GROUPS``. ``occlusion`` is ours: a grey rectangle over 5, 10, 20, 30 or 40 %
            of the image, wherever it falls, as a wing, a strut or a dead area of the sensor.
        severity: 1 to 5.
        seed: of where and how noise falls, from 0 up to 2^32 - 1.

    Raises:
        InputError: no such corruption or severity.
        MissingExtraError: imagecorruptions-imaug is not installed.
    """
    if severity not in SEVERITIES or name not in (*COMMON, "occlusion"):
        raise InputError(
            f"{name} at severity {severity}: is no corruption; choose from "
            f"{', '.join((*COMMON, 'occlusion'))}, at 1 to 5"
        )
    pixels = np.asarray(_at_size(image))
    if name == "occlusion":
        return _image(_occluded(pixels, _HIDDEN[severity - 1], seed))
    return _image(_common(pixels, name, severity, seed))


def check_installed() -> None:
    """Refuse to begin without the package.

    Raises:
        MissingExtraError: it, or what it needs, is not installed.
    """
    try:
        import imagecorruptions  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "robustness", "robustness", error.name or "imagecorruptions"
        ) from None


def _common(pixels: np.ndarray, name: str, severity: int, seed: int) -> np.ndarray:
    check_installed()
    from imagecorruptions import corrupt

    options = {"seed": seed} if name in _SEEDED else {}
    # The package draws from NumPy's global generator, which is put back as it was.
    with _NUMPY_RANDOM, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its dependencies' deprecations are not ours to cure
        state = np.random.get_state()
        np.random.seed(seed)
        try:
            return np.asarray(corrupt(pixels, severity, name, **options), np.uint8)
        finally:
            np.random.set_state(state)


def _occluded(pixels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A grey rectangle of ``share`` of the area, up to twice as stretched as the image."""
    draw = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    stretch = np.exp(draw.uniform(-np.log(2), np.log(2)) / 2)
    high = min(height, round(height * np.sqrt(share) * stretch))
    wide = min(width, round(width * np.sqrt(share) / stretch))
    top, left = draw.integers(0, height - high + 1), draw.integers(0, width - wide + 1)
    out = pixels.copy()
    out[top : top + high, left : left + wide] = _GREY
    return out


def _at_size(image: Image) -> Image:
    import PIL.Image

    factor = _EDGE / min(image.size)
    width, height = (max(_EDGE, round(edge * factor)) for edge in image.size)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), PIL.Image.Resampling.BICUBIC)


def _image(pixels: np.ndarray) -> Image:
    import PIL.Image

    return PIL.Image.fromarray(pixels)
