"""Views: what a frozen tower sees of an image, and the satellite augmentation.

Every view squashes the whole image to a square (captions speak of borders, so nothing is cropped
away silently) and may then flip, rotate by any angle, zoom and change colour. Rotation reads
beyond the border by reflection, so no corner is black. A view may see a degraded copy of the image
instead. Views are values: their ``key`` names a cached feature, and random ones are drawn from the
image's content hash, so the same image has the same views in every run.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from saywhere.degradations import KINDS, Degradation, degrade
from saywhere.types import Platform

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class View:
    """One way to look at an image. Numbers are kept to four significant digits, as in ``key``.

    Attributes:
        scale: edge of the result relative to the tower's default size, rounded to a multiple of
            32; towers of one fixed size see every view at that size.
        zoom: edge of the seen square relative to the image, 0 < zoom <= 1.
        x, y: centre of the seen square, -1 (left, top) .. 1 (right, bottom) of the free room.
        angle: counter-clockwise, degrees, about the centre of the seen square.
        flip: mirror what is seen left to right, after rotating.
        brightness, contrast, saturation: factors; 1 leaves as is.
        degradation: what spoils the image before all this; None: nothing.
    """

    scale: float = 1.0
    zoom: float = 1.0
    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    degradation: Degradation | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rounded = float(f"{value:.4g}") + 0.0  # + 0.0: no negative zero
                object.__setattr__(self, field.name, rounded)

    @property
    def key(self) -> str:
        """Name of this view in the feature cache: equal keys, equal views.

        Features are kept under it for good, so whoever changes what ``render`` draws changes the
        key's form, too; a test holds both to each other.
        """
        numbers = (
            self.scale, self.zoom, self.x, self.y, self.angle,
            self.brightness, self.contrast, self.saturation,
        )  # fmt: skip
        key = ",".join(f"{value:.4g}" for value in numbers) + (",flip" if self.flip else "")
        return key if self.degradation is None else f"{key},{self.degradation.key}"


_CROP = 0.6
_GAP = 2.0  # large images are box-filtered to twice the size first: a few times faster
FIXED_VIEWS: Mapping[str, View] = {
    "full": View(),
    "flip": View(flip=True),
    "large": View(scale=288 / 224),
    "large-flip": View(scale=288 / 224, flip=True),
    "crop-tl": View(zoom=_CROP, x=-1, y=-1),
    "crop-tr": View(zoom=_CROP, x=1, y=-1),
    "crop-bl": View(zoom=_CROP, x=-1, y=1),
    "crop-br": View(zoom=_CROP, x=1, y=1),
    "crop-c": View(zoom=_CROP),
    "rot+15": View(angle=15),
    "rot-15": View(angle=-15),
    "rot90": View(angle=90),
    "rot180": View(angle=180),
    "rot270": View(angle=270),
}


def random_views(content_hash: str, count: int, platform: Platform | None) -> tuple[View, ...]:
    """``count`` augmented views of an image, the same at every call; fewer are a prefix of more.

    Satellite images have no "up": any angle, flips, zoom, colour. Other platforms (or None) have
    one: flips, zoom, a few degrees of roll, colour.
    """
    satellite = platform is Platform.SATELLITE
    draw = random.Random(f"{content_hash}:{'satellite' if satellite else 'upright'}")
    return tuple(_draw_view(draw, satellite=satellite) for _ in range(count))


def degraded_views(content_hash: str, count: int, platform: Platform | None) -> tuple[View, ...]:
    """``random_views`` of degraded copies: no kind twice before every kind was there once.

    Draws of their own: what ``random_views`` gives is the same with and without these.
    """
    draw = random.Random(f"{content_hash}:degraded")
    views: list[View] = []
    left: list[str] = []
    for view in random_views(f"{content_hash}:degraded", count, platform):
        left = left or draw.sample(sorted(KINDS), len(KINDS))
        degradation = Degradation(left.pop(), draw.random(), draw.getrandbits(32))
        views.append(replace(view, degradation=degradation))
    return tuple(views)


def _draw_view(draw: random.Random, *, satellite: bool) -> View:
    return View(
        scale=draw.choice((1.0, 1.0, 288 / 224)),
        zoom=draw.uniform(0.6, 1.0) if satellite else draw.uniform(0.65, 1.0),
        x=draw.uniform(-1, 1),
        y=draw.uniform(-1, 1),
        angle=draw.uniform(-180, 180) if satellite else draw.uniform(-8, 8),
        flip=draw.random() < 0.5,
        brightness=draw.uniform(0.8, 1.25),
        contrast=draw.uniform(0.8, 1.25),
        saturation=draw.uniform(0.7, 1.3),
    )


def pixel_size(view: View, size: int) -> int:
    """Edge in pixels of ``view`` for a tower whose default edge is ``size``."""
    return size if view.scale == 1 else max(32, round(size * view.scale / 32) * 32)


def render(image: Image, view: View, size: int) -> NDArray[np.uint8]:
    """The pixels a tower gets.

    Args:
        image: upright RGB of any size.
        size: the tower's default edge in pixels.

    Returns:
        (edge, edge, 3) uint8, edge = ``pixel_size(view, size)``.
    """
    import PIL.Image

    edge = pixel_size(view, size)
    if view.degradation is not None:
        image = degrade(image, view.degradation, size)
    if view.angle:
        seen = _rotated(image, view, edge)
    else:
        seen = image.resize(
            (edge, edge),
            PIL.Image.Resampling.BICUBIC,
            box=_box(view, *image.size),
            reducing_gap=_GAP,
        )
    if view.flip:
        seen = seen.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(_recolour(seen, view), np.uint8)


def _box(view: View, width: int, height: int) -> tuple[float, float, float, float]:
    """The seen rectangle in pixels: left, top, right, bottom."""
    left = (width - width * view.zoom) * (view.x + 1) / 2
    top = (height - height * view.zoom) * (view.y + 1) / 2
    return left, top, left + width * view.zoom, top + height * view.zoom


def _rotated(image: Image, view: View, edge: int) -> Image:
    """Squash, extend by reflection, then rotate about the centre of the seen square."""
    import PIL.Image

    whole = max(edge, round(edge / view.zoom))
    square = image.resize((whole, whole), PIL.Image.Resampling.BICUBIC, reducing_gap=_GAP)
    # A square turned by any angle reaches sqrt(2) as far; x and y shift it by the room left.
    margin = math.ceil(edge * (math.sqrt(2) - 1) / 2) + 2
    padded = PIL.Image.fromarray(
        np.pad(np.asarray(square), ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    )
    middle, room = padded.width / 2, (whole - edge) / 2
    x, y = middle + room * view.x, middle + room * view.y
    # Result pixel (i, j) shows the place that lies so from (x, y) once it is turned back; only the
    # seen square is computed.
    cos, sin = math.cos(math.radians(view.angle)), math.sin(math.radians(view.angle))
    left, top = round(x - edge / 2) - x, round(y - edge / 2) - y
    return padded.transform(
        (edge, edge),
        PIL.Image.Transform.AFFINE,
        (cos, -sin, cos * left - sin * top + x, sin, cos, sin * left + cos * top + y),
        PIL.Image.Resampling.BICUBIC,
    )


def _recolour(image: Image, view: View) -> Image:
    from PIL import ImageEnhance

    for enhancer, factor in (
        (ImageEnhance.Brightness, view.brightness),
        (ImageEnhance.Contrast, view.contrast),
        (ImageEnhance.Color, view.saturation),
    ):
        if factor != 1:
            image = enhancer(image).enhance(factor)
    return image
