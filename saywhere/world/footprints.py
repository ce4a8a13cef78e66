"""Building plans: axis-parallel wings in metres from the tile's centre, x east and y north."""

from __future__ import annotations

Rect = tuple[float, float, float, float]  # west, south, east, north

STOREY_M = 3.4  # height of one storey
RING_RADII = (25.0, 13.0)
ROUND_RADIUS = 19.0

WINGS: dict[str, tuple[Rect, ...]] = {
    "slab": ((-30, -9, 30, 9),),
    "l": ((-27, -22, 27, -7), (-27, -22, -12, 22)),
    "u": ((-27, -22, 27, -9), (-27, -22, -14, 22), (14, -22, 27, 22)),
    "t": ((-29, -22, 29, -8), (-7, -22, 7, 24)),
    "h": ((-27, -23, -14, 23), (14, -23, 27, 23), (-27, -7, 27, 7)),
    "cross": ((-27, -7, 27, 7), (-7, -25, 7, 25)),
    "court": ((-26, -24, 26, -13), (-26, 13, 26, 24), (-26, -24, -15, 24), (15, -24, 26, 24)),
    "comb": ((-29, -22, 29, -11), (-29, -22, -19, 22), (-5, -22, 5, 22), (19, -22, 29, 22)),
    "stepped": ((-28, -23, -9, -5), (-13, -10, 9, 9), (5, 4, 27, 22)),
    "twin": ((-26, -12, -6, 10), (6, -12, 26, 10)),
    "tower": ((-11, -11, 11, 11),),
}


def extent(shape: str) -> Rect:
    """Bounding box (west, south, east, north) of a plan, metres from the tile's centre."""
    if shape in {"ring", "round"}:
        radius = RING_RADII[0] if shape == "ring" else ROUND_RADIUS
        return (-radius, -radius, radius, radius)
    wings = WINGS[shape]
    return (
        min(wing[0] for wing in wings),
        min(wing[1] for wing in wings),
        max(wing[2] for wing in wings),
        max(wing[3] for wing in wings),
    )


def front_of(shape: str) -> float:
    """Northing of the southernmost wall in metres: what the ground photo is taken of."""
    return extent(shape)[1]


def door_of(shape: str) -> tuple[float, float]:
    """(x, y) of the main door: in the wall that faces south at x = 0, else of the first wing."""
    if shape in {"ring", "round"}:
        return 0.0, front_of(shape)
    through = [wing for wing in WINGS[shape] if wing[0] < 0.0 < wing[2]]
    if shape in {"stepped", "twin"}:
        first = WINGS[shape][0]
        return (first[0] + first[2]) / 2, first[1]
    return 0.0, min(wing[1] for wing in through)
