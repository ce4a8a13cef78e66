"""Procedural surfaces: noise, walls with windows, roofs, water. Colours are float32 in 0 … 255."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from saywhere.types import BoolArray, FloatArray

RGB = tuple[int, int, int]
NOISE_PX = 256
SUN = np.array([0.45, -0.52, 0.726])  # unit vector to a sun in the south-east, 47° high
SHADOW_SLOPE = (-0.45 / 0.726, 0.52 / 0.726)  # metres west and north a metre of height


class Paint(Protocol):
    """Colours (m, 3) for face coordinates u, v (metres) and world points (m, 3)."""

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray: ...


@functools.cache
def _tables() -> tuple[FloatArray, FloatArray]:
    """White noise and 1/f noise, both tileable, mean 0, within about -1 … 1."""
    white = np.random.default_rng(7).uniform(-1.0, 1.0, (NOISE_PX, NOISE_PX))
    frequency = np.fft.fftfreq(NOISE_PX) * NOISE_PX
    radius = np.hypot(frequency[:, None], frequency[None, :])
    radius[0, 0] = np.inf
    soft = np.real(np.fft.ifft2(np.fft.fft2(white) / radius**1.3))
    return white.astype(np.float32), (soft / (2.2 * soft.std())).astype(np.float32)


def _lookup(table: FloatArray, u: FloatArray, v: FloatArray) -> FloatArray:
    columns = np.floor(u).astype(np.int32) & (NOISE_PX - 1)
    rows = np.floor(v).astype(np.int32) & (NOISE_PX - 1)
    found: FloatArray = table.take(rows * NOISE_PX + columns)
    return found


def grain(u: FloatArray, v: FloatArray) -> FloatArray:
    """One random value in -1 … 1 a unit cell."""
    return _lookup(_tables()[0], u, v)


def cloud(u: FloatArray, v: FloatArray) -> FloatArray:
    """Smooth random values, period 256 units."""
    return _lookup(_tables()[1], u, v)


def flat_colour(colour: RGB, tone: FloatArray) -> FloatArray:
    """A colour times a tone (m,) -> (m, 3)."""
    return tone[:, None] * np.array(colour, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Plain:
    """One colour with a little grain."""

    colour: RGB
    roughness: float = 0.05

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray:  # noqa: ARG002
        return flat_colour(self.colour, 1.0 + self.roughness * grain(u * 4.0, v * 4.0))


@dataclass(frozen=True, slots=True)
class Grid:
    """A colour crossed by thin lines every ``step_m`` metres: solar panels, glasshouses."""

    colour: RGB
    line: RGB
    step_m: float

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray:  # noqa: ARG002
        rgb = flat_colour(self.colour, 1.0 + 0.05 * grain(u / self.step_m, v / self.step_m))
        on_line = (np.mod(u, self.step_m) < 0.18) | (np.mod(v, self.step_m) < 0.18)
        rgb[on_line] = self.line
        return rgb


@dataclass(frozen=True, slots=True)
class Pitched:
    """Courses of roof tiles, darker at the joints."""

    colour: RGB

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray:  # noqa: ARG002
        tone = 1.0 + 0.09 * grain(u * 1.6, v * 1.4) + 0.10 * cloud(u * 5.0, v * 5.0)
        return flat_colour(self.colour, tone - 0.14 * (np.mod(v, 1.4) < 0.35))


@dataclass(frozen=True, slots=True)
class Deck:
    """A flat roof with a raised rim; ``wings`` tells the rim from joints between wings."""

    colour: RGB
    wings: tuple[tuple[float, float, float, float], ...]

    def _covers(self, x: FloatArray, y: FloatArray) -> BoolArray:
        inside = np.zeros(x.shape, dtype=np.bool_)
        for west, south, east, north in self.wings:
            inside |= (x > west) & (x < east) & (y > south) & (y < north)
        return inside

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray:  # noqa: ARG002
        x, y = points[:, 0], points[:, 1]
        tone = 0.97 + 0.05 * grain(x * 3.0, y * 3.0) + 0.10 * cloud(x * 3.0, y * 3.0)
        rgb = flat_colour(self.colour, tone)
        if self.wings:
            steps = ((0.8, 0.0), (-0.8, 0.0), (0.0, 0.8), (0.0, -0.8))
            inner = np.logical_and.reduce([self._covers(x + dx, y + dy) for dx, dy in steps])
            rgb[~inner] = rgb[~inner] * np.float32(0.6) + np.float32(72.0)
        return rgb


@dataclass(frozen=True, slots=True)
class Wall:
    """A facade: material, storeys and a grid of windows. u runs along, v up from the ground.

    Attributes:
        colour: of the material.
        material: key of ``catalogue.FACADES``; glass is a curtain wall.
        windows: key of ``catalogue.WINDOWS``.
        width_m, storey_m: of the wall and of one storey.
        height_m: to the eaves; nothing above has windows.
    """

    colour: RGB
    material: str
    windows: str
    width_m: float
    storey_m: float
    height_m: float

    def __call__(self, u: FloatArray, v: FloatArray, points: FloatArray) -> FloatArray:  # noqa: ARG002
        rgb = flat_colour(self.colour, self._tone(u, v))
        bays = max(1, round(self.width_m / 3.6))
        across, up = u * (bays / self.width_m), v / np.float32(self.storey_m)
        fu, fv = np.mod(across, 1.0), np.mod(up, 1.0)
        if self.material == "glass":
            bar = (np.mod(across * 2.0, 1.0) < 0.07) | (fv < 0.10)
            rgb[bar] = (226.0, 232.0, 236.0)
            return rgb
        pane, frame = self._openings(fu, fv)
        usable = (v < self.height_m - 0.2) & (u > 0.3) & (u < self.width_m - 0.3)
        light = self.material != "white"
        rgb[frame & usable] = (236.0, 234.0, 228.0) if light else (150.0, 152.0, 156.0)
        shine = 1.0 + 0.35 * grain(across, up) + 0.25 * fv
        glass = flat_colour((52, 66, 84), shine)
        rgb[pane & usable] = glass[pane & usable]
        cornice = (v > self.height_m - 0.45) & (v < self.height_m)
        rgb[cornice] *= np.float32(0.8)
        rgb[v < 0.7] *= np.float32(0.7)
        return rgb

    def _openings(self, fu: FloatArray, fv: FloatArray) -> tuple[BoolArray, BoolArray]:
        """(panes, panes with frames) within one bay of one storey, coordinates in 0 … 1."""
        x, y = np.abs(fu - 0.5), fv
        if self.windows == "ribbon":
            return (np.abs(y - 0.55) < 0.22) & (x < 0.47), np.abs(y - 0.55) < 0.27
        if self.windows == "tall":
            return (x < 0.13) & (np.abs(y - 0.52) < 0.36), (x < 0.18) & (np.abs(y - 0.52) < 0.41)
        if self.windows == "arched":
            arch, rim = (x / 0.25) ** 2, (x / 0.32) ** 2
            pane = (x < 0.25) & (y > 0.2) & (y < 0.58 + 0.26 * np.sqrt(np.maximum(1 - arch, 0)))
            frame = (x < 0.32) & (y > 0.14) & (y < 0.58 + 0.34 * np.sqrt(np.maximum(1 - rim, 0)))
            return pane, frame
        return (x < 0.28) & (np.abs(y - 0.54) < 0.26), (x < 0.33) & (np.abs(y - 0.54) < 0.31)

    def _tone(self, u: FloatArray, v: FloatArray) -> FloatArray:
        """The material's own pattern, about 1."""
        tone: FloatArray = 1.0 + 0.08 * cloud(u * 4.0, v * 4.0)
        if self.material == "brick":
            shift = np.mod(np.floor(v / 0.3), 2.0) * 0.3
            tone += 0.16 * grain((u + shift) / 0.6, v / 0.3) + 0.22 * (np.mod(v, 0.3) < 0.06)
        elif self.material == "stone":
            shift = np.mod(np.floor(v / 0.7), 2.0) * 0.6
            joint = (np.mod(v, 0.7) < 0.08) | (np.mod(u + shift, 1.2) < 0.08)
            tone += 0.10 * grain((u + shift) / 1.2, v / 0.7) - 0.16 * joint
        elif self.material == "timber":
            tone += 0.18 * grain(u / 0.45, v * 0.0) - 0.25 * (np.mod(u, 0.45) < 0.07)
        elif self.material in {"concrete", "metal", "green"}:
            wide, high = (0.6, 0.6) if self.material == "green" else (3.6, self.storey_m)
            seam = (np.mod(v, high) < 0.14) | (np.mod(u, wide) < 0.14)
            tone += 0.06 * grain(u / wide, v / high) - 0.2 * seam
        elif self.material == "glass":
            tone = 2.2 * tone - 1.28 + 0.14 * grain(u / 1.8, v / self.storey_m) + 0.006 * v
        else:
            tone += 0.03 * grain(u * 6.0, v * 6.0)
        return tone
