"""The procedural world: deterministic, complete, georeferenced, and honest in its words."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD

from saywhere.errors import InputError
from saywhere.types import PLATFORMS, Platform
from saywhere.world import World, WorldConfig, load_world, render_world
from saywhere.world import write as write_module
from saywhere.world.catalogue import FEATURES, FRONT_FEATURES, SIDE_FEATURES
from saywhere.world.footprints import WINGS, extent, front_of
from saywhere.world.layout import GROUND_BACK_M, draw_attributes, plan_world, utm_epsg
from saywhere.world.paints import SUN, Plain
from saywhere.world.place import EDGE_M, build_scene, zones
from saywhere.world.raster import Canvas, Face, Overhead, Perspective
from saywhere.world.render import satellite_view
from saywhere.world.words import caption, query
from saywhere.world.yards import BUILDERS

SMALL = WorldConfig(seed=3, places=6, test_places=2, tile_px=128, ground_resolution_m=1.0)
POSITION_WORDS = frozenset(
    re.findall(
        r"\w+",
        "left right upper lower top bottom center centre central middle corner corners north "
        "south east west northern southern eastern western northwest northeast southwest "
        "southeast behind front above below beneath under over side sides foreground "
        "background edge edges back beyond before beside opposite inside outside ahead rear "
        "leftmost rightmost ",
    )
)
AERIAL_WORDS = {"aerial", "overhead", "satellite", "drone", "nadir", "rooftop", "roof", "footprint"}
METRES_PER_DEGREE = 111_320.0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return render_world(tmp_path_factory.mktemp("small") / "world", SMALL)


def all_bytes(root: Path) -> dict[str, bytes]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def metres_apart(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Distance of two (lat, lon) a few hundred metres apart at most."""
    north = (a[0] - b[0]) * METRES_PER_DEGREE
    east = (a[1] - b[1]) * METRES_PER_DEGREE * math.cos(math.radians(a[0]))
    return math.hypot(north, east)


def test_same_seed_same_bytes_other_seed_other_bytes(world: World, tmp_path: Path) -> None:
    first = all_bytes(world.root)
    again = all_bytes(render_world(tmp_path / "again", SMALL).root)
    assert first == again
    other = WorldConfig(**{**config_dict(), "seed": 4})
    assert (
        all_bytes(render_world(tmp_path / "other", other).root)["campus.tif"] != first["campus.tif"]
    )


def config_dict() -> dict[str, Any]:
    return {name: getattr(SMALL, name) for name in WorldConfig.__dataclass_fields__}


def test_geotext_layout(world: World) -> None:
    train, test = read(world.train_json), read(world.test_json)
    assert (len(train), len(test)) == (4 * 3, 2 * 3)
    images = world.train_json.parent / "images"
    for entry, is_test in [(e, False) for e in train] + [(e, True) for e in test]:
        assert set(entry) == {"image_id", "image", "caption", "sentences", "bboxes"}
        place = entry["image_id"].split("/")[0]
        folder = "test/query(701)" if is_test else "train"
        assert entry["image"] == f"{folder}/{entry['image_id']}"
        assert entry["image_id"] in {
            f"{place}/image-01.jpeg",
            f"{place}/{place}.jpg",
            f"{place}/1.jpg",
        }
        text = entry["caption"][0] if is_test else entry["caption"]
        assert isinstance(text, str)
        assert text == " ".join(part for part in entry["sentences"] if part is not None)
        assert len(entry["sentences"]) == 3
        assert entry["bboxes"] == [None, None, None]
        with Image.open(images / entry["image"], formats=["JPEG"]) as image:
            assert image.size == (128, 128)
            assert not image.getexif()
    listed = {entry["image"] for entry in train + test}
    assert listed == {p.relative_to(images).as_posix() for p in images.rglob("*") if p.is_file()}


def test_track4_layout(world: World) -> None:
    truth = read(world.track4 / "ground_truth.json")
    files = sorted((world.track4 / "Track_4_Images").iterdir())
    assert all(re.fullmatch(r"image_[0-9a-f]{8}\.jpeg", path.name) for path in files)
    assert {path.stem for path in files} == set(truth["images"])
    lines = (world.track4 / "test_queries.txt").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[0] for line in lines] == [f"q_{i:05d}" for i in range(1, 7)]
    assert list(truth["queries"]) == [f"q{i}" for i in range(1, 7)]
    assert {entry["image"] for entry in truth["queries"].values()} == set(truth["images"])
    for entry in truth["queries"].values():
        assert {k: entry[k] for k in ("platform", "place")} == truth["images"][entry["image"]]
    held_out = {place.place_id for place in world.places if place.held_out}
    pairs = {(entry["place"], entry["platform"]) for entry in truth["images"].values()}
    assert pairs == {(place, str(platform)) for place in held_out for platform in PLATFORMS}


def test_track4_pixels_are_those_of_the_test_images(world: World) -> None:
    truth = read(world.track4 / "ground_truth.json")["images"]
    folder = world.train_json.parent / "images" / "test" / "query(701)"
    for name, entry in truth.items():
        place = entry["place"]
        file = {"satellite": f"{place}.jpg", "drone": "image-01.jpeg", "ground": "1.jpg"}
        data = (world.track4 / "Track_4_Images" / f"{name}.jpeg").read_bytes()
        assert data == (folder / place / file[entry["platform"]]).read_bytes()


@pytest.mark.parametrize("seed", range(3))
def test_texts_keep_their_bounds(seed: int) -> None:
    for index, looks in enumerate(draw_attributes(WorldConfig(seed=seed))):
        for platform in PLATFORMS:
            rng = np.random.default_rng((seed, index))
            text = " ".join(caption(looks, platform, rng))
            assert 35 <= len(text.split()) <= 60, text
            assert POSITION_WORDS & set(re.findall("[a-z]+", text.lower())), text
            asked = query(looks, platform, rng)
            assert 10 <= len(asked.split()) <= 25, asked
            assert asked == asked.lower()
            assert not POSITION_WORDS & set(re.findall("[a-z]+", asked)), asked
            if platform is Platform.GROUND:
                assert not AERIAL_WORDS & set(re.findall("[a-z]+", f"{text} {asked}".lower()))


def test_captions_name_what_was_built() -> None:
    for looks in draw_attributes(WorldConfig(places=40)):
        rng = np.random.default_rng(0)
        seen = " ".join(caption(looks, Platform.SATELLITE, rng)).lower()
        assert looks.roof_colour.split()[-1] in seen
        for side in (looks.north, looks.east, looks.south, looks.west):
            if side != "none":
                assert any(name in seen for name in FEATURES[side].caption)
        near = " ".join(caption(looks, Platform.GROUND, rng)).lower()
        assert f"{looks.accent} door" in near


def test_the_tile_shows_the_roof_and_the_side_that_the_caption_names() -> None:
    looks = replace(
        draw_attributes(SMALL)[0],
        shape="slab",
        roof_type="flat",
        roof_extra="none",
        roof_colour="red",
        cover="paving",
        tree_rows="none",
        front_trees="none",
        west="pool",
        east="none",
    )
    scene = build_scene(looks, 128.0, np.random.default_rng(0))
    tile = satellite_view(scene, scene.ground(), 128).astype(float)
    red, _, blue = tile[60:68, 50:78].mean(axis=(0, 1))
    assert red > 3 * blue  # the roof, in the middle
    bluish = tile[44:84, :, 2] > tile[44:84, :, 0] + 40
    assert bluish[:, :34].mean() > 0.1  # the pool, on the left
    assert not bluish[:, 94:].any()


def test_places_differ_and_held_out_values_are_known() -> None:
    places = plan_world(WorldConfig())
    descriptions = [place.description for place in places]
    assert len(set(descriptions)) == len(places)
    train = {item for p in places if not p.held_out for item in p.attributes.items()}
    assert all(item in train for p in places if p.held_out for item in p.attributes.items())
    queries = {
        (platform, query(p.attributes, platform, np.random.default_rng(0)))
        for p in places
        if p.held_out
        for platform in PLATFORMS
    }
    assert len(queries) == 3 * 30


def test_geotiffs_carry_the_places_coordinates(world: World) -> None:
    import rasterio
    from rasterio.warp import transform

    for place in world.places:
        path = world.imagery / "satellite" / f"{place.place_id}.tif"
        with rasterio.open(path, driver="GTiff") as tile:
            assert tile.crs.to_epsg() == 32632
            assert tile.res == (1.0, 1.0)
            assert tile.transform.e < 0
            east, north = tile.xy(63.5, 63.5)
            lons, lats = transform(tile.crs, "EPSG:4326", [east], [north])[:2]
            pixels = tile.read()
            bounds = tile.bounds
        assert metres_apart((lats[0], lons[0]), (place.lat, place.lon)) < 0.01
        with rasterio.open(world.satellite_tif, driver="GTiff") as campus:
            window = campus.window(*bounds)
            np.testing.assert_array_equal(campus.read(window=window), pixels)


def gps_of(path: Path) -> tuple[float, float, float]:
    """(lat, lon, altitude) from a photo's EXIF."""
    with Image.open(path, formats=["JPEG"]) as image:
        gps = image.getexif().get_ifd(IFD.GPSInfo)
    values = []
    for value, ref in (
        (GPS.GPSLatitude, GPS.GPSLatitudeRef),
        (GPS.GPSLongitude, GPS.GPSLongitudeRef),
    ):
        degrees, minutes, seconds = (float(part) for part in gps[value])
        sign = -1.0 if gps[ref] in {"S", "W"} else 1.0
        values.append(sign * (degrees + minutes / 60 + seconds / 3600))
    return values[0], values[1], float(gps[GPS.GPSAltitude])


def test_exif_positions_are_the_documented_offsets(world: World) -> None:
    for place in world.places:
        for shot in place.shots:
            path = world.imagery / shot.platform / f"{place.place_id}_{shot.number:02d}.jpg"
            lat, lon, altitude = gps_of(path)
            assert metres_apart((lat, lon), (shot.lat, shot.lon)) < 0.1
            offset = metres_apart((lat, lon), (place.lat, place.lon))
            # UTM's scale and the sphere of metres_apart stay well within a metre here.
            assert offset == pytest.approx(math.hypot(shot.east_m, shot.north_m), abs=1.0)
            assert altitude == pytest.approx(shot.height_m, abs=0.01)
            assert lat < place.lat
            if shot.platform == "ground":
                back = GROUND_BACK_M + (10.0 if place.attributes.shape == "tower" else 0.0)
                assert shot.north_m == front_of(place.attributes.shape) - back


def test_southern_and_western_hemispheres(tmp_path: Path) -> None:
    config = WorldConfig(places=2, test_places=1, tile_px=64, ground_resolution_m=2.0,
                         origin_lat=-33.9, origin_lon=-70.6)  # fmt: skip
    world = render_world(tmp_path / "w", config)
    shot = world.places[0].shots[0]
    lat, lon, _ = gps_of(world.imagery / "drone" / "0000_01.jpg")
    assert lat < 0.0
    assert lon < 0.0
    assert metres_apart((lat, lon), (shot.lat, shot.lon)) < 0.1
    assert utm_epsg(-33.9, -70.6) == 32719


def test_more_views_make_more_photos(tmp_path: Path) -> None:
    config = WorldConfig(places=2, test_places=1, tile_px=64, ground_resolution_m=2.0,
                         drone_views=3, ground_views=2)  # fmt: skip
    world = render_world(tmp_path / "w", config)
    folder = world.train_json.parent / "images" / "train" / "0000"
    names = ["0000.jpg", "1.jpg", "2.jpg", "image-01.jpeg", "image-02.jpeg", "image-03.jpeg"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert len({path.read_bytes() for path in folder.iterdir()}) == 6
    assert len(read(world.track4 / "ground_truth.json")["queries"]) == 6


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the lens broke")

    monkeypatch.setattr(write_module, "ground_view", fail)
    with pytest.raises(RuntimeError, match="lens"):
        render_world(tmp_path / "w", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_load_gives_what_render_gave(world: World) -> None:
    assert load_world(world.root) == world


def test_rendering_again_loads_and_refuses_what_is_not_the_same(
    world: World, tmp_path: Path
) -> None:
    before = (world.root / "world.json").stat().st_mtime_ns
    assert render_world(world.root, SMALL) == world
    assert (world.root / "world.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="another configuration"):
        render_world(world.root, WorldConfig())
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not a world"):
        render_world(tmp_path, SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "no readable world.json"),
        ("{", "not JSON"),
        ("[]", "format"),
        ('{"format": "saywhere-world-1", "places": [{}]}', "incomplete"),
        ('{"format": "saywhere-world-1", "places": []}', "missing from the world"),
    ],
)
def test_what_is_no_world_is_named(tmp_path: Path, content: str | None, cause: str) -> None:
    if content is not None:
        (tmp_path / "world.json").write_text(content)
    with pytest.raises(InputError, match=cause) as caught:
        load_world(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"places": 2, "test_places": 2},
        {"test_places": 0},
        {"places": 1001},
        {"seed": -1},
        {"tile_px": 16},
        {"tile_px": 128.0},
        {"drone_views": 0},
        {"ground_views": 10},
        {"ground_resolution_m": 0.0},
        {"ground_resolution_m": float("nan")},
        {"origin_lat": 89.0},
        {"origin_lon": float("inf")},
    ],
)
def test_bad_configurations_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="choose") as caught:
        render_world(tmp_path / "w", WorldConfig(**{**config_dict(), **change}))
    assert list(change)[-1] in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_perspective_puts_points_where_trigonometry_does() -> None:
    camera = Perspective(200, np.array([0.0, -10.0, 2.0]), np.array([0.0, 0.0, 2.0]), 90.0)
    points = np.array([[0.0, 0.0, 2.0], [10.0, 0.0, 2.0], [0.0, 0.0, 7.0]])
    np.testing.assert_allclose(camera.pixels(points), [[100, 100], [200, 100], [100, 50]])
    a, b, c = camera.plane(np.array([0.0, -1.0, 0.0]), 0.0)
    assert a * 30 + b * 40 + c == pytest.approx(1 / 10)
    pixel = [np.array([value], dtype=np.float32) for value in (200, 100, 0.1)]
    back = camera.points(pixel[0], pixel[1], pixel[2])
    np.testing.assert_allclose(back, [[10.0, 0.0, 2.0]], atol=1e-4)


def test_nearer_faces_hide_farther_ones_in_any_order() -> None:
    def square(z: float, colour: tuple[int, int, int]) -> Face:
        points = [(-5.0, -5.0, z), (5.0, -5.0, z), (5.0, 5.0, z), (-5.0, 5.0, z)]
        return Face.of(points, Plain(colour, 0.0))

    faces = [square(1.0, (200, 0, 0)), square(2.0, (0, 200, 0))]
    pictures = []
    for order in (faces, faces[::-1]):
        canvas = Canvas(Overhead(8, 20.0), np.zeros((8, 8, 3), dtype=np.float32))
        for face in order:
            canvas.face(face)
        pictures.append(canvas.rgb)
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert pictures[0][4, 4, 0] == 0.0
    assert pictures[0][4, 4, 1] > 100.0
    assert not pictures[0][0, 0].any()


def test_the_sun_is_a_unit_vector() -> None:
    assert np.linalg.norm(SUN) == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("shape", [*WINGS, "ring", "round"])
def test_features_keep_clear_of_the_building(shape: str) -> None:
    west, south, east, north = extent(shape)
    for zone in zones(shape).values():
        x0, y0, x1, y1 = zone.whole()
        assert x1 <= west or x0 >= east or y1 <= south or y0 >= north
        assert max(abs(x0), abs(y0), abs(x1), abs(y1)) <= EDGE_M


def test_every_feature_has_words_and_a_builder() -> None:
    assert set(FRONT_FEATURES) | set(SIDE_FEATURES) == set(FEATURES) == set(BUILDERS)
    for looks in draw_attributes(WorldConfig(places=30)):
        scene = build_scene(looks, 128.0, np.random.default_rng(0))
        assert scene.faces
        assert all(np.isfinite(face.normal).all() for face in scene.faces)
