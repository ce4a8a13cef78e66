"""Large GeoTIFFs become overlapping tiles of a ground size, wherever on the Earth they are."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pyproj
import pytest
from geotiffs import NORTH_UP, noise, write_raster
from hypothesis import given
from hypothesis import strategies as st

from saywhere.data.ground import Placed
from saywhere.data.raster import Known, Tiled, TileOptions, tile_records, tile_windows
from saywhere.errors import InputError
from saywhere.footprints import footprint_centre
from saywhere.raster_bands import seen_share
from saywhere.types import Platform, Record, Tiling, Window

GEOD = pyproj.Geod(ellps="WGS84")
SMALL = Tiling(40, 0.25)  # metres: 80 of the half-metre pixels


def tiled(path: Path, tiling: Tiling = SMALL, known: Known | None = None) -> Tiled:
    held = {str(path.resolve()): known} if known else None
    return tile_records([Record(path.name, path, Platform.SATELLITE)], tiling, held)


lengths = st.integers(1, 3000)


@given(lengths, lengths, st.floats(0.01, 50), st.floats(0.01, 50), st.floats(1, 500),
       st.floats(0, 0.9))  # fmt: skip
def test_tiles_cover_a_raster_and_overlap(
    width: int, height: int, across: float, down: float, size: float, overlap: float
) -> None:
    tiling = Tiling(size, overlap)
    try:
        windows = tile_windows(width, height, (across, down), tiling)
    except InputError:
        edges = max(64, size / across), max(64, size / down)
        steps = [length / edge for length, edge in zip((width, height), edges, strict=True)]
        assert math.prod(steps) > 100_000 * (1 - overlap) ** 2 / 4, "that many for nothing"
        return
    assert len({(w.width, w.height) for w in windows}) == 1
    assert windows == sorted(windows, key=lambda w: (w.row, w.column)), "blocks are read in order"
    for length, edge, starts in (
        (width, windows[0].width, sorted({w.column for w in windows})),
        (height, windows[0].height, sorted({w.row for w in windows})),
    ):
        assert (starts[0], starts[-1] + edge) == (0, length)
        for one, other in itertools.pairwise(starts):
            assert other > one
            assert one + edge - other >= overlap * edge - 1.01  # starts are rounded
    many = len({w.column for w in windows}), len({w.row for w in windows})
    assert len(windows) == math.prod(many)


def edges_m(record: Record) -> tuple[float, float]:
    """Mean length of the two pairs of a tile's sides on the ellipsoid, metres."""
    assert record.footprint is not None
    assert not record.footprint.approximate
    [ring] = record.footprint.rings
    sides = [
        GEOD.inv(lon, lat, to_lon, to_lat)[2]
        for (lat, lon), (to_lat, to_lon) in zip(ring, [*ring[1:], ring[0]], strict=True)
    ]
    return (sides[0] + sides[2]) / 2, (sides[1] + sides[3]) / 2


CRS_CASES = {
    "UTM": ("EPSG:32632", NORTH_UP),
    "rotated by 30 degrees": (
        "EPSG:32632",
        (0.5 * math.cos(0.5), 0.5 * math.sin(0.5), 649_188.0,
         0.5 * math.sin(0.5), -0.5 * math.cos(0.5), 5_318_236.0),
    ),
    "upside down": ("EPSG:32632", (0.5, 0.0, 649_188.0, 0.0, 0.5, 5_318_236.0)),
    "degrees at 60 north": ("EPSG:4326", (9e-6, 0.0, 11.0, 0.0, -4.5e-6, 60.0)),
    "web mercator": ("EPSG:3857", (0.8, 0.0, 1_200_000.0, 0.0, -0.8, 6_100_000.0)),
    "feet": ("EPSG:2263", (1.64, 0.0, 980_000.0, 0.0, -1.64, 200_000.0)),
    "polar": ("EPSG:3995", (0.5, 0.0, 1000.0, 0.0, -0.5, 2000.0)),
    "southern Lambert": ("EPSG:31370", (0.5, 0.0, 150_000.0, 0.0, -0.5, 170_000.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CRS_CASES))
def test_tiles_have_their_ground_size_in_any_crs(name: str, tmp_path: Path) -> None:
    crs, to_map = CRS_CASES[name]
    path = write_raster(tmp_path / "a.tif", noise(1, 300, 400), crs=crs, to_map=to_map)
    found = tiled(path)
    assert (found.rasters, found.problems, found.notes) == (1, (), ())
    assert found.tiles == len(found.records) > 6
    for record in found.records:
        assert edges_m(record) == pytest.approx((40, 40), rel=0.015)  # of which a pixel is 1.25 %
        assert record.footprint is not None
        assert record.lat is not None
        assert record.lon is not None
        lat, lon = footprint_centre(record.footprint)
        assert GEOD.inv(record.lon, record.lat, lon, lat)[2] < 0.05


@pytest.mark.parametrize("name", ["UTM", "rotated by 30 degrees"])
def test_a_tile_lies_where_its_pixels_do(name: str, tmp_path: Path) -> None:
    crs, to_map = CRS_CASES[name]
    path = write_raster(tmp_path / "a.tif", noise(1, 300, 400), crs=crs, to_map=to_map)
    to_wgs84 = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    a, b, c, d, e, f = to_map

    def lat_lon(column: float, row: float) -> tuple[float, float]:
        lon, lat = to_wgs84.transform(a * column + b * row + c, d * column + e * row + f)
        return lat, lon

    for record in tiled(path).records:
        part = record.window
        assert part is not None
        assert record.image_id == f"a.tif#c{part.column},r{part.row}"
        assert record.footprint is not None
        right, bottom = part.column + part.width, part.row + part.height
        centre = lat_lon((part.column + right) / 2, (part.row + bottom) / 2)
        assert (record.lat, record.lon) == pytest.approx(centre, abs=1e-9)
        [ring] = record.footprint.rings
        for column, row in itertools.product((part.column, right), (part.row, bottom)):
            assert any(np.allclose(at, lat_lon(column, row), atol=1e-9, rtol=0) for at in ring)


def test_the_antimeridian(tmp_path: Path) -> None:
    to_map = (4.5e-6, 0.0, 179.9995, 0.0, -4.5e-6, 10.0)
    path = write_raster(tmp_path / "a.tif", noise(1, 200, 400), crs="EPSG:4326", to_map=to_map)
    found = tiled(path)
    assert found.tiles == len(found.records) > 6
    lons = [record.lon for record in found.records if record.lon is not None]
    assert min(lons) < -179.99
    assert max(lons) > 179.99
    rings = [len(r.footprint.rings) for r in found.records if r.footprint is not None]
    assert set(rings) == {1, 2}
    assert len(rings) == len(found.records)


def test_a_small_raster_stays_one_image_with_a_footprint(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", noise(1, 100, 120))  # 60 x 50 m
    found = tiled(path)
    [record] = found.records
    assert (record.image_id, record.window, found.whole, found.tiles) == ("a.tif", None, 1, 0)
    assert edges_m(record) == pytest.approx((50, 60), rel=0.01)
    assert tile_records([Record("a", path, lat=1.0, lon=2.0)], SMALL).records[0].lat == 1.0
    assert len(tiled(path, Tiling(38, 0)).records) == 2, "and one 60 m long is cut at 1.5 x 38"


@pytest.mark.parametrize("bad", ["no CRS", "text", "other suffix", "off the Earth"])
def test_what_is_no_raster_of_the_earth_passes_unchanged(bad: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.jpg" if bad == "other suffix" else "a.tif")
    if bad == "text":
        path.write_text("II*\0 no TIFF")
    else:
        crs = {"no CRS": None, "off the Earth": "EPSG:4326"}.get(bad, "EPSG:32632")
        write_raster(path, noise(1, 300, 400), crs=crs)
    found = tiled(path)
    assert found.records == (Record(path.name, path, Platform.SATELLITE),)
    assert (found.images, found.rasters, found.problems) == (1, 0, ())


def test_tiles_without_data_are_left_out(tmp_path: Path) -> None:
    pixels = np.maximum(noise(3, 400, 400), 1)
    pixels[:, :, 215:] = 0  # the tiles that begin at 213 see 2.5 % of themselves
    pixels[:, 300:, :] = 0
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0, tiled=True, compress="deflate")
    plain = write_raster(tmp_path / "b.tif", pixels)
    found, all_of_it = tiled(path), tiled(plain)
    assert (found.tiles + found.empty, all_of_it.empty) == (all_of_it.tiles, 0)
    kept = {record.window for record in found.records}
    for record in all_of_it.records:
        part = record.window
        assert part is not None
        assert part.column != 213 or part not in kept
        shown = pixels[:, part.row : part.row + part.height, part.column : part.column + part.width]
        share = shown.any(0).mean()
        assert (part in kept) == (share >= 0.05), (part, share)
    path = write_raster(tmp_path / "c.tif", 0 * pixels, nodata=0)
    [problem] = tiled(path).problems
    assert problem.startswith(f"{path}: holds no data in any of its tiles; ")


def test_what_is_known_is_not_looked_at_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.maximum(noise(3, 400, 400), 1)
    pixels[:, :, 210:] = 0
    path = write_raster(tmp_path / "a.tif", pixels, nodata=0)
    first = tiled(path)
    looked: list[Window] = []

    def looking(dataset: object, window: Window) -> float:
        looked.append(window)
        return seen_share(dataset, window)

    monkeypatch.setattr("saywhere.data.raster.seen_share", looking)
    windows = frozenset(record.window for record in first.records if record.window)
    assert tiled(path, known=Known(None, windows)) == first
    assert len(looked) == first.empty > 0, "those without data are in no index"
    small = write_raster(tmp_path / "small.tif", pixels[:, :80, :80], nodata=0)
    [record] = tiled(small).records
    placed = Placed(record.lat, record.lon, record.footprint)
    monkeypatch.setattr("saywhere.data.raster.open_geotiff", None)
    assert tiled(small, known=Known(placed)).records == (record,)


def test_coarse_pixels_make_larger_tiles_and_a_note(tmp_path: Path) -> None:
    to_map = (10.0, 0.0, 649_188.0, 0.0, -10.0, 5_318_236.0)
    found = tiled(write_raster(tmp_path / "a.tif", noise(3, 200, 200), to_map=to_map))
    assert {(r.window.width, r.window.height) for r in found.records if r.window} == {(64, 64)}
    [note] = found.notes
    assert note == "a.tif: its pixels are 10 m wide, so its tiles are 64 pixels or 640 m " \
        "instead of 40 m"  # fmt: skip


def test_a_lying_header_makes_no_billion_tiles(tmp_path: Path) -> None:
    path = write_raster(tmp_path / "a.tif", np.zeros((1, 1, 1), np.uint8), sparse_ok=True)
    import rasterio

    profile = {"width": 400_000, "height": 400_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(
        path, "w", driver="GTiff", crs="EPSG:32632", transform=rasterio.Affine(*NORTH_UP),
        sparse_ok=True, bigtiff="YES", tiled=True, blockxsize=16384, blockysize=16384, **profile,
    ):  # fmt: skip
        pass
    [problem] = tiled(path).problems
    assert problem.startswith(f"{path}: 400000 x 400000 pixels would be ")
    assert problem.endswith("give a larger --tile-size or a smaller --overlap")


def test_options_over_what_was() -> None:
    assert TileOptions().over(SMALL) == SMALL
    assert TileOptions(overlap=0.5).over(SMALL) == Tiling(40, 0.5)
    assert TileOptions(size_m=9).over(SMALL) == Tiling(9, 0.25)
    for bad in (TileOptions(size_m=0), TileOptions(overlap=1), TileOptions(size_m=math.nan)):
        with pytest.raises(InputError, match="give"):
            bad.over(SMALL)
