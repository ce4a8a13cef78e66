"""The 3-D scene of one tile: a painted ground, shadows, faces and tree crowns."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from saywhere.types import FloatArray
from saywhere.world.catalogue import TREE_COLOURS
from saywhere.world.paints import RGB, SHADOW_SLOPE, Paint, Plain, cloud, grain
from saywhere.world.raster import Blob, Face

GROUND_PX = 768
Point = tuple[float, float]
SHADOW_TONE = 0.52
WHITE: RGB = (240, 240, 238)


class Scene:
    """What stands on one tile of ``span_m`` metres. Builders add to it; cameras read it."""

    def __init__(self, span_m: float, colour: RGB, rng: np.random.Generator) -> None:
        self.span_m = span_m
        self.rng = rng
        self.faces: list[Face] = []
        self.blobs: list[Blob] = []
        self._scale = GROUND_PX / span_m
        self._picture = Image.new("RGB", (GROUND_PX, GROUND_PX), colour)
        self._shade = Image.new("L", (GROUND_PX, GROUND_PX), 0)
        self._pen = ImageDraw.Draw(self._picture)
        self._shade_pen = ImageDraw.Draw(self._shade)

    def _pixels(self, points: Sequence[Point]) -> list[Point]:
        half = self.span_m / 2
        return [((x + half) * self._scale, (half - y) * self._scale) for x, y in points]

    def paint(self, points: Sequence[Point], colour: RGB) -> None:
        """Fill a polygon on the ground."""
        self._pen.polygon(self._pixels(points), fill=colour)

    def paint_rect(self, rect: Sequence[float], colour: RGB) -> None:
        """Fill a rectangle on the ground, given by two opposite corners (x0, y0, x1, y1)."""
        self.paint(corners(rect), colour)

    def line(self, points: Sequence[Point], colour: RGB, width_m: float) -> None:
        """Draw a line on the ground."""
        width = max(1, round(width_m * self._scale))
        self._pen.line(self._pixels(points), fill=colour, width=width, joint="curve")

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: RGB) -> None:
        """Fill an ellipse on the ground."""
        self.paint(_circle(x, y, rx, ry, 40), colour)

    def shadow(self, points: Sequence[Point], height_m: float) -> None:
        """Darken the ground where a prism over convex ``points`` stands in the sun."""
        dx, dy = SHADOW_SLOPE[0] * height_m, SHADOW_SLOPE[1] * height_m
        hull = _hull([*points, *((x + dx, y + dy) for x, y in points)])
        self._shade_pen.polygon(self._pixels(hull), fill=255)

    def face(self, points: Sequence[tuple[float, float, float]], paint: Paint) -> None:
        """Add a convex face, counter-clockwise from its visible side."""
        self.faces.append(Face.of(points, paint))

    def prism(self, plan: Sequence[Point], z0: float, z1: float, walls: Paint, top: Paint) -> None:
        """Add walls and a flat top over a convex plan (counter-clockwise), with its shadow."""
        for (xa, ya), (xb, yb) in zip(plan, [*plan[1:], plan[0]], strict=True):
            self.face([(xa, ya, z0), (xb, yb, z0), (xb, yb, z1), (xa, ya, z1)], walls)
        self.face([(x, y, z1) for x, y in plan], top)
        self.shadow(plan, z1)

    def box(self, rect: Sequence[float], z0: float, z1: float, colour: RGB) -> None:
        """Add a box of one colour over (west, south, east, north)."""
        paint = Plain(colour)
        self.prism(corners(rect), z0, z1, paint, paint)

    def cylinder(self, x: float, y: float, radius: float, height: float, colour: RGB) -> None:
        """Add an upright cylinder."""
        paint = Plain(colour)
        self.prism(_circle(x, y, radius, radius, 14), 0.0, height, paint, paint)

    def tree(self, x: float, y: float, kind: str, height: float) -> None:
        """Add a tree of ``catalogue.TREES``: a trunk and some balls of leaves."""
        tint = float(self.rng.uniform(0.88, 1.12))
        red, green, blue = (min(255, round(part * tint)) for part in TREE_COLOURS[kind])
        phase = float(self.rng.uniform(0.0, 200.0))
        self.box((x - 0.2, y - 0.2, x + 0.2, y + 0.2), 0.0, height * 0.45, (84, 64, 48))
        if kind == "conifer":
            parts = [
                (0.0, 0.0, 0.28, 0.27),
                (0, 0, 0.5, 0.21),
                (0, 0, 0.7, 0.15),
                (0, 0, 0.87, 0.09),
            ]
        else:
            parts = [(0.0, 0.0, 0.68, 0.33)]
            turn = float(self.rng.uniform(0.0, 6.3))
            for third in range(3):
                angle = turn + third * 2.1
                parts.append((0.22 * math.cos(angle), 0.22 * math.sin(angle), 0.58, 0.24))
        for dx, dy, up, radius in parts:
            self.blobs.append(
                Blob(
                    *(x + dx * height, y + dy * height, up * height, radius * height),
                    (red, green, blue),
                    phase + 17.0 * up,
                )
            )
        crown = 0.24 if kind == "conifer" else 0.38
        shift = 0.4 * height
        centre = x + SHADOW_SLOPE[0] * shift, y + SHADOW_SLOPE[1] * shift
        outline = _circle(*centre, crown * height, crown * height, 16)
        self._shade_pen.polygon(self._pixels(outline), fill=235)

    def bush(self, x: float, y: float, z: float, radius: float, colour: RGB) -> None:
        """Add one ball of leaves (or a heap) with a shadow."""
        phase = float(self.rng.uniform(0.0, 200.0))
        self.blobs.append(Blob(x, y, z, radius, colour, phase))
        centre = x + SHADOW_SLOPE[0] * z, y + SHADOW_SLOPE[1] * z
        self._shade_pen.polygon(self._pixels(_circle(*centre, radius, radius, 14)), fill=235)

    def spray(self, x: float, y: float, z: float, radius: float) -> None:
        """Add a ball of white spray, without a shadow."""
        self.blobs.append(Blob(x, y, z, radius, (222, 238, 248), 31.0 * z))

    def ground(self) -> FloatArray:
        """The painted ground with grain and shadows, (768, 768, 3) float32, north up."""
        rgb = np.asarray(self._picture, dtype=np.float32)
        soft = np.asarray(self._shade.filter(ImageFilter.BoxBlur(1)), dtype=np.float32)
        shade = soft * np.float32((1.0 - SHADOW_TONE) / 255.0)
        return rgb * (_ground_tone() * (1.0 - shade))[:, :, None]


@functools.cache
def _ground_tone() -> FloatArray:
    """Light and dark of bare ground, the same for all tiles, (768, 768) float32."""
    steps = np.arange(GROUND_PX, dtype=np.float32)[None, :]
    return 1.0 + 0.07 * grain(steps, steps.T) + 0.07 * cloud(steps / 3.0, steps.T / 3.0)


def corners(rect: Sequence[float]) -> list[Point]:
    """Corners of (west, south, east, north), counter-clockwise from the south-west."""
    west, south, east, north = rect
    return [(west, south), (east, south), (east, north), (west, north)]


def _circle(x: float, y: float, rx: float, ry: float, parts: int) -> list[Point]:
    angles = [2.0 * math.pi * i / parts for i in range(parts)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


def _hull(points: Sequence[Point]) -> list[Point]:
    """Convex hull, counter-clockwise (Andrew's monotone chain)."""
    ordered = sorted(set(points))
    halves: list[list[Point]] = []
    for run in (ordered, ordered[::-1]):
        half: list[Point] = []
        for x, y in run:
            while len(half) > 1 and _turn(half[-2], half[-1], (x, y)) <= 0:
                half.pop()
            half.append((x, y))
        halves.append(half[:-1])
    return halves[0] + halves[1]


def _turn(a: Point, b: Point, c: Point) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
