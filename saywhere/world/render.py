"""The three views of a place: an orthographic tile, an oblique photo, one from the ground."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from saywhere.types import FloatArray
from saywhere.world.model import Shot
from saywhere.world.paints import RGB, cloud, flat_colour, grain
from saywhere.world.raster import Canvas, Overhead, Perspective
from saywhere.world.scene import GROUND_PX, Scene

Pixels = NDArray[np.uint8]
SUPERSAMPLING = 2
# zenith colour, horizon colour, light on the scene
SKY_COLOURS: dict[str, tuple[RGB, RGB, RGB]] = {
    "clear": ((62, 128, 214), (190, 218, 244), (255, 253, 248)),
    "clouds": ((70, 134, 214), (200, 222, 242), (255, 253, 248)),
    "overcast": ((164, 170, 178), (206, 210, 214), (232, 236, 242)),
    "evening": ((112, 104, 160), (255, 176, 96), (255, 226, 190)),
}
FIELD: RGB = (112, 144, 82)


def _finish(rgb: FloatArray) -> Pixels:
    """Average the samples of each pixel: (n·s, n·s, 3) float32 to (n, n, 3) uint8."""
    step = SUPERSAMPLING
    # Adding strided views is several times faster than a mean over two axes.
    total = np.sum([rgb[i::step, j::step] for i in range(step) for j in range(step)], axis=0)
    pixels: Pixels = np.clip(np.rint(total / step**2), 0, 255).astype(np.uint8)
    return pixels


def _draw(canvas: Canvas, scene: Scene) -> None:
    for face in scene.faces:
        canvas.face(face)
    for blob in scene.blobs:
        canvas.blob(blob)


def _look_up(picture: FloatArray, x: FloatArray, y: FloatArray, span_m: float) -> FloatArray:
    """Colours of a north-up square picture of ``span_m`` metres, centred on 0, at (x, y)."""
    scale = picture.shape[0] / span_m
    edge = picture.shape[0]
    columns = ((x + np.float32(span_m / 2)) * scale).astype(np.int32).clip(0, edge - 1)
    rows = ((np.float32(span_m / 2) - y) * scale).astype(np.int32).clip(0, edge - 1)
    found: FloatArray = picture.reshape(-1, 3).take(rows * edge + columns, axis=0)
    return found


def satellite_view(scene: Scene, ground: FloatArray, size: int) -> Pixels:
    """The tile from straight above, north up, (size, size, 3) uint8."""
    wide = size * SUPERSAMPLING
    canvas = Canvas(Overhead(wide, scene.span_m), np.zeros((wide, wide, 3), dtype=np.float32))
    canvas.ground(lambda p: _look_up(ground, p[:, 0], p[:, 1], scene.span_m))
    _draw(canvas, scene)
    return _finish(canvas.rgb)


class Terrain:
    """The ground of all photos of a place: fine inside its tile, the campus map beyond.

    Args:
        ground: the tile's ground, (n, n, 3) float32.
        span_m: the tile's edge in metres.
        campus: the whole campus from above, (rows, columns, 3) uint8, north up.
        corner_px: (column, row) of the tile's north-west corner on it.
        tile_px: the tile's edge in pixels of the campus map.
    """

    def __init__(
        self,
        ground: FloatArray,
        span_m: float,
        campus: Pixels,
        corner_px: tuple[int, int],
        tile_px: int,
    ) -> None:
        self._ground, self._span, self._campus = ground, span_m, campus
        self._corner, self._scale = corner_px, tile_px / span_m

    def __call__(self, points: FloatArray) -> FloatArray:
        """Colours (m, 3) float32 of ground points (m, 3)."""
        x, y = points[:, 0], points[:, 1]
        half = self._span / 2
        inside = (np.abs(x) < half) & (np.abs(y) < half)
        rgb = np.empty_like(points)
        # Blur the steps of the ground's pixels where the camera is close to them.
        fuzz = self._span / GROUND_PX
        near_x, near_y = x[inside], y[inside]
        shift = fuzz * grain(near_x * 31.0, near_y * 31.0)
        rgb[inside] = _look_up(self._ground, near_x + shift, near_y - shift, self._span)
        column = np.floor((x + half) * self._scale).clip(-1e6, 1e6).astype(np.int32)
        row = np.floor((half - y) * self._scale).clip(-1e6, 1e6).astype(np.int32)
        column, row = column + self._corner[0], row + self._corner[1]
        rows, columns = self._campus.shape[:2]
        mapped = ~inside & (column >= 0) & (row >= 0) & (column < columns) & (row < rows)
        rgb[mapped] = self._campus[row[mapped], column[mapped]]
        rest = ~inside & ~mapped
        x, y = x[rest], y[rest]
        rgb[rest] = flat_colour(FIELD, 1.0 + 0.14 * cloud(x / 4.0, y / 4.0) + 0.06 * grain(x, y))
        return rgb


def _perspective(shot: Shot, size: int) -> Perspective:
    eye = np.array([shot.east_m, shot.north_m, shot.height_m])
    target = np.array([shot.look_east_m, shot.look_north_m, shot.look_up_m])
    return Perspective(size, eye, target, shot.view_deg)


def drone_view(scene: Scene, terrain: Terrain, shot: Shot, size: int) -> Pixels:
    """The place at a slant from the shot's camera, (size, size, 3) uint8."""
    wide = size * SUPERSAMPLING
    canvas = Canvas(_perspective(shot, wide), np.zeros((wide, wide, 3), dtype=np.float32))
    canvas.ground(terrain)
    _draw(canvas, scene)
    return _finish(canvas.rgb)


def _sky(camera: Perspective, kind: str, phase: float) -> FloatArray:
    """Sky with clouds above a hazy line of far trees, (size, size, 3) float32."""
    rays = camera.sky_rays()
    flat: FloatArray = np.maximum(np.hypot(rays[:, 0], rays[:, 1]), 1e-6).astype(np.float32)
    rise: FloatArray = rays[:, 2] / flat
    bearing: FloatArray = (3.0 * rays[:, 0] / flat).astype(np.float32)
    zenith, horizon, _ = (np.array(colour, dtype=np.float32) for colour in SKY_COLOURS[kind])
    height = np.clip(rise * 1.6, 0.0, 1.0)[:, None] ** 0.7
    rgb = horizon + (zenith - horizon) * height
    puffs = cloud(bearing * 60.0 + phase, rise * 110.0 + phase)
    if kind in {"clouds", "evening"}:
        share = np.clip(puffs * 2.0 - 0.1, 0.0, 0.85)[:, None] * (rise > 0.0)[:, None]
        white = np.array((250, 250, 252) if kind == "clouds" else (250, 150, 110), dtype=np.float32)
        rgb = rgb + (white - rgb) * share
    elif kind == "overcast":
        rgb = rgb * (1.0 + 0.07 * puffs)[:, None]
    skyline = 0.05 + 0.03 * cloud(bearing * 40.0 + phase, bearing * 0.0)
    haze = horizon * np.float32(0.55) + np.array((40, 62, 48), dtype=np.float32)
    rgb[rise < skyline] = haze * np.float32(0.85)
    picture: FloatArray = rgb.reshape(camera.size, camera.size, 3).astype(np.float32)
    return picture


def ground_view(scene: Scene, terrain: Terrain, shot: Shot, size: int, sky: str) -> Pixels:
    """The facade across the southern feature at eye level, (size, size, 3) uint8."""
    camera = _perspective(shot, size * SUPERSAMPLING)
    phase = float(scene.rng.uniform(0.0, 200.0))
    soft = _sky(_perspective(shot, size), sky, phase)
    canvas = Canvas(camera, soft.repeat(SUPERSAMPLING, axis=0).repeat(SUPERSAMPLING, axis=1))
    open_sky = canvas.rgb.copy()
    canvas.ground(terrain)
    _draw(canvas, scene)
    tint = np.array(SKY_COLOURS[sky][2], dtype=np.float32) / np.float32(255.0)
    lit = np.where((canvas.near > 0.0)[:, :, None], canvas.rgb * tint, open_sky)
    return _finish(lit)
