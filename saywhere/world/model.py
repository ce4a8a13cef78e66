"""The nouns of the procedural world: its configuration, its places and where they lie on disk."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from saywhere.errors import InputError

MAX_PLACES = 1000  # the campus is held in memory: 1000 tiles of 256 px are 200 MB
MIN_TILE_PX, MAX_TILE_PX = 64, 1024
TILE_METRES = (100.0, 200.0)  # buildings and features are sized for a tile of 128 m
MAX_VIEWS = 9


@dataclass(frozen=True, slots=True)
class WorldConfig:
    """What to render. The same configuration gives the same bytes.

    Attributes:
        seed: any integer >= 0.
        places: 2 … 1000 in all.
        test_places: the last so many are held out, 1 … places - 1.
        tile_px: edge of a satellite tile and of every photo, 64 … 1024 pixels.
        ground_resolution_m: metres a satellite pixel; the tile's edge must be 100 … 200 m.
        origin_lat, origin_lon: WGS84 degrees of the campus' north-west corner, |lat| <= 80.
        drone_views, ground_views: photos a place from the air and from the ground, 1 … 9.
    """

    seed: int = 0
    places: int = 120
    test_places: int = 30
    tile_px: int = 256
    ground_resolution_m: float = 0.5
    origin_lat: float = 48.0
    origin_lon: float = 11.0
    drone_views: int = 1
    ground_views: int = 1

    @property
    def tile_m(self) -> float:
        """Edge of a tile in metres."""
        return self.tile_px * self.ground_resolution_m


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a place looks like. Keys of the tables in ``catalogue``.

    ``north``, ``east``, ``south``, ``west`` are the features on that side of the building; the
    ground photo is taken from the south, across the southern one. ``front_trees`` says where trees
    stand in that photo: ``left``, ``right``, ``both`` or ``none``.
    """

    shape: str
    storeys: int
    roof_type: str
    roof_colour: str
    roof_extra: str
    facade: str
    windows: str
    accent: str
    cover: str
    trees: str
    tree_rows: str
    front_trees: str
    sky: str
    north: str
    east: str
    south: str
    west: str

    def items(self) -> tuple[tuple[str, str | int], ...]:
        """(name, value) pairs in the order of declaration."""
        return tuple((field.name, getattr(self, field.name)) for field in fields(self))


@dataclass(frozen=True, slots=True)
class Shot:
    """One photo's camera.

    Attributes:
        platform: ``drone`` or ``ground``.
        number: 1 is the first view.
        east_m, north_m: offset of the camera from the place's centre, metres on the UTM grid.
        height_m: above the ground.
        look_east_m, look_north_m, look_up_m: the point it looks at, same frame.
        view_deg: angle of view across the picture.
        lat, lon: WGS84 degrees of the camera.
    """

    platform: str
    number: int
    east_m: float
    north_m: float
    height_m: float
    look_east_m: float
    look_north_m: float
    look_up_m: float
    view_deg: float
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class WorldPlace:
    """One place.

    Attributes:
        place_id: four digits.
        lat, lon: WGS84 degrees of the tile's centre.
        attributes: what it looks like.
        shots: the cameras of its drone and ground photos.
        held_out: belongs to the test split.
    """

    place_id: str
    lat: float
    lon: float
    attributes: Attributes
    shots: tuple[Shot, ...]
    held_out: bool

    @property
    def description(self) -> str:
        """All attributes in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.attributes.items())


@dataclass(frozen=True, slots=True)
class World:
    """A rendered world on disk.

    Attributes:
        root: the folder that holds it all.
        train_json, test_json: GeoText-1652 entries of the training and of the held-out places.
        track4: the folder with queries and hashed images of the held-out places.
        imagery: the folder with ``satellite/``, ``drone/``, ``ground/``, georeferenced.
        satellite_tif: the whole campus as one GeoTIFF.
        places: in order of place_id.
    """

    root: Path
    train_json: Path
    test_json: Path
    track4: Path
    imagery: Path
    satellite_tif: Path
    places: tuple[WorldPlace, ...]


def check_config(config: WorldConfig) -> None:
    """Raise InputError naming the first value that cannot be rendered."""
    whole = {
        "seed": (0, 2**32 - 1),
        "places": (2, MAX_PLACES),
        "test_places": (1, config.places - 1),
        "tile_px": (MIN_TILE_PX, MAX_TILE_PX),
        "drone_views": (1, MAX_VIEWS),
        "ground_views": (1, MAX_VIEWS),
    }
    for name, (low, high) in whole.items():
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(
                f"{name}={value!r}: not a whole number the world can be drawn with; "
                f"choose {low} … {high}"
            )
    for name, bound in (("origin_lat", 80.0), ("origin_lon", 180.0)):
        value = getattr(config, name)
        if not (math.isfinite(value) and abs(value) <= bound):
            raise InputError(
                f"{name}={value!r}: outside the UTM zones; choose degrees within ±{bound:g}"
            )
    if not TILE_METRES[0] <= config.tile_m <= TILE_METRES[1]:
        raise InputError(
            f"ground_resolution_m={config.ground_resolution_m!r}: with tile_px={config.tile_px} a "
            f"tile is {config.tile_m:g} m wide, too small or too large for a building; choose "
            f"{TILE_METRES[0] / config.tile_px:g} … {TILE_METRES[1] / config.tile_px:g}"
        )
