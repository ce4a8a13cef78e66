"""What spoils an image on its way: noise, blur, weather, compression, cover. For training views.

A dozen plain pictures of what cameras, air and radio links do, in NumPy and Pillow. They are kept
apart from the corruptions that ``robustness`` tests with: other code, other numbers, so that a test
with those is no repetition of the training, though the kinds are of course alike.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_Pixels = NDArray[np.floating[Any]]  # (height, width, 3), 0 to 1
_REFERENCE = 224


@dataclass(frozen=True, slots=True)
class Degradation:
    """One spoiling of an image; a value, as views are.

    Attributes:
        kind: one of ``KINDS``.
        strength: 0 (just visible) to 1 (much is lost), kept to four significant digits.
        seed: of where noise, streaks and cover fall.

    Raises:
        InputError: no such kind or strength.
    """

    kind: str
    strength: float
    seed: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS or not 0 <= self.strength <= 1:
            raise InputError(
                f"{self.kind} of strength {self.strength}: is no degradation; choose from "
                f"{', '.join(KINDS)}, from 0 to 1"
            )
        object.__setattr__(self, "strength", float(f"{self.strength:.4g}") + 0.0)

    @property
    def key(self) -> str:
        """Equal keys, equal degradations; part of the names of cached features."""
        return f"{self.kind}:{self.strength:.4g}:{self.seed}"


@dataclass(frozen=True, slots=True)
class _Case:
    """What one kind is given.

    Attributes:
        unit: how many pixels one of an edge of 224 is: lengths below are meant for that.
    """

    pixels: _Pixels
    strength: float
    draw: np.random.Generator
    unit: float


def degrade(image: Image, degradation: Degradation, edge: int) -> Image:
    """A spoiled copy, its shorter edge ``edge`` pixels; equal arguments give equal pixels.

    Args:
        image: upright RGB of any size. It is brought to size first: a blur of four pixels would not
            be seen on a large image.
    """
    import PIL.Image

    factor = edge / min(image.size)
    width, height = (max(edge, round(length * factor)) for length in image.size)
    sized = image.resize((width, height), PIL.Image.Resampling.BICUBIC, reducing_gap=2.0)
    draw = np.random.default_rng(degradation.seed)
    pixels = np.asarray(sized, np.float32) / 255
    case = _Case(pixels, degradation.strength, draw, edge / _REFERENCE)
    return _image(KINDS[degradation.kind](case))


def _image(pixels: NDArray[Any]) -> Image:
    import PIL.Image

    return PIL.Image.fromarray((pixels.clip(0, 1) * 255).round().astype(np.uint8))


def _filtered(pixels: NDArray[Any], name: str, radius: float) -> _Pixels:
    """Through Pillow's ``GaussianBlur`` or ``BoxBlur``."""
    from PIL import ImageFilter

    return np.asarray(_image(pixels).filter(getattr(ImageFilter, name)(radius)), np.float32) / 255


def _spread(plane: _Pixels, height: int, width: int) -> _Pixels:
    """A coarse (rows, columns) plane, smoothly enlarged: (height, width)."""
    import PIL.Image

    how = PIL.Image.Resampling.BICUBIC
    return np.asarray(PIL.Image.fromarray(plane).resize((width, height), how), np.float32)


def _noise(case: _Case) -> _Pixels:
    """Gaussian, in colours or grey; half of the time as of photons, more where it is bright."""
    planes = 1 if case.draw.random() < 0.3 else 3
    by_light = case.draw.random() < 0.5
    noise = case.draw.standard_normal((*case.pixels.shape[:2], planes), np.float32)
    noise *= 0.04 + 0.3 * case.strength
    return case.pixels + (noise * np.sqrt(case.pixels.clip(0.02, 1)) * 1.6 if by_light else noise)


def _specks(case: _Case) -> _Pixels:
    """Pixels, or single colours of them, that are dead or saturated."""
    planes = 3 if case.draw.random() < 0.5 else 1
    hit = case.draw.random((*case.pixels.shape[:2], planes)) < 0.01 + 0.2 * case.strength
    return np.where(hit, case.draw.integers(2, size=case.pixels.shape), case.pixels)


def _blur(case: _Case) -> _Pixels:
    """Out of focus."""
    if case.draw.random() < 0.5:
        return _filtered(case.pixels, "GaussianBlur", (0.8 + 4 * case.strength) * case.unit)
    return _filtered(case.pixels, "BoxBlur", (1 + 5 * case.strength) * case.unit)


def _motion(case: _Case) -> _Pixels:
    """Smeared along a line of any direction."""
    length = (3 + 20 * case.strength) * case.unit
    return _smeared(case.pixels, length, case.draw.uniform(0, math.pi))


def _smeared(pixels: _Pixels, length: float, angle: float) -> _Pixels:
    """The mean along a line of ``length`` pixels; beyond the border is its reflection."""
    count = min(max(3, round(length)), *pixels.shape[:2])
    padded = np.pad(pixels, ((count, count), (count, count), (0, 0)), mode="symmetric")
    height, width = pixels.shape[:2]
    total = np.zeros_like(pixels)
    for step in np.linspace(-count / 2, count / 2, count):
        down = count + round(step * math.sin(angle))
        right = count + round(step * math.cos(angle))
        total += padded[down : down + height, right : right + width]
    return total / np.float32(count)


def _coarse(case: _Case) -> _Pixels:
    """Fewer pixels, brought back to size smoothly or as blocks."""
    import PIL.Image

    how = PIL.Image.Resampling
    down = (how.BOX, how.BILINEAR)[case.draw.integers(2)]
    up = (how.NEAREST, how.BILINEAR)[case.draw.integers(2)]
    image, factor = _image(case.pixels), (1.5 + 5 * case.strength) * case.unit
    small = max(1, round(image.width / factor)), max(1, round(image.height / factor))
    return np.asarray(image.resize(small, down).resize(image.size, up), np.float32) / 255


def _jpeg(case: _Case) -> _Pixels:
    """Compressed hard, as links of little bandwidth do."""
    import PIL.Image

    held = io.BytesIO()
    _image(case.pixels).save(held, "JPEG", quality=round(40 - 34 * case.strength))
    return np.asarray(PIL.Image.open(held).convert("RGB"), np.float32) / 255


def _contrast(case: _Case) -> _Pixels:
    """Little contrast."""
    mean: _Pixels = case.pixels.mean((0, 1))
    return mean + (case.pixels - mean) * (0.6 - 0.5 * case.strength) + case.draw.uniform(-0.1, 0.1)


def _haze(case: _Case) -> _Pixels:
    """Bright veils, here denser, there thinner."""
    veil = _spread(case.draw.random((5, 5), np.float32), *case.pixels.shape[:2]).clip(0, 1)
    share: _Pixels = ((0.2 + 0.6 * case.strength) * (0.5 + veil[..., None])).clip(0, 0.9)
    return case.pixels * (1 - share) + share * case.draw.uniform(0.65, 1)


def _light(case: _Case) -> _Pixels:
    """Too bright or too dark."""
    if case.draw.random() < 0.6:
        return case.pixels + 0.1 + 0.4 * case.strength
    return case.pixels * (0.8 - 0.65 * case.strength)


def _cover(case: _Case) -> _Pixels:
    """A rectangle of one colour over 5 to 40 %, up to e times as stretched as the image."""
    height, width = case.pixels.shape[:2]
    side, stretch = math.sqrt(0.05 + 0.35 * case.strength), math.exp(case.draw.uniform(-0.5, 0.5))
    high = min(height, round(height * side * stretch))
    wide = min(width, round(width * side / stretch))
    top, left = case.draw.integers(0, height - high + 1), case.draw.integers(0, width - wide + 1)
    colour = case.draw.random(3) if case.draw.random() < 0.5 else np.full(3, 0.5)
    out = case.pixels.copy()
    out[top : top + high, left : left + wide] = colour
    return out


def _shimmer(case: _Case) -> _Pixels:
    """Small displacements, as by hot air or a rolling shutter."""
    height, width = case.pixels.shape[:2]
    cell = case.draw.integers(6, 14) * case.unit
    grid = (max(3, int(height // cell)), max(3, int(width // cell)))
    reach = (1 + 5 * case.strength) * case.unit
    down, right = (
        _spread(case.draw.standard_normal(grid, np.float32), height, width) * reach
        for _ in range(2)
    )
    rows, columns = np.mgrid[:height, :width]
    rows = (rows + down).round().astype(np.int64).clip(0, height - 1)
    columns = (columns + right).round().astype(np.int64).clip(0, width - 1)
    moved: _Pixels = case.pixels[rows, columns]
    return moved


def _fall(case: _Case) -> _Pixels:
    """Rain or snow: bright streaks before a paler picture. Drawn at 224 pixels, then enlarged."""
    height, width = case.pixels.shape[:2]
    small = max(3, round(height / case.unit)), max(3, round(width / case.unit))
    drops = case.draw.random((*small, 1)) < 0.004 + 0.02 * case.strength
    soft = _filtered(np.repeat(drops, 3, 2), "GaussianBlur", case.draw.uniform(0.6, 1.5))
    length, angle = 3 + 20 * case.draw.uniform(0.1, 0.5), case.draw.uniform(0, math.pi)
    streaks = _smeared(soft, length, angle)[..., 0] * case.draw.uniform(6, 12)
    share: _Pixels = _spread(streaks.astype(np.float32), height, width)[..., None].clip(0, 1)
    return (case.pixels * (1 - 0.3 * case.strength) + 0.27 * case.strength) * (1 - share) + share


KINDS: Mapping[str, Callable[[_Case], _Pixels]] = {
    "noise": _noise,
    "specks": _specks,
    "blur": _blur,
    "motion": _motion,
    "coarse": _coarse,
    "jpeg": _jpeg,
    "contrast": _contrast,
    "haze": _haze,
    "light": _light,
    "cover": _cover,
    "shimmer": _shimmer,
    "fall": _fall,
}
