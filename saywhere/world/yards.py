"""The larger features: woods, yards, fields and lines that only fit beside or behind a building."""

from __future__ import annotations

from collections.abc import Callable

from saywhere.world.catalogue import RGB
from saywhere.world.features import FRONT_BUILDERS, SAND, Zone, spaced
from saywhere.world.paints import Grid
from saywhere.world.scene import WHITE, Scene

CONTAINER_COLOURS: tuple[RGB, ...] = (
    *((190, 50, 40), (40, 86, 160), (224, 130, 40), (50, 130, 80), (196, 196, 190)),
)
RAILWAY_REACH_M = 56.0  # the line runs on to the roads at both ends, whatever its zone
LEAF: RGB = (52, 98, 44)


def occupied(kind: str, zone: Zone) -> Zone:
    """The ground a feature takes up: its zone, but a railway is narrow and crosses the tile."""
    if kind != "railway":
        return zone
    middle = (0.0, zone.y) if zone.along_x else (zone.x, 0.0)
    return Zone(*middle, RAILWAY_REACH_M, 8.0, zone.along_x)


def _wood(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(-1.0), (54, 84, 42))
    for a in spaced(zone.half_a, 5.6):
        for b in spaced(zone.half_b, 5.6):
            x, y = zone.at(a, b)
            x, y = x + scene.rng.uniform(-1.4, 1.4), y + scene.rng.uniform(-1.4, 1.4)
            scene.bush(x, y, 6.0 + scene.rng.uniform(-1, 1.5), 4.0, LEAF)


def _orchard(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (150, 160, 90))
    for a in spaced(zone.half_a, 7.0):
        for b in spaced(zone.half_b, 7.0):
            x, y = zone.at(a, b)
            scene.bush(x, y, 2.4, 2.1, (96, 150, 60))


def _containers(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (140, 138, 134))
    for i, a in enumerate(spaced(zone.half_a - 1, 7.0)):
        for j, b in enumerate(spaced(zone.half_b - 1, 3.4)):
            levels = int(scene.rng.integers(0, 3)) if (i + j) % 4 else 2
            for level in range(levels):
                colour = CONTAINER_COLOURS[int(scene.rng.integers(len(CONTAINER_COLOURS)))]
                rect = zone.rect(a - 3.0, b - 1.25, a + 3.0, b + 1.25)
                scene.box(rect, 2.6 * level, 2.6 * level + 2.55, colour)


def _railway(scene: Scene, zone: Zone) -> None:
    base, reach = occupied("railway", zone), RAILWAY_REACH_M
    scene.paint_rect(base.whole(), (126, 114, 102))
    for track in (-3.4, 3.4):
        for a in spaced(reach, 1.4):
            scene.paint_rect(base.rect(a - 0.3, track - 1.5, a + 0.3, track + 1.5), (74, 60, 50))
        for rail in (track - 0.8, track + 0.8):
            scene.line([base.at(-reach, rail), base.at(reach, rail)], (206, 208, 212), 0.3)
    for i in range(4):
        a = -30.0 + 15.5 * i
        scene.box(base.rect(a, 2.0, a + 15.0, 4.8), 0.7, 3.6, (198, 40, 44))
        scene.box(base.rect(a, 1.95, a + 15.0, 4.85), 1.9, 2.8, (40, 44, 52))
        scene.box(base.rect(a + 0.4, 2.3, a + 14.6, 4.5), 3.6, 3.8, (222, 222, 218))


def _solar(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (150, 156, 110))
    panel = Grid((26, 40, 92), (168, 180, 206), 1.8)
    west, south, east, north = zone.whole(1.0)
    y = south
    while y + 2.6 < north:
        scene.face(
            [(west, y, 0.5), (east, y, 0.5), (east, y + 2.6, 2.0), (west, y + 2.6, 2.0)], panel
        )
        scene.shadow([(west, y), (east, y), (east, y + 2.6), (west, y + 2.6)], 1.2)
        y += 4.6


def _tank(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (170, 164, 154))
    radius = min(8.0, zone.half_b - 2.0)
    for a in spaced(zone.half_a, 2 * radius + 2.5):
        x, y = zone.at(a, 0.0)
        scene.cylinder(x, y, radius, 8.0, (238, 238, 234))
        scene.cylinder(x, y, radius * 0.2, 8.8, (150, 156, 162))


def _stadium(scene: Scene, zone: Zone, shrink: float, colour: RGB) -> None:
    """A rectangle with round ends."""
    a, b = zone.half_a - shrink, zone.half_b - shrink
    scene.paint_rect(zone.rect(-a + b, -b, a - b, b), colour)
    for end in (-a + b, a - b):
        scene.ellipse(*zone.at(end, 0.0), b, b, colour)


def _track(scene: Scene, zone: Zone) -> None:
    _stadium(scene, zone, 0.0, (196, 72, 52))
    for lane in (1.2, 2.4, 3.6):
        _stadium(scene, zone, lane, WHITE)
        _stadium(scene, zone, lane + 0.25, (196, 72, 52))
    _stadium(scene, zone, 4.8, (96, 160, 72))


def _pitch(scene: Scene, zone: Zone) -> None:
    light, dark = (104, 172, 78), (72, 138, 60)
    scene.paint_rect(zone.whole(), dark)
    for i, a in enumerate(spaced(zone.half_a, 5.0)):
        scene.paint_rect(
            zone.rect(a - 2.5, -zone.half_b, a + 2.5, zone.half_b), (light, dark)[i % 2]
        )
    a, b = zone.half_a - 1.2, zone.half_b - 1.2
    frame = [zone.at(*point) for point in ((-a, -b), (a, -b), (a, b), (-a, b), (-a, -b))]
    scene.line(frame, WHITE, 0.45)
    scene.line([zone.at(0, -b), zone.at(0, b)], WHITE, 0.45)
    circle = [(4.5 * x / 10, 4.5 * y / 10) for x, y in ((10, 0), (7, 7), (0, 10), (-7, 7))]
    circle += [(-x, -y) for x, y in circle]
    scene.line([zone.at(*point) for point in [*circle, circle[0]]], WHITE, 0.45)
    for side in (-1.0, 1.0):
        box = [(side * a, -5), (side * (a - 5), -5), (side * (a - 5), 5), (side * a, 5)]
        scene.line([zone.at(*point) for point in box], WHITE, 0.45)


def _greenhouse(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (150, 136, 110))
    glass = Grid((190, 226, 220), (250, 252, 252), 1.5)
    for a in spaced(zone.half_a, 8.0):
        west, south, east, north = zone.rect(a - 3.3, -zone.half_b + 1, a + 3.3, zone.half_b - 1)
        scene.prism(
            [(west, south), (east, south), (east, north), (west, north)], 0, 2.2, glass, glass
        )
        if zone.along_x:
            mid = (west + east) / 2
            halves = [
                [(east, south, 2.2), (east, north, 2.2), (mid, north, 4.2), (mid, south, 4.2)],
                [(west, north, 2.2), (west, south, 2.2), (mid, south, 4.2), (mid, north, 4.2)],
            ]
        else:
            mid = (south + north) / 2
            halves = [
                [(west, south, 2.2), (east, south, 2.2), (east, mid, 4.2), (west, mid, 4.2)],
                [(east, north, 2.2), (west, north, 2.2), (west, mid, 4.2), (east, mid, 4.2)],
            ]
        for half in halves:
            scene.face(half, glass)


def _plots(scene: Scene, zone: Zone) -> None:
    colours = ((122, 84, 54), (96, 150, 60), (176, 186, 80), (70, 110, 60), (150, 104, 70))
    scene.paint_rect(zone.whole(), (140, 112, 84))
    for i, a in enumerate(spaced(zone.half_a, 3.4)):
        rect = zone.rect(a - 1.4, -zone.half_b + 0.6, a + 1.4, zone.half_b - 0.6)
        scene.paint_rect(rect, colours[i % 5])


def _sand(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (190, 160, 112))
    for a in spaced(zone.half_a - 3.0, 11.0):
        x, y = zone.at(a, float(scene.rng.uniform(-0.3, 0.3)) * zone.half_b)
        scene.bush(x, y, 0.2, 4.6, SAND)
    x, y = zone.at(-zone.half_a + 5.0, zone.half_b - 4.0)
    scene.box((x - 1.8, y - 1.4, x + 1.8, y + 1.4), 0.6, 2.4, (244, 176, 30))
    scene.box((x + 1.2, y - 0.4, x + 6.0, y + 0.4), 2.4, 3.0, (244, 176, 30))


BUILDERS: dict[str, Callable[[Scene, Zone], None]] = FRONT_BUILDERS | {
    "wood": _wood,
    "orchard": _orchard,
    "containers": _containers,
    "railway": _railway,
    "solar": _solar,
    "tank": _tank,
    "track": _track,
    "pitch": _pitch,
    "greenhouse": _greenhouse,
    "plots": _plots,
    "sand": _sand,
}
