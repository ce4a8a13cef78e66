"""Renders a world and writes it: GeoText layout, Track 4 layout, georeferenced imagery, index."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from saywhere.errors import InputError
from saywhere.files import temporary_folder
from saywhere.types import PLATFORMS, Platform
from saywhere.world.georef import shot_exif, write_geotiff, write_jpeg
from saywhere.world.layout import campus_corner, grid_columns, plan_world, tile_corner, utm_epsg
from saywhere.world.model import Shot, World, WorldConfig, WorldPlace, check_config
from saywhere.world.place import build_scene, empty_scene
from saywhere.world.render import Pixels, Terrain, drone_view, ground_view, satellite_view
from saywhere.world.store import load_world, read_index, world_at, write_index, write_json
from saywhere.world.words import caption, query

TEST_FOLDER = "test/query(701)"
SENTENCES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One rendered image; ``shot`` is None for a satellite tile."""

    place: WorldPlace
    platform: Platform
    number: int
    pixels: Pixels
    shot: Shot | None

    @property
    def name(self) -> str:
        """File name as University-1652 has it: the platform can be read from it."""
        if self.platform is Platform.DRONE:
            return f"image-{self.number:02d}.jpeg"
        return f"{self.place.place_id if self.shot is None else self.number}.jpg"


def render_world(out: Path, config: WorldConfig) -> World:
    """Render a world into ``out``; the folder appears complete or not at all.

    A world of the same configuration that is already there is loaded instead. GeoTIFFs are in the
    UTM zone of the origin, north up; a place's lat and lon are its tile's centre. Drone cameras
    hover 64 m (a tower: 72 m) from the centre, south of it within 20° to either side, 112 m (125 m)
    high. Ground cameras stand 28 m (38 m) south of the southernmost wall, 1.8 m high, up to 11 m
    aside. ``WorldPlace.shots``, ``world.json`` and the EXIF in ``imagery/`` give each exactly.

    Raises:
        InputError: a value of the configuration, or an ``out`` that holds something else.
    """
    check_config(config)
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        return _existing(out, config)
    with temporary_folder(out.parent) as part:
        places = plan_world(config)
        _write_all(part, config, places)
        part.replace(out)
    return world_at(out, places)


def _existing(out: Path, config: WorldConfig) -> World:
    """The world at ``out`` if it is the one that is asked for."""
    try:
        found = read_index(out)["config"]
    except (InputError, KeyError) as error:
        raise InputError(
            f"{out}: already there and not a world; choose another folder or remove it"
        ) from error
    if found != asdict(config):
        raise InputError(
            f"{out}: holds a world of another configuration; choose another folder or remove it"
        )
    return load_world(out)


def _write_all(root: Path, config: WorldConfig, places: tuple[WorldPlace, ...]) -> None:
    campus = _campus(config, places)
    epsg, corner = utm_epsg(config.origin_lat, config.origin_lon), campus_corner(config)
    write_geotiff(root / "campus.tif", campus, epsg, corner, config.ground_resolution_m)
    for platform in PLATFORMS:
        (root / "imagery" / platform).mkdir(parents=True)
    entries: dict[bool, list[dict[str, object]]] = {False: [], True: []}
    held_out: list[tuple[Picture, Path]] = []
    for index, place in enumerate(places):
        for picture in _pictures(config, place, index, campus):
            entry = _write_geotext(root / "geotext", config, picture)
            entries[place.held_out].append(entry)
            _write_imagery(root / "imagery", config, picture, tile_corner(config, corner, index))
            if place.held_out:
                held_out.append((picture, root / "geotext" / "images" / str(entry["image"])))
    write_json(root / "geotext" / "train.json", entries[False])
    write_json(root / "geotext" / "test_world.json", entries[True])
    _write_track4(root / "track4", config, held_out)
    write_index(root, config, epsg, places)


def _rng(config: WorldConfig, *purpose: int) -> np.random.Generator:
    return np.random.default_rng((config.seed, *purpose))


def _window(config: WorldConfig, index: int) -> tuple[int, int]:
    """(column, row) in pixels of a tile's north-west corner on the campus map."""
    row, column = divmod(index, grid_columns(config.places))
    return column * config.tile_px, row * config.tile_px


def _campus(config: WorldConfig, places: tuple[WorldPlace, ...]) -> Pixels:
    """All tiles in one picture, (n, n, 3) uint8; cells without a place are meadows."""
    cells = grid_columns(config.places)
    campus = np.zeros((cells * config.tile_px, cells * config.tile_px, 3), dtype=np.uint8)
    for index in range(cells * cells):
        rng = _rng(config, 3, index)
        if index < len(places):
            scene = build_scene(places[index].attributes, config.tile_m, rng)
        else:
            scene = empty_scene(config.tile_m, rng)
        column, row = _window(config, index)
        tile = satellite_view(scene, scene.ground(), config.tile_px)
        campus[row : row + config.tile_px, column : column + config.tile_px] = tile
    return campus


def _pictures(
    config: WorldConfig, place: WorldPlace, index: int, campus: Pixels
) -> Iterator[Picture]:
    """The pictures of one place: satellite, then drone, then ground."""
    size = config.tile_px
    column, row = _window(config, index)
    tile = campus[row : row + size, column : column + size]
    yield Picture(place, Platform.SATELLITE, 1, tile, None)
    scene = build_scene(place.attributes, config.tile_m, _rng(config, 3, index))
    terrain = Terrain(scene.ground(), config.tile_m, campus, (column, row), size)
    for shot in place.shots:
        if shot.platform == Platform.DRONE:
            pixels = drone_view(scene, terrain, shot, size)
        else:
            pixels = ground_view(scene, terrain, shot, size, place.attributes.sky)
        yield Picture(place, Platform(shot.platform), shot.number, pixels, shot)


def _text_rng(config: WorldConfig, purpose: int, picture: Picture) -> np.random.Generator:
    platform = PLATFORMS.index(picture.platform)
    return _rng(config, purpose, int(picture.place.place_id), platform, picture.number)


def _write_geotext(root: Path, config: WorldConfig, picture: Picture) -> dict[str, object]:
    """Write one image and return its GeoText-1652 entry."""
    place = picture.place
    folder = TEST_FOLDER if place.held_out else "train"
    image = f"{folder}/{place.place_id}/{picture.name}"
    path = root / "images" / image
    path.parent.mkdir(parents=True, exist_ok=True)
    write_jpeg(path, picture.pixels)
    sentences = caption(place.attributes, picture.platform, _text_rng(config, 4, picture))
    text = " ".join(sentences)
    return {
        "image_id": f"{place.place_id}/{picture.name}",
        "image": image,
        "caption": [text] if place.held_out else text,
        "sentences": [*sentences, *[None] * (SENTENCES - len(sentences))],
        "bboxes": [None] * SENTENCES,
    }


def _write_imagery(
    root: Path, config: WorldConfig, picture: Picture, corner: tuple[float, float]
) -> None:
    """Write one image as a user would have it: with its position inside the file."""
    place_id, folder = picture.place.place_id, root / picture.platform
    if picture.shot is None:
        epsg = utm_epsg(config.origin_lat, config.origin_lon)
        path = folder / f"{place_id}.tif"
        write_geotiff(path, picture.pixels, epsg, corner, config.ground_resolution_m)
        return
    exif = shot_exif(picture.shot, int(place_id))
    write_jpeg(folder / f"{place_id}_{picture.number:02d}.jpg", picture.pixels, exif)


def _hashed_name(config: WorldConfig, index: int, taken: set[str]) -> str:
    """``image_<8 hex>``, from the seed and the position in a shuffled order only."""
    salt = 0
    while True:
        digest = hashlib.blake2b(f"{config.seed}:{index}:{salt}".encode(), digest_size=4)
        name = f"image_{digest.hexdigest()}"
        if name not in taken:
            taken.add(name)
            return name
        salt += 1


def _write_track4(root: Path, config: WorldConfig, held_out: list[tuple[Picture, Path]]) -> None:
    """Queries and hashed images of the held-out places, one query an image, both shuffled."""
    images = root / "Track_4_Images"
    images.mkdir(parents=True)
    rng = _rng(config, 5)
    taken: set[str] = set()
    truth: dict[str, dict[str, str]] = {}
    asked: list[tuple[str, Picture]] = []
    for index, which in enumerate(rng.permutation(len(held_out))):
        picture, source = held_out[which]
        name = _hashed_name(config, index, taken)
        # The JPEG of the GeoText layout carries no EXIF, so its bytes can be used as they are.
        shutil.copyfile(source, images / f"{name}.jpeg")
        truth[name] = {"platform": str(picture.platform), "place": picture.place.place_id}
        asked.append((name, picture))
    queries: dict[str, dict[str, str]] = {}
    lines: list[str] = []
    for number, which in enumerate(rng.permutation(len(asked)), start=1):
        name, picture = asked[which]
        text = query(picture.place.attributes, picture.platform, _text_rng(config, 6, picture))
        lines.append(f"q_{number:05d}\t{text}\n")
        queries[f"q{number}"] = {"image": name, **truth[name]}
    (root / "test_queries.txt").write_text("".join(lines), encoding="utf-8")
    write_json(
        root / "ground_truth.json", {"queries": queries, "images": dict(sorted(truth.items()))}
    )
