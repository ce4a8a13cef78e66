"""What lies around a building: each feature paints its zone and stands things on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin

from saywhere.world.catalogue import RGB
from saywhere.world.paints import Plain
from saywhere.world.scene import WHITE, Point, Scene, corners

ASPHALT: RGB = (92, 94, 98)
STONE: RGB = (190, 186, 176)
SAND: RGB = (222, 198, 140)
WATER: RGB = (58, 112, 150)
TURQUOISE: RGB = (64, 200, 212)
CAR_COLOURS: tuple[RGB, ...] = (
    *((200, 30, 34), (236, 236, 236), (40, 42, 48), (40, 80, 170)),
    *((150, 154, 160), (226, 190, 40), (70, 120, 80)),
)
PLAY_COLOURS: tuple[RGB, ...] = ((216, 40, 40), (40, 90, 210), (240, 200, 40), (50, 160, 70))


@dataclass(frozen=True, slots=True)
class Zone:
    """A rectangle of ground, metres. a runs along it, b across; both start at its centre."""

    x: float
    y: float
    half_a: float
    half_b: float
    along_x: bool

    def at(self, a: float, b: float) -> Point:
        """(x, y) of local (a, b)."""
        return (self.x + a, self.y + b) if self.along_x else (self.x + b, self.y + a)

    def rect(self, a0: float, b0: float, a1: float, b1: float) -> tuple[float, ...]:
        """(west, south, east, north) of a local rectangle."""
        (xa, ya), (xb, yb) = self.at(a0, b0), self.at(a1, b1)
        return min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb)

    def whole(self, margin: float = 0.0) -> tuple[float, ...]:
        """The zone as (west, south, east, north), ``margin`` metres smaller on all sides."""
        a, b = self.half_a - margin, self.half_b - margin
        return self.rect(-a, -b, a, b)


def spaced(half: float, step: float) -> list[float]:
    """Positions ``step`` apart, centred, within ±half."""
    count = max(1, int(2 * half // step))
    return [(i - (count - 1) / 2) * step for i in range(count)]


def _pond(scene: Scene, zone: Zone) -> None:
    west, south, east, north = zone.whole(1.0)
    rx, ry = (east - west) / 2, (north - south) / 2
    shift = float(scene.rng.uniform(-0.2, 0.2))
    for grow, colour in ((1.0, (150, 142, 112)), (0.93, WATER), (0.6, (46, 96, 138))):
        scene.ellipse(zone.x - rx * 0.3, zone.y, rx * 0.66 * grow, ry * grow, colour)
        scene.ellipse(
            zone.x + rx * 0.38, zone.y + shift * ry, rx * 0.58 * grow, ry * 0.74 * grow, colour
        )


def _car(scene: Scene, x: float, y: float, along_x: bool) -> None:
    colour = CAR_COLOURS[int(scene.rng.integers(len(CAR_COLOURS)))]
    dx, dy = (2.2, 0.95) if along_x else (0.95, 2.2)
    scene.box((x - dx, y - dy, x + dx, y + dy), 0.25, 0.95, colour)
    dx, dy = (1.2, 0.8) if along_x else (0.8, 1.2)
    cabin = (x - dx, y - dy, x + dx, y + dy)
    scene.prism(corners(cabin), 0.95, 1.5, Plain((44, 54, 66)), Plain(colour))


def _parking(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), ASPHALT)
    rows = (-1.0, 1.0) if zone.half_b > 6.5 else (0.0,)
    for side in rows:
        middle = side * (zone.half_b - 3.4)
        for a in spaced(zone.half_a - 1.0, 3.1):
            for edge in (a - 1.55, a + 1.55):
                scene.line([zone.at(edge, middle - 2.7), zone.at(edge, middle + 2.7)], WHITE, 0.2)
            if scene.rng.random() < 0.75:
                _car(scene, *zone.at(a, middle), along_x=not zone.along_x)


def _fountain(scene: Scene, zone: Zone) -> None:
    radius = zone.half_b
    scene.ellipse(zone.x, zone.y, radius, radius, (214, 206, 192))
    scene.ellipse(zone.x, zone.y, radius * 0.86, radius * 0.86, STONE)
    scene.cylinder(zone.x, zone.y, radius * 0.58, 0.8, (226, 222, 212))
    disc = Plain((84, 170, 214), 0.12)
    ring = _disc(zone.x, zone.y, radius * 0.5, 0.85)
    scene.face(ring, disc)
    scene.cylinder(zone.x, zone.y, 0.8, 2.2, (226, 222, 212))
    for height, radius_m in ((2.4, 1.3), (3.4, 1.0), (4.2, 0.7)):
        scene.spray(zone.x, zone.y, height, radius_m)


def _disc(x: float, y: float, radius: float, z: float) -> list[tuple[float, float, float]]:
    turns = [2 * pi * i / 18 for i in range(18)]
    return [(x + radius * cos(turn), y + radius * sin(turn), z) for turn in turns]


def _playground(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), SAND)
    for i, a in enumerate(spaced(zone.half_a - 2.0, 6.5)):
        colour = PLAY_COLOURS[i % 4]
        b = (-0.3 if i % 2 else 0.3) * zone.half_b
        x, y = zone.at(a, b)
        for dx in (-1.5, 1.3):
            for dy in (-1.5, 1.3):
                scene.box((x + dx, y + dy, x + dx + 0.25, y + dy + 0.25), 0.0, 2.6, colour)
        scene.box((x - 1.6, y - 1.6, x + 1.6, y + 1.6), 1.3, 1.6, PLAY_COLOURS[(i + 1) % 4])
        scene.box((x - 1.7, y - 1.7, x + 1.7, y + 1.7), 2.6, 2.9, PLAY_COLOURS[(i + 2) % 4])
        slide = Plain(PLAY_COLOURS[(i + 2) % 4])
        scene.face(
            [
                (x - 0.7, y - 4.6, 0.1),
                (x + 0.7, y - 4.6, 0.1),
                (x + 0.7, y - 1.6, 1.5),
                (x - 0.7, y - 1.6, 1.5),
            ],
            slide,
        )


def _statue(scene: Scene, zone: Zone) -> None:
    radius = zone.half_b
    for share, colour in ((1.0, (206, 150, 120)), (0.8, (226, 220, 206)), (0.5, (206, 150, 120))):
        scene.ellipse(zone.x, zone.y, radius * share, radius * share, colour)
    x, y = zone.x, zone.y
    scene.box((x - 1.6, y - 1.6, x + 1.6, y + 1.6), 0.0, 0.6, STONE)
    scene.box((x - 1.1, y - 1.1, x + 1.1, y + 1.1), 0.6, 2.6, (216, 210, 196))
    bronze = (60, 74, 62)
    for side in (-0.5, 0.15):
        scene.box((x + side, y - 0.25, x + side + 0.36, y + 0.25), 2.6, 4.0, bronze)
    scene.box((x - 0.6, y - 0.35, x + 0.6, y + 0.35), 4.0, 5.4, bronze)
    scene.box((x + 0.6, y - 0.2, x + 0.9, y + 0.2), 4.6, 6.6, bronze)
    scene.box((x - 0.3, y - 0.3, x + 0.3, y + 0.3), 5.5, 6.2, bronze)


def _flowers(scene: Scene, zone: Zone) -> None:
    colours = ((214, 40, 70), (246, 206, 50), (170, 70, 190), (244, 130, 180), (250, 250, 244))
    scene.paint_rect(zone.whole(), (104, 130, 70))
    for i, b in enumerate(spaced(zone.half_b, 3.6)):
        red, green, blue = colours[(i + 1) % 5]
        scene.box(
            zone.rect(-zone.half_a + 1, b - 1.3, zone.half_a - 1, b + 1.3), 0.0, 0.35, (60, 96, 44)
        )
        for a in spaced(zone.half_a - 1.0, 1.9):
            x, y = zone.at(a, b)
            scene.bush(x, y, 0.45, 1.0, (red, green, blue))


def _court(scene: Scene, zone: Zone, inner: RGB, outer: RGB) -> Zone:
    """A court with white lines in the middle of a zone; returns the court proper."""
    scene.paint_rect(zone.whole(), outer)
    a = min(zone.half_a - 2.0, 1.9 * (zone.half_b - 1.5))
    court = Zone(zone.x, zone.y, a, zone.half_b - 1.5, zone.along_x)
    scene.paint_rect(court.whole(), WHITE)
    scene.paint_rect(court.whole(0.35), inner)
    return court


def _tennis(scene: Scene, zone: Zone) -> None:
    court = _court(scene, zone, (44, 96, 176), (70, 130, 96))
    a, b = court.half_a, court.half_b
    for side in (-0.72, 0.72):
        scene.line([court.at(-a, side * b), court.at(a, side * b)], WHITE, 0.35)
    for part in (-0.5, 0.5):
        scene.line([court.at(part * a, -0.72 * b), court.at(part * a, 0.72 * b)], WHITE, 0.35)
    scene.line([court.at(-0.5 * a, 0), court.at(0.5 * a, 0)], WHITE, 0.35)
    scene.box(court.rect(-0.1, -b - 0.6, 0.1, b + 0.6), 0.0, 1.1, (236, 236, 236))


def _basketball(scene: Scene, zone: Zone) -> None:
    court = _court(scene, zone, (190, 70, 56), (120, 52, 48))
    a, b = court.half_a, court.half_b
    scene.line([court.at(0, -b), court.at(0, b)], WHITE, 0.35)
    for radius, colour in ((0.32 * b, WHITE), (0.25 * b, (190, 70, 56))):
        scene.ellipse(court.x, court.y, radius, radius, colour)
    for side in (-1.0, 1.0):
        scene.paint_rect(court.rect(side * a, -0.3 * b, side * 0.66 * a, 0.3 * b), (240, 190, 90))
        x, y = court.at(side * (a - 0.4), 0.0)
        scene.box((x - 0.15, y - 0.15, x + 0.15, y + 0.15), 0.0, 3.0, (70, 70, 74))
        scene.box((x - 0.9, y - 0.2, x + 0.9, y + 0.2), 2.8, 4.2, (244, 244, 244))


def _pool(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (224, 214, 194))
    a, b = min(zone.half_a - 2.0, 2.2 * zone.half_b), zone.half_b - 2.0
    scene.paint_rect(zone.rect(-a, -b, a, b), (246, 246, 246))
    scene.paint_rect(zone.rect(-a + 0.5, -b + 0.5, a - 0.5, b - 0.5), TURQUOISE)
    for lane in spaced(b - 0.5, 2.2):
        scene.line([zone.at(-a + 1, lane), zone.at(a - 1, lane)], (28, 110, 170), 0.3)
    for i, place in enumerate(spaced(a, 5.0)):
        scene.box(
            zone.rect(place - 0.9, b + 0.5, place + 0.9, b + 1.2), 0.3, 0.5, PLAY_COLOURS[i % 4]
        )


def _bus(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (120, 120, 122))
    scene.paint_rect(zone.rect(-zone.half_a, 3.0, zone.half_a, zone.half_b), (176, 172, 166))
    yellow, dark = Plain((244, 190, 24)), Plain((36, 44, 54))
    x, y = zone.at(-4.2, 1.0)
    scene.prism(corners((x - 6, y - 1.3, x + 6, y + 1.3)), 0.35, 1.4, yellow, yellow)
    scene.prism(corners((x - 6, y - 1.28, x + 6, y + 1.28)), 1.4, 2.4, dark, dark)
    scene.prism(corners((x - 6, y - 1.3, x + 6, y + 1.3)), 2.4, 2.9, yellow, yellow)
    for wheel in (-4.0, 3.6):
        scene.box((x + wheel, y - 1.34, x + wheel + 1.0, y + 1.34), 0.0, 0.9, (24, 24, 26))
    x, y = zone.at(6.4, 3.6)
    for post in (-3.0, 2.8):
        scene.box((x + post, y, x + post + 0.2, y + 1.6), 0.0, 2.6, (200, 40, 40))
    scene.box((x - 3.4, y - 0.4, x + 3.4, y + 2.0), 2.6, 2.85, (200, 40, 40))
    scene.box((x - 2.8, y + 1.5, x + 2.8, y + 1.6), 0.3, 2.4, (160, 200, 214))


def _hedges(scene: Scene, zone: Zone) -> None:
    scene.paint_rect(zone.whole(), (206, 190, 158))
    dark: RGB = (44, 84, 40)
    for a in spaced(zone.half_a, 9.6):
        half, deep = 4.2, zone.half_b - 0.8
        for rect in (
            (a - half, -deep, a + half, -deep + 1.2),
            (a - half, deep - 1.2, a + half, deep),
            (a - half, -deep, a - half + 1.2, deep),
            (a + half - 1.2, -deep, a + half, deep),
        ):
            scene.box(zone.rect(*rect), 0.0, 0.9, dark)
        x, y = zone.at(a, 0.0)
        scene.bush(x, y, 0.9, 1.5, dark)


FRONT_BUILDERS: dict[str, Callable[[Scene, Zone], None]] = {
    "pond": _pond,
    "parking": _parking,
    "fountain": _fountain,
    "playground": _playground,
    "statue": _statue,
    "flowers": _flowers,
    "tennis": _tennis,
    "basketball": _basketball,
    "pool": _pool,
    "bus": _bus,
    "hedges": _hedges,
}
