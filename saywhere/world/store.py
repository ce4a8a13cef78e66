"""``world.json``: what a world on disk consists of, written last and read first."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from saywhere.errors import InputError
from saywhere.world.model import Attributes, Shot, World, WorldConfig, WorldPlace

FORMAT = "saywhere-world-1"
INDEX = "world.json"


def write_json(path: Path, value: object) -> None:
    """Write JSON with a final newline; keys keep their order."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_index(root: Path, config: WorldConfig, epsg: int, places: tuple[WorldPlace, ...]) -> None:
    """Write ``world.json``: configuration, EPSG code of the GeoTIFFs, places and cameras.

    Offsets of cameras (``east_m``, ``north_m``) are metres on the UTM grid from the place's centre,
    heights metres above the ground, ``lat`` and ``lon`` WGS84 degrees.
    """
    value = {
        "format": FORMAT,
        "config": asdict(config),
        "epsg": epsg,
        "places": [asdict(place) for place in places],
    }
    write_json(root / INDEX, value)


def world_at(root: Path, places: tuple[WorldPlace, ...]) -> World:
    """The world under ``root``; every path in one place."""
    return World(
        root=root,
        train_json=root / "geotext" / "train.json",
        test_json=root / "geotext" / "test_world.json",
        track4=root / "track4",
        imagery=root / "imagery",
        satellite_tif=root / "campus.tif",
        places=places,
    )


def read_index(root: Path) -> dict[str, Any]:
    """The parsed ``world.json`` of a world.

    Raises:
        InputError: there is none, or it is not one of this version.
    """
    path = root / INDEX
    remedy = "render a world there first, or name the folder that holds one"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{root}: no readable {INDEX} ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise InputError(f"{path}: its format is not {FORMAT!r}; {remedy}")
    return value


def load_world(root: Path) -> World:
    """Read back what ``render_world`` wrote.

    Raises:
        InputError: ``root`` is not a complete world; the message names what is missing.
    """
    root = Path(root)
    value = read_index(root)
    try:
        places = tuple(_place(entry) for entry in value["places"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{root / INDEX}: a place is incomplete ({error}); render the world again"
        ) from error
    world = world_at(root, places)
    for path in (
        world.train_json,
        world.test_json,
        world.track4,
        world.imagery,
        world.satellite_tif,
    ):
        if not path.exists():
            raise InputError(f"{path}: missing from the world; render the world again")
    return world


def _place(entry: dict[str, Any]) -> WorldPlace:
    return WorldPlace(
        place_id=entry["place_id"],
        lat=entry["lat"],
        lon=entry["lon"],
        attributes=Attributes(**entry["attributes"]),
        shots=tuple(Shot(**shot) for shot in entry["shots"]),
        held_out=entry["held_out"],
    )
