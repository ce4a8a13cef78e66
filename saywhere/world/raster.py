"""A small z-buffer: convex faces and tree crowns seen by a perspective or an orthographic camera.

World coordinates are metres from the tile's centre, x east, y north, z up. Every camera measures
*nearness*, which is larger for nearer points and linear across the picture of a plane: 1/depth in
perspective, height above ground straight from above.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saywhere.types import FloatArray
from saywhere.world.paints import RGB, SUN, Paint, cloud, grain

NEAR_M = 0.5
Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A convex planar polygon, counter-clockwise from its visible side.

    Attributes:
        points: (n, 3) metres.
        paint: gives colours for (u, v) = metres along and up the face from its first point.
        normal, offset: of its plane ``normal·p = offset``, the normal of unit length.
    """

    points: Vector
    paint: Paint
    normal: Vector
    offset: float

    @classmethod
    def of(cls, points: Sequence[tuple[float, float, float]], paint: Paint) -> Face:
        """A face with the plane of its first three points."""
        (ax, ay, az), (bx, by, bz), (cx, cy, cz) = points[:3]
        ux, uy, uz, vx, vy, vz = bx - ax, by - ay, bz - az, cx - ax, cy - ay, cz - az
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        normal = np.array([nx, ny, nz]) / length
        return cls(np.array(points), paint, normal, (nx * ax + ny * ay + nz * az) / length)


@dataclass(frozen=True, slots=True)
class Blob:
    """A leafy ball: centre and radius in metres, colour, and a phase for its texture."""

    x: float
    y: float
    z: float
    radius: float
    colour: RGB
    phase: float


class Camera(Protocol):
    """What the canvas asks of a camera; pixels are (column, row) of a ``size`` square.

    ``horizon`` is the nearness below which the ground plane is not drawn.
    """

    size: int
    horizon: float

    def sees(self, normal: Vector, offset: float) -> bool:
        """Whether the front of the plane ``normal·p = offset`` is turned to the camera."""

    def clip(self, points: Vector) -> Vector:
        """The part of a polygon that lies before the camera, (m, 3)."""

    def pixels(self, points: Vector) -> Vector:
        """(n, 3) metres to (n, 2) pixels."""

    def plane(self, normal: Vector, offset: float) -> tuple[float, float, float]:
        """(a, b, c) with nearness = a·column + b·row + c on the plane."""

    def points(self, columns: FloatArray, rows: FloatArray, near: FloatArray) -> FloatArray:
        """World points (m, 3) of pixels and their nearness."""

    def ball(self, centre: Vector) -> tuple[float, float, float]:
        """(pixels a metre, nearness, nearness gained a metre) at a point; 0 px if behind."""

    def axes(self) -> tuple[Vector, Vector, Vector]:
        """Unit vectors right, up and towards the viewer."""


class Overhead:
    """Orthographic from straight above: a square of ``span_m`` metres, north up."""

    def __init__(self, size: int, span_m: float) -> None:
        self.size, self.horizon = size, -1.0
        self._half = span_m / 2
        self._scale = size / span_m

    def sees(self, normal: Vector, offset: float) -> bool:  # noqa: ARG002
        return bool(normal[2] > 1e-6)

    def clip(self, points: Vector) -> Vector:
        return points

    def pixels(self, points: Vector) -> Vector:
        x, y = points[:, 0] + self._half, self._half - points[:, 1]
        return np.stack([x, y], axis=1) * self._scale

    def plane(self, normal: Vector, offset: float) -> tuple[float, float, float]:
        a, b = -normal[0] / normal[2] / self._scale, normal[1] / normal[2] / self._scale
        return a, b, (offset + (normal[0] - normal[1]) * self._half) / normal[2]

    def points(self, columns: FloatArray, rows: FloatArray, near: FloatArray) -> FloatArray:
        x, y = columns / self._scale - self._half, self._half - rows / self._scale
        return np.stack([x, y, near], axis=1).astype(np.float32)

    def ball(self, centre: Vector) -> tuple[float, float, float]:
        return self._scale, float(centre[2]), 1.0

    def axes(self) -> tuple[Vector, Vector, Vector]:
        rows = np.eye(3)
        return rows[0], rows[1], rows[2]


class Perspective:
    """A level pinhole camera at ``eye`` that looks at ``target``, ``view_deg`` across."""

    def __init__(self, size: int, eye: Vector, target: Vector, view_deg: float) -> None:
        self.size, self.horizon = size, 1e-5  # the ground ends 100 km away
        self._eye = eye
        self._forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(self._forward, [0.0, 0.0, 1.0])
        self._right = right / np.linalg.norm(right)
        self._up = np.cross(self._right, self._forward)
        self._focal = size / 2 / math.tan(math.radians(view_deg) / 2)

    def sees(self, normal: Vector, offset: float) -> bool:
        return bool(normal @ self._eye > offset + 1e-6)

    def clip(self, points: Vector) -> Vector:
        depth = (points - self._eye) @ self._forward
        if depth.min() >= NEAR_M:
            return points
        kept: list[Vector] = []
        for i, point in enumerate(points):
            j = (i + 1) % len(points)
            if depth[i] >= NEAR_M:
                kept.append(point)
            if (depth[i] >= NEAR_M) != (depth[j] >= NEAR_M):
                share = (NEAR_M - depth[i]) / (depth[j] - depth[i])
                kept.append(point + share * (points[j] - point))
        return np.array(kept).reshape(-1, 3)

    def pixels(self, points: Vector) -> Vector:
        moved = points - self._eye
        scale = self._focal / (moved @ self._forward)
        x, y = moved @ self._right * scale, -(moved @ self._up) * scale
        return np.stack([x, y], axis=1) + self.size / 2

    def plane(self, normal: Vector, offset: float) -> tuple[float, float, float]:
        gap = offset - float(normal @ self._eye)
        a = float(normal @ self._right) / self._focal / gap
        b = -float(normal @ self._up) / self._focal / gap
        return a, b, float(normal @ self._forward) / gap - (a + b) * self.size / 2

    def points(self, columns: FloatArray, rows: FloatArray, near: FloatArray) -> FloatArray:
        focal, half = np.float32(self._focal), np.float32(self.size / 2)
        rays = self.rays((columns - half) / focal, (half - rows) / focal)
        rays /= near[:, None]
        rays += self._eye.astype(np.float32)
        return rays

    def rays(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """(m, 3) directions of depth 1 for picture coordinates in focal lengths."""
        axes = np.stack([self._right, self._up, self._forward]).astype(np.float32)
        return np.stack([x, y, np.ones_like(x)], axis=1) @ axes

    def sky_rays(self) -> FloatArray:
        """(size², 3) directions of all pixels, row by row."""
        steps = ((np.arange(self.size) + 0.5 - self.size / 2) / self._focal).astype(np.float32)
        x, y = np.meshgrid(steps, -steps)
        return self.rays(x.ravel(), y.ravel())

    def ball(self, centre: Vector) -> tuple[float, float, float]:
        depth = float((centre - self._eye) @ self._forward)
        if depth < 2 * NEAR_M:
            return 0.0, 0.0, 0.0
        return self._focal / depth, 1.0 / depth, 1.0 / depth**2

    def axes(self) -> tuple[Vector, Vector, Vector]:
        return self._right, self._up, -self._forward


class Canvas:
    """A picture in the making: colours (size, size, 3) float32 in 0 … 255, and nearness."""

    def __init__(self, camera: Camera, background: FloatArray) -> None:
        self.camera = camera
        self.rgb = background
        self.near = np.zeros(background.shape[:2], dtype=np.float32)

    def ground(self, sample: Callable[[FloatArray], FloatArray]) -> None:
        """Fill what lies on z = 0 with ``sample(points (m, 3)) -> colours (m, 3)``."""
        a, b, c = (np.float32(k) for k in self.camera.plane(np.array([0.0, 0.0, 1.0]), 0.0))
        steps = np.arange(self.camera.size, dtype=np.float32) + np.float32(0.5)
        columns, rows = np.meshgrid(steps, steps)
        near = a * columns + (b * rows + c)
        hit = near > self.camera.horizon
        self.near[hit] = near[hit]
        self.rgb[hit] = sample(self.camera.points(columns[hit], rows[hit], near[hit]))

    def face(self, face: Face) -> None:
        """Draw one face where it is nearer than what is there."""
        if not self.camera.sees(face.normal, face.offset):
            return
        outline = self.camera.clip(face.points)
        if len(outline) < 3:
            return
        corners = self.camera.pixels(outline)
        low = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0)
        high = np.minimum(np.ceil(corners.max(axis=0)).astype(int), self.camera.size)
        if (low >= high).any():
            return
        columns = np.arange(low[0], high[0], dtype=np.float32)[None, :] + np.float32(0.5)
        rows = np.arange(low[1], high[1], dtype=np.float32)[:, None] + np.float32(0.5)
        a, b, c = (np.float32(value) for value in self.camera.plane(face.normal, face.offset))
        near = a * columns + (b * rows + c)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        seen = _inside(corners, columns, rows) & (near > self.near[window])
        y, x = np.nonzero(seen)
        if not len(x):
            return
        near = near[y, x]
        y, x = y + low[1], x + low[0]
        points = self.camera.points(x + np.float32(0.5), y + np.float32(0.5), near)
        self.near[y, x] = near
        self.rgb[y, x] = _lit(face, points)

    def blob(self, blob: Blob) -> None:
        """Draw one ball of leaves, ragged at its rim."""
        centre = np.array([blob.x, blob.y, blob.z])
        scale, near, gain = self.camera.ball(centre)
        radius = scale * blob.radius
        if radius < 0.5:
            return
        middle = self.camera.pixels(centre[None])[0]
        low = np.maximum(np.floor(middle - radius).astype(int), 0)
        high = np.minimum(np.ceil(middle + radius).astype(int), self.camera.size)
        if (low >= high).any():
            return
        dx = ((np.arange(low[0], high[0]) + 0.5 - middle[0]) / radius).astype(np.float32)[None, :]
        dy = ((middle[1] - 0.5 - np.arange(low[1], high[1])) / radius).astype(np.float32)[:, None]
        square = dx * dx + dy * dy
        leaves = grain(dx * 13.0 + blob.phase, dy * 13.0 + blob.phase * 1.7)
        lumps = cloud(dx * 40.0 + blob.phase, dy * 40.0 - blob.phase)
        out = np.sqrt(np.maximum(1.0 - square, 0.0))
        depth = (near + out * (gain * blob.radius)).astype(np.float32)
        window = slice(low[1], high[1]), slice(low[0], high[0])
        seen = (square < 0.86 + 0.14 * leaves + 0.12 * lumps) & (depth > self.near[window])
        right, up, back = self.camera.axes()
        light = dx * (right @ SUN) + dy * (up @ SUN) + out * (back @ SUN)
        tone = 0.72 + 0.36 * light + 0.16 * leaves + 0.14 * lumps
        self.near[window][seen] = depth[seen]
        self.rgb[window][seen] = tone[seen][:, None] * np.array(blob.colour, dtype=np.float32)


def _inside(corners: Vector, columns: FloatArray, rows: FloatArray) -> NDArray[np.bool_]:
    """Pixels inside a convex polygon, whichever way round it is given."""
    following = np.concatenate([corners[1:], corners[:1]])
    area = float(np.sum(corners[:, 0] * following[:, 1] - following[:, 0] * corners[:, 1]))
    turn = 1.0 if area >= 0 else -1.0
    inside: NDArray[np.bool_] | None = None
    for (x0, y0), (x1, y1) in zip(corners, following, strict=True):
        dx, dy = np.float32(turn * (x1 - x0)), np.float32(turn * (y1 - y0))
        edge = dx * (rows - np.float32(y0)) >= dy * (columns - np.float32(x0))
        inside = edge if inside is None else inside & edge
    if inside is None:
        return np.zeros((rows.shape[0], columns.shape[1]), dtype=np.bool_)
    return inside


def _lit(face: Face, points: FloatArray) -> FloatArray:
    """Colours of a face's points under sun and sky."""
    x, y, z = face.points[1] - face.points[0]
    length = math.sqrt(x * x + y * y + z * z)
    x, y, z = x / length, y / length, z / length
    p, q, r = face.normal
    across = q * z - r * y, r * x - p * z, p * y - q * x
    basis = np.array([(x, y, z), across], dtype=np.float32)
    u, v = basis @ (points - face.points[0].astype(np.float32)).T
    light = 0.62 + 0.5 * max(0.0, float(face.normal @ SUN))
    return face.paint(u, v, points) * np.float32(light)
