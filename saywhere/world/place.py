"""One place as a scene: ground, roads, paths, the four features, trees and the building."""

from __future__ import annotations

import numpy as np

from saywhere.world import catalogue as cat
from saywhere.world.building import add_building
from saywhere.world.catalogue import RGB
from saywhere.world.features import ASPHALT, Zone
from saywhere.world.footprints import door_of, extent
from saywhere.world.model import Attributes
from saywhere.world.scene import WHITE, Scene
from saywhere.world.yards import BUILDERS, occupied

ROAD_HALF_M = 4.0
PAVEMENT: RGB = (188, 184, 178)
PATH: RGB = (206, 198, 184)
EDGE_M = 56.0  # features and trees keep this far from the tile's centre at most


def zones(shape: str) -> dict[str, Zone]:
    """Where the features of the four sides lie for a building plan."""
    west, south, east, north = extent(shape)
    gap = 4.0
    back = min(22.0, EDGE_M - north - gap)
    side_w, side_e = (min(20.0, EDGE_M - abs(edge) - gap) for edge in (west, east))
    deep = 15.0
    return {
        "north": Zone(0.0, north + gap + back / 2, 29.0, back / 2, along_x=True),
        "south": Zone(0.0, south - 6.0 - deep / 2, 18.0, deep / 2, along_x=True),
        "west": Zone(west - gap - side_w / 2, 0.0, 26.0, side_w / 2, along_x=False),
        "east": Zone(east + gap + side_e / 2, 0.0, 26.0, side_e / 2, along_x=False),
    }


def _add_roads(scene: Scene) -> None:
    """Half of each road that the tile shares with its neighbours."""
    half = scene.span_m / 2
    for sign in (-1.0, 1.0):
        edge = sign * half
        walk, kerb = sign * (half - ROAD_HALF_M - 1.6), sign * (half - ROAD_HALF_M)
        scene.paint_rect((-half, walk, half, edge), PAVEMENT)
        scene.paint_rect((walk, -half, edge, half), PAVEMENT)
        scene.paint_rect((-half, kerb, half, edge), ASPHALT)
        scene.paint_rect((kerb, -half, edge, half), ASPHALT)
    for sign in (-1.0, 1.0):
        line = sign * (half - 0.15)
        for start in np.arange(-half + 9.0, half - 9.0, 6.0):
            scene.paint_rect((start, line - 0.2, start + 3.0, line + 0.2), WHITE)
            scene.paint_rect((line - 0.2, start, line + 0.2, start + 3.0), WHITE)


def _add_paths(scene: Scene, looks: Attributes) -> None:
    half = scene.span_m / 2 - ROAD_HALF_M
    x, y = door_of(looks.shape)
    front = extent(looks.shape)[1]
    path = PATH if looks.cover != "paving" else (150, 140, 134)
    scene.line([(x, y), (x, front - 4.0), (24.0, front - 4.0), (24.0, -half)], path, 3.0)


def _add_trees(scene: Scene, looks: Attributes) -> None:
    """Trees in the free corners, along the edges or nowhere, and those beside the facade."""
    taken = [
        occupied(getattr(looks, side), zone).whole(-3.0)
        for side, zone in zones(looks.shape).items()
        if getattr(looks, side) != cat.NOTHING
    ]
    if looks.tree_rows == "lined":
        steps = np.arange(-53.0, 54.0, 10.6)
        spots = [(float(s), e) for s in steps for e in (-53.0, 53.0)]
        spots += [(e, float(s)) for s in steps[1:-1] for e in (-53.0, 53.0)]
    elif looks.tree_rows == "few":
        turns = scene.rng.uniform(-6.0, 6.0, (6, 2))
        middle = ((-46, 46), (46, 46), (-46, -44), (46, -46), (-40, 40), (42, -38))
        spots = [
            (x + float(dx), y + float(dy)) for (x, y), (dx, dy) in zip(middle, turns, strict=True)
        ]
    else:
        spots = []
    front = extent(looks.shape)[1]
    for x, y in spots:
        # The corridor between the ground camera and the facade stays open.
        in_view = abs(x) < 24.0 and y < front
        if not in_view and not any(w < x < e and s < y < n for w, s, e, n in taken):
            scene.tree(x, y, looks.trees, float(scene.rng.uniform(8.0, 11.0)))
    sides = {"left": (-1,), "right": (1,), "both": (-1, 1), "none": ()}[looks.front_trees]
    for side in sides:
        scene.tree(side * 12.5, front - 4.2, looks.trees, 8.5)


def _colour_of_cover(looks: Attributes, rng: np.random.Generator) -> RGB:
    shade = float(rng.uniform(0.93, 1.05))
    red, green, blue = (min(255, round(part * shade)) for part in cat.COVER_COLOURS[looks.cover])
    return red, green, blue


def build_scene(looks: Attributes, span_m: float, rng: np.random.Generator) -> Scene:
    """The scene of one place on a tile of ``span_m`` metres."""
    scene = Scene(span_m, _colour_of_cover(looks, rng), rng)
    _add_roads(scene)
    _add_paths(scene, looks)
    for side, zone in zones(looks.shape).items():
        kind = getattr(looks, side)
        if kind != cat.NOTHING:
            BUILDERS[kind](scene, zone)
    _add_trees(scene, looks)
    add_building(scene, looks)
    return scene


def empty_scene(span_m: float, rng: np.random.Generator) -> Scene:
    """A meadow between roads, for the cells of the grid that hold no place."""
    scene = Scene(span_m, cat.COVER_COLOURS["lawn"], rng)
    _add_roads(scene)
    for x, y in rng.uniform(-46.0, 46.0, (14, 2)):
        scene.tree(float(x), float(y), "leafy", float(rng.uniform(7.0, 11.0)))
    return scene
