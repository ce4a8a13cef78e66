"""From a seed to places: which attributes each has, where it lies and where its cameras stand."""

from __future__ import annotations

import math

import numpy as np

from saywhere.world import catalogue as cat
from saywhere.world.footprints import STOREY_M, front_of
from saywhere.world.model import Attributes, Shot, WorldConfig, WorldPlace

CANDIDATES = 16  # draws a place; the one least like its predecessors is kept
DRONE_BACK_M, DRONE_HEIGHT_M, DRONE_VIEW_DEG = 64.0, 112.0, 52.0
GROUND_BACK_M, GROUND_HEIGHT_M = 28.0, 1.8
# What all pictures of a place show best counts most when places are compared.
WEIGHTS = {"shape": 3, "roof_colour": 3, "facade": 3, "south": 3, "north": 2, "east": 2, "west": 2}

Rng = np.random.Generator
# east, north, height of the camera and of its target in metres; angle of view
Camera = tuple[float, float, float, float, float, float, float]
Items = frozenset[tuple[str, str | int]]


def grid_columns(places: int) -> int:
    """Columns (and rows) of the smallest square grid that holds all places."""
    return math.ceil(math.sqrt(places))


def utm_epsg(lat: float, lon: float) -> int:
    """EPSG code of the WGS84 / UTM zone of a position (zones of 6°, without the exceptions)."""
    zone = min(int((lon + 180.0) // 6.0) + 1, 60)
    return (32600 if lat >= 0 else 32700) + zone


def campus_corner(config: WorldConfig) -> tuple[float, float]:
    """(easting, northing) in metres of the north-west corner, rounded to whole metres."""
    from rasterio.warp import transform

    epsg = utm_epsg(config.origin_lat, config.origin_lon)
    east, north = transform("EPSG:4326", f"EPSG:{epsg}", [config.origin_lon], [config.origin_lat])[
        :2
    ]
    return float(round(east[0])), float(round(north[0]))


def tile_corner(
    config: WorldConfig, corner: tuple[float, float], index: int
) -> tuple[float, float]:
    """(easting, northing) in metres of the north-west corner of tile ``index``, row by row."""
    row, column = divmod(index, grid_columns(config.places))
    return corner[0] + column * config.tile_m, corner[1] - row * config.tile_m


def _pick(rng: Rng, values: tuple[str, ...]) -> str:
    return values[int(rng.integers(len(values)))]


def _extras(shape: str, roof_type: str) -> tuple[str, ...]:
    """What can stand on a roof."""
    if shape == "ring" or roof_type == "hip":
        return ("none",)
    if roof_type == "flat":
        return tuple(cat.ROOF_EXTRAS)
    return ("none",) if shape == "round" else ("none", "solar")


def _draw(rng: Rng) -> Attributes:
    """One combination of attributes; one of three sides stays free."""
    shape = _pick(rng, tuple(cat.SHAPES))
    roof_type = _pick(rng, tuple(cat.ROOF_TYPES))
    south = _pick(rng, cat.FRONT_FEATURES)
    others = [kind for kind in cat.SIDE_FEATURES if kind != south]
    two = [others[i] for i in rng.choice(len(others), 2, replace=False)]
    north, east, west = (([*two, cat.NOTHING])[i] for i in rng.permutation(3))
    storeys = int(rng.integers(9, 14)) if shape == "tower" else int(rng.integers(2, 6))
    return Attributes(
        shape=shape,
        storeys=storeys,
        roof_type=roof_type,
        roof_colour=_pick(rng, tuple(cat.ROOF_COLOURS)),
        roof_extra=_pick(rng, _extras(shape, roof_type)),
        facade=_pick(rng, tuple(cat.FACADES)),
        windows=_pick(rng, tuple(cat.WINDOWS)),
        accent=_pick(rng, tuple(cat.ACCENTS)),
        cover=_pick(rng, tuple(cat.COVERS)),
        trees=_pick(rng, tuple(cat.TREES)),
        tree_rows=_pick(rng, cat.TREE_ROWS),
        front_trees=_pick(rng, cat.FRONT_TREES),
        sky=_pick(rng, tuple(cat.SKIES)),
        north=north,
        east=east,
        south=south,
        west=west,
    )


def _novelty(items: Items, earlier: list[Items], known: Items) -> int:
    """Low is good: weight shared with the closest earlier place, values training never showed."""
    shared = (items & other for other in earlier)
    nearest = max((sum(WEIGHTS.get(name, 1) for name, _ in pair) for pair in shared), default=0)
    unseen = len(items - known) if known else 0
    return nearest + 100 * unseen


def _items(looks: Attributes) -> Items:
    return frozenset(item for item in looks.items() if item[1] != cat.NOTHING)


def draw_attributes(config: WorldConfig) -> list[Attributes]:
    """Attributes of all places: pairwise far apart, held-out ones made of values seen in training.

    Best-candidate sampling (Mitchell 1991, "Spectrally optimal sampling for distribution ray
    tracing"): of several draws the one farthest from all earlier places is kept.
    """
    rng = np.random.default_rng((config.seed, 1))
    drawn: list[Attributes] = []
    earlier: list[Items] = []
    known: Items = frozenset()
    for index in range(config.places):
        if index == config.places - config.test_places:
            known = frozenset().union(*earlier)
        candidates = [_draw(rng) for _ in range(CANDIDATES)]
        best = min(candidates, key=lambda one: _novelty(_items(one), earlier, known))
        drawn.append(best)
        earlier.append(_items(best))
    return drawn


def _drone_shot(number: int, rng: Rng, looks: Attributes) -> Camera:
    """Camera and target of one drone photo: from the south, up to 20° to either side."""
    swing = math.radians(float(rng.uniform(-20.0, 20.0)) if number == 1 else 5.0 * (number - 5.5))
    reach = 1.12 if looks.shape == "tower" else 1.0
    east, north = reach * DRONE_BACK_M * math.sin(swing), -reach * DRONE_BACK_M * math.cos(swing)
    return east, north, reach * DRONE_HEIGHT_M, 0.0, 3.0, 0.0, DRONE_VIEW_DEG


def _ground_shot(number: int, rng: Rng, looks: Attributes) -> Camera:
    """Camera and target of one ground photo: 28 m south of the facade, a tower 38 m."""
    aside = float(rng.uniform(-3.0, 3.0)) + (number - 1) * (-1.0) ** number
    front = front_of(looks.shape)
    back = GROUND_BACK_M + (10.0 if looks.shape == "tower" else 0.0)
    height = looks.storeys * STOREY_M
    look_up = 0.42 * height if looks.shape == "tower" else 2.9 + 0.24 * height
    view = 76.0 if looks.shape == "tower" else 66.0
    return aside, front - back, GROUND_HEIGHT_M, aside / 2, front, look_up, view


def _cameras(config: WorldConfig, index: int, looks: Attributes) -> list[tuple[str, int, Camera]]:
    """(platform, number, camera) of a place's photos."""
    rng = np.random.default_rng((config.seed, 2, index))
    drone = [("drone", i, _drone_shot(i, rng, looks)) for i in _numbers(config.drone_views)]
    ground = [("ground", i, _ground_shot(i, rng, looks)) for i in _numbers(config.ground_views)]
    return drone + ground


def plan_world(config: WorldConfig) -> tuple[WorldPlace, ...]:
    """All places of a world with coordinates and cameras, nothing rendered yet."""
    from rasterio.warp import transform

    corner = campus_corner(config)
    utm = f"EPSG:{utm_epsg(config.origin_lat, config.origin_lon)}"
    places = []
    for index, looks in enumerate(draw_attributes(config)):
        left, top = tile_corner(config, corner, index)
        east, north = left + config.tile_m / 2, top - config.tile_m / 2
        cameras = _cameras(config, index, looks)
        easts = [east, *(east + camera[0] for _, _, camera in cameras)]
        norths = [north, *(north + camera[1] for _, _, camera in cameras)]
        lons, lats = transform(utm, "EPSG:4326", easts, norths)[:2]
        shots = tuple(
            Shot(platform, number, *camera, lat=lat, lon=lon)
            for (platform, number, camera), lat, lon in zip(
                cameras, lats[1:], lons[1:], strict=True
            )
        )
        held_out = index >= config.places - config.test_places
        places.append(WorldPlace(f"{index:04d}", lats[0], lons[0], looks, shots, held_out))
    return tuple(places)


def _numbers(count: int) -> range:
    return range(1, count + 1)
