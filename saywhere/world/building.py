"""The building of a place: wings with facades and roofs, what stands on the roof, the entrance."""

from __future__ import annotations

import math
from collections.abc import Sequence

from saywhere.world import catalogue as cat
from saywhere.world.footprints import (
    RING_RADII,
    ROUND_RADIUS,
    STOREY_M,
    WINGS,
    Rect,
    door_of,
)
from saywhere.world.model import Attributes
from saywhere.world.paints import Deck, Grid, Paint, Pitched, Plain, Wall
from saywhere.world.scene import Point, Scene, corners

PANELS = Grid((28, 44, 96), (150, 166, 196), 1.6)
SIDES = 24  # faces of a round wall
Corner = tuple[float, float, float]


def add_building(scene: Scene, looks: Attributes) -> None:
    """Put the building of ``looks`` on the scene's centre."""
    if looks.shape == "ring":
        _add_ring(scene, looks)
    elif looks.shape == "round":
        _add_round(scene, looks)
    else:
        for wing in WINGS[looks.shape]:
            _add_wing(scene, looks, wing)
    _add_extras(scene, looks)
    _add_entrance(scene, looks)


def _eaves(looks: Attributes) -> float:
    return looks.storeys * STOREY_M


def _wall(looks: Attributes, width: float) -> Wall:
    colour = cat.FACADE_COLOURS[looks.facade]
    return Wall(colour, looks.facade, looks.windows, width, STOREY_M, _eaves(looks))


def _walls(scene: Scene, looks: Attributes, plan: Sequence[Point]) -> None:
    """Walls around a plan (counter-clockwise, seen from outside)."""
    top = _eaves(looks)
    for (xa, ya), (xb, yb) in zip(plan, [*plan[1:], plan[0]], strict=True):
        wall = _wall(looks, math.dist((xa, ya), (xb, yb)))
        scene.face([(xa, ya, 0.0), (xb, yb, 0.0), (xb, yb, top), (xa, ya, top)], wall)


def _add_wing(scene: Scene, looks: Attributes, wing: Rect) -> None:
    plan = corners(wing)
    _walls(scene, looks, plan)
    top, colour = _eaves(looks), cat.ROOF_COLOURS[looks.roof_colour]
    scene.shadow(plan, top)
    if looks.roof_type == "flat":
        scene.face([(x, y, top) for x, y in plan], Deck(colour, WINGS[looks.shape]))
        return
    _add_slopes(scene, looks, wing)


def ridge_height(wing: Rect) -> float:
    """Metres from eaves to ridge: a pitch of about 35° over the wing's shorter side."""
    return 0.35 * min(wing[2] - wing[0], wing[3] - wing[1])


def _add_slopes(scene: Scene, looks: Attributes, wing: Rect) -> None:
    """A gable or hipped roof with its ridge along the longer side."""
    west, south, east, north = wing
    top = _eaves(looks)
    high = top + ridge_height(wing)
    tiles = Pitched(cat.ROOF_COLOURS[looks.roof_colour])
    long_x = east - west >= north - south
    inset = 0.5 * min(east - west, north - south) if looks.roof_type == "hip" else 0.0
    sw, se, ne, nw = ((x, y, top) for x, y in corners(wing))
    if long_x:
        middle = (south + north) / 2
        a, b = (west + inset, middle, high), (east - inset, middle, high)
        slopes = [[sw, se, b, a], [ne, nw, a, b]]
        ends = [[se, ne, b], [nw, sw, a]]
    else:
        middle = (west + east) / 2
        a, b = (middle, south + inset, high), (middle, north - inset, high)
        slopes = [[se, ne, b, a], [nw, sw, a, b]]
        ends = [[sw, se, a], [ne, nw, b]]
    for slope in slopes:
        scene.face(_unique(slope), tiles)
    blank = Plain(cat.FACADE_COLOURS[looks.facade], 0.07)
    for end in ends:
        scene.face(end, tiles if looks.roof_type == "hip" else blank)


def _unique(points: list[Corner]) -> list[Corner]:
    """A hip over a square has no ridge: its slope is a triangle."""
    return list(dict.fromkeys(points))


def _circle(radius: float) -> list[Point]:
    angles = [2.0 * math.pi * (i - 0.5) / SIDES - math.pi / 2 for i in range(SIDES)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _add_round(scene: Scene, looks: Attributes) -> None:
    plan = _circle(ROUND_RADIUS)
    _walls(scene, looks, plan)
    top, colour = _eaves(looks), cat.ROOF_COLOURS[looks.roof_colour]
    scene.shadow(plan, top + (4.0 if looks.roof_type != "flat" else 0.0))
    if looks.roof_type == "flat":
        scene.face([(x, y, top) for x, y in plan], Deck(colour, ()))
        return
    steps = 1 if looks.roof_type == "gable" else 5
    paint = Pitched(colour)
    for step in range(steps):
        low, high = (_cap(looks.roof_type, (step + part) / steps) for part in (0, 1))
        inner, outer = _circle(ROUND_RADIUS * high[0]), _circle(ROUND_RADIUS * low[0])
        _band(scene, outer, inner, (top + low[1], top + high[1]), paint)


def _cap(roof_type: str, share: float) -> tuple[float, float]:
    """(share of the radius, metres above the eaves) along a cone's or a dome's outline."""
    if roof_type == "gable":
        return 1.0 - share, 9.0 * share
    angle = share * math.pi / 2
    return math.cos(angle), 0.62 * ROUND_RADIUS * math.sin(angle)


def _band(
    scene: Scene,
    outer: Sequence[Point],
    inner: Sequence[Point],
    heights: tuple[float, float],
    paint: Paint,
) -> None:
    """A belt of faces that looks up and outwards, from ``outer`` (low) to ``inner`` (high)."""
    low, high = heights
    for i, (xa, ya) in enumerate(outer):
        j = (i + 1) % len(outer)
        (xb, yb), (xc, yc), (xd, yd) = outer[j], inner[j], inner[i]
        points = [(xa, ya, low), (xb, yb, low), (xc, yc, high), (xd, yd, high)]
        if math.dist(inner[i], inner[j]) < 1e-6:
            points.pop()
        scene.face(points, paint)


def _add_ring(scene: Scene, looks: Attributes) -> None:
    outer, inner = _circle(RING_RADII[0]), _circle(RING_RADII[1])
    _walls(scene, looks, outer)
    _walls(scene, looks, inner[::-1])
    top, colour = _eaves(looks), cat.ROOF_COLOURS[looks.roof_colour]
    for i, a in enumerate(outer):
        j = (i + 1) % SIDES
        scene.shadow([a, outer[j], inner[j], inner[i]], top)
    if looks.roof_type == "flat":
        _band(scene, outer, inner, (top, top), Deck(colour, ()))
        return
    ridge = _circle(sum(RING_RADII) / 2)
    high = top + 3.6
    _band(scene, outer, ridge, (top, high), Pitched(colour))
    _band(scene, inner[::-1], ridge[::-1], (top, high), Pitched(colour))


def _add_extras(scene: Scene, looks: Attributes) -> None:
    """Panels, vents or a landing pad on the roof."""
    top = _eaves(looks)
    wings = WINGS.get(looks.shape, ((-12.0, -12.0, 12.0, 12.0),))
    for wing in wings:
        if looks.roof_extra == "solar":
            _add_panels(scene, looks, wing)
        elif looks.roof_extra == "vents":
            for x, y in _spots(wing, 6.5):
                scene.box((x - 1.0, y - 1.0, x + 1.0, y + 1.0), top, top + 1.3, (214, 216, 216))
    if looks.roof_extra == "helipad":
        wing = max(wings, key=lambda rect: min(rect[2] - rect[0], rect[3] - rect[1]))
        _add_helipad(scene, ((wing[0] + wing[2]) / 2, (wing[1] + wing[3]) / 2), top + 0.1)


def _spots(wing: Rect, step: float) -> list[Point]:
    """Points on a grid inside a wing, 3 m from its edges."""
    west, south, east, north = wing
    columns = max(1, int((east - west - 6.0) // step) + 1)
    rows = max(1, int((north - south - 6.0) // step) + 1)
    x0, y0 = (west + east - (columns - 1) * step) / 2, (south + north - (rows - 1) * step) / 2
    return [(x0 + i * step, y0 + j * step) for i in range(columns) for j in range(rows)]


def _add_panels(scene: Scene, looks: Attributes, wing: Rect) -> None:
    west, south, east, north = wing
    top = _eaves(looks)
    if looks.roof_type == "flat":
        y = south + 2.2
        while y + 2.0 < north - 1.5:
            low, high = top + 0.3, top + 1.1
            rows = [(west + 2, y, low), (east - 2, y, low), (east - 2, y + 2, high)]
            scene.face([*rows, (west + 2, y + 2, high)], PANELS)
            y += 3.6
        return
    # Slopes: a strip that covers most of the side turned to the sun, just above the tiles.
    rise, lift = ridge_height(wing), 0.15
    if east - west >= north - south:
        y0, y1 = (south + (north - south) / 2 * share for share in (0.25, 0.8))
        z0, z1 = (top + rise * share + lift for share in (0.25, 0.8))
        points = [(west + 3, y0, z0), (east - 3, y0, z0), (east - 3, y1, z1), (west + 3, y1, z1)]
    else:
        x0, x1 = (east - (east - west) / 2 * share for share in (0.25, 0.8))
        z0, z1 = (top + rise * share + lift for share in (0.25, 0.8))
        points = [
            (x0, south + 3, z0),
            (x0, north - 3, z0),
            (x1, north - 3, z1),
            (x1, south + 3, z1),
        ]
    scene.face(points, PANELS)


def _add_helipad(scene: Scene, centre: Point, z: float) -> None:
    x, y = centre
    for radius, colour, lift in ((4.6, (232, 232, 60), 0.0), (3.7, (70, 74, 78), 0.05)):
        disc = [(x + px * radius, y + py * radius, z + lift) for px, py in _circle(1.0)]
        scene.face(disc, Plain(colour))
    for west, south, east, north in ((-1.7, -2, -0.9, 2), (0.9, -2, 1.7, 2), (-1, -0.4, 1, 0.4)):
        letter = corners((x + west, y + south, x + east, y + north))
        scene.face([(px, py, z + 0.1) for px, py in letter], Plain((240, 240, 240)))


def _add_entrance(scene: Scene, looks: Attributes) -> None:
    """A door, a canopy and banners in the accent colour, on the wall that faces south."""
    x, y = door_of(looks.shape)
    accent = cat.ACCENT_COLOURS[looks.accent]
    front = y - 0.15
    scene.face(_upright(x - 1.9, x + 1.9, front, 0.0, 3.0), Plain((60, 58, 56)))
    scene.face(_upright(x - 1.5, x + 1.5, front - 0.05, 0.0, 2.7), Plain(accent))
    scene.box((x - 3.6, front - 2.6, x + 3.6, front), 3.1, 3.6, accent)
    for post in (x - 3.3, x + 3.0):
        scene.box((post, front - 2.5, post + 0.3, front - 2.2), 0.0, 3.1, (210, 210, 210))
    for banner in (x - 6.4, x + 4.8):
        scene.box((banner, front - 0.4, banner + 1.6, front - 0.1), 2.0, 6.2, accent)


def _upright(x0: float, x1: float, y: float, z0: float, z1: float) -> list[Corner]:
    """A rectangle that faces south."""
    return [(x0, y, z0), (x1, y, z0), (x1, y, z1), (x0, y, z1)]
