"""Tiles in an index: a file is hashed once, other tiles replace it, what is gone goes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import shapely
from geotiffs import noise, write_raster
from test_features import CountingImageTower
from test_index import DIMENSION, LONG_AGO, Fake, counts, put, state, vector_of

from saywhere.data import read
from saywhere.data.raster import TileOptions
from saywhere.embed import EmbeddedImages
from saywhere.errors import DatasetError, InputError
from saywhere.features import ContentHashes, image_features
from saywhere.files import hash_file, hash_text
from saywhere.index import Embedder, IndexReport, update_index
from saywhere.period import Period, parse_period
from saywhere.rasters import read_part
from saywhere.store import build_store, open_store, open_writer
from saywhere.store.columns import arrow_rows
from saywhere.store.generations import MANIFEST
from saywhere.store.row import Row
from saywhere.store.verify import verify_store
from saywhere.types import Embeddings, FloatArray, Footprint, Record, Tiling, Window
from saywhere.views import FIXED_VIEWS, View, render


@dataclass
class TileFake(Fake):
    """As ``Fake``, but each window has a vector of its own."""

    def embed(self, records: Sequence[Record]) -> EmbeddedImages:
        self.asked += [record.image_id for record in records]
        hashes = {record.path: hash_file(record.path) for record in records}
        vectors = np.stack([tile_vector(hashes[r.path], r.window) for r in records])
        made = Embeddings(tuple(r.image_id for r in records), vectors, self.name)
        return EmbeddedImages(made, tuple(hashes[r.path] for r in records))


def tile_vector(content_hash: str, window: Window | None) -> FloatArray:
    return vector_of(hash_text(f"{content_hash}{window}"))


@dataclass
class Case:
    """A folder with an orthophoto of 200 x 150 m, 26 photos, and its index."""

    root: Path
    uri: str
    fake: TileFake = field(default_factory=TileFake)

    def update(
        self,
        size: float | None = None,
        *,
        prune: bool = False,
        skipped: Sequence[str] | None = None,
    ) -> IndexReport:
        self.fake.asked.clear()
        by = Embedder(self.fake.name, "experts", self.fake.embed)
        return update_index(
            by, read(self.root).records, self.root, self.uri, prune=prune, skipped=skipped,
            tiles=TileOptions(size),
        )  # fmt: skip

    def held(self) -> dict[str, Row]:
        with open_writer(self.uri) as writer:
            return {row.image_id: row for row in writer.rows()}

    def check_vectors(self) -> None:
        """Every row has the vector of its own bytes and window."""
        rows = self.held()
        asked = np.stack([tile_vector(row.content_hash, row.window) for row in rows.values()])
        for row, hits in zip(rows.values(), open_store(self.uri).search(asked, 999), strict=True):
            expected = tile_vector(row.content_hash, row.window)
            [hit] = [hit for hit in hits if hit.image_id == row.image_id]
            assert hit.score == pytest.approx(float(expected @ expected))
            assert (hit.window, hit.footprint) == (row.window, row.footprint)


def put_raster(path: Path, *, seed: int = 0, age: int = LONG_AGO) -> None:
    write_raster(path, noise(3, 300, 400, seed=seed), tiled=True, compress="deflate")
    os.utime(path, (age, age))


@pytest.fixture
def case(tmp_path: Path) -> Case:
    root = tmp_path / "photos"
    for number in range(6):
        put(root / "drone" / f"{number}.jpg", f"image {number}")
    put_raster(root / "sat/ortho.tif")
    made = Case(root, str(tmp_path / "index"))
    report = made.update(70)
    assert report.added == 6 + 12
    assert report.read == {"images": 6, "whole_rasters": 0, "rasters": 1, "tiles": 12}
    made.check_vectors()
    return made


def test_an_unchanged_raster_is_not_read(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(case)  # type: ignore[arg-type]
    monkeypatch.setattr("saywhere.store.changes.hash_file", None)
    assert counts(case.update()) == (0, 0, 0, 18, 0)
    assert case.fake.asked == []
    assert state(case) == before  # type: ignore[arg-type]


def test_a_touched_raster_is_hashed_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(case.root / "sat/ortho.tif", (LONG_AGO + 5, LONG_AGO + 5))
    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return hash_file(path)

    monkeypatch.setattr("saywhere.store.changes.hash_file", counting)
    assert counts(case.update()) == (0, 0, 0, 18, 0)
    assert len(hashed) == 1
    hashed.clear()
    assert verify_store(case.uri, content=True).changed == ()
    assert len(hashed) == 6 + 1


def test_a_changed_raster_is_embedded_again(case: Case) -> None:
    put_raster(case.root / "sat/ortho.tif", seed=1, age=LONG_AGO + 9)
    assert counts(case.update()) == (0, 12, 0, 6, 12)
    case.check_vectors()


def test_other_tiles_replace_those_that_were(case: Case) -> None:
    """Without --prune, although they are most of the index; and the size is remembered."""
    before = {row.window for row in case.held().values()}
    report = case.update(35)
    tiles = report.read["tiles"]
    assert tiles > 20
    again = sum(name.startswith("sat/") for name in case.fake.asked)
    assert again == tiles
    assert case.held().keys() >= {"sat/ortho.tif#c0,r0", "drone/0.jpg"}
    assert report.count == 6 + tiles == len(case.held())
    assert not {row.window for row in case.held().values() if row.window} & before
    case.check_vectors()
    assert counts(case.update()) == (0, 0, 0, 6 + tiles, 0)
    assert open_store(case.uri).info().tiling == Tiling(35, 0.25)
    assert case.update(70).count == 18
    case.check_vectors()


def test_a_tile_of_the_same_name_but_other_size_is_embedded_again(case: Case) -> None:
    case.update(71)
    assert "sat/ortho.tif#c0,r0" in case.fake.asked
    case.check_vectors()


def test_a_raster_may_become_whole_and_be_cut_again(case: Case) -> None:
    report = case.update(1000)
    assert (report.read["whole_rasters"], report.deleted, report.count) == (1, 12, 7)
    whole = case.held()["sat/ortho.tif"]
    assert whole.window is None
    assert whole.footprint is not None
    case.check_vectors()
    assert counts(case.update()) == (0, 0, 0, 7, 0)
    report = case.update(70)
    assert (report.added, report.deleted, report.count) == (12, 1, 18)


@pytest.mark.parametrize("skipped", [None, ["x.jpg: is bad"]])
def test_recut_tiles_go_even_where_the_dataset_is_incomplete(
    case: Case, skipped: list[str] | None
) -> None:
    report = case.update(1000, skipped=skipped)
    assert (report.deleted, report.unreachable, report.count) == (12, 0, 7)


def test_a_removed_raster_is_deleted_and_an_emptied_folder_is_not(case: Case) -> None:
    put_raster(case.root / "sat/small/other.tif", seed=3)
    assert case.update().count == 30
    shutil.rmtree(case.root / "sat/small")
    (case.root / "sat/small").mkdir()
    report = case.update()
    assert (report.deleted, report.unreachable, report.count) == (0, 12, 30)
    report = case.update(prune=True)
    assert (report.deleted, report.count) == (12, 18)
    (case.root / "sat/ortho.tif").unlink()
    put(case.root / "sat/other.jpg", "so that the folder isn't empty")
    before = state(case)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"12 of its 18 images are gone .*--prune"):
        case.update()
    assert state(case) == before  # type: ignore[arg-type]
    assert case.update(prune=True).count == 7


def test_a_raster_without_data_is_one_fault(case: Case) -> None:
    write_raster(case.root / "sat/void.tif", np.zeros((1, 300, 400), np.uint8), nodata=0)
    with pytest.raises(DatasetError, match=r"void\.tif: holds no data in any .*--skip-bad"):
        case.update()
    report = case.update(skipped=[])
    assert report.count == 18
    assert report.left_out == {"holds no data in any of its tiles": 1}
    assert len(report.skipped) == 1


def test_tiles_without_data_are_counted_at_every_update(case: Case) -> None:
    pixels = np.maximum(noise(3, 300, 400), 1)
    pixels[:, :, 130:] = 0
    write_raster(case.root / "sat/strip.tif", pixels, nodata=0)
    first = case.update()
    assert first.left_out == {"tile without data": 6}
    again = case.update()
    assert (again.left_out, again.read) == (first.left_out, first.read)
    assert counts(again) == (0, 0, 0, 24, 0)


# The store.

PART = Window(1024, 0, 300, 200)
ACROSS = Footprint(
    (((10.0, 179.5), (10.5, 179.5), (10.5, 180.0), (10.0, 180.0)),
     ((10.0, -180.0), (10.5, -180.0), (10.5, -179.5))), True,
)  # fmt: skip
PLAIN = Footprint((((1.0, 2.0), (1.0, 3.0), (4.0, 3.0)),), False)
TAKEN = datetime(2025, 6, 1, 14, 30, 0, 123456, timezone(timedelta(hours=2)))


@pytest.fixture
def held(tmp_path: Path) -> Path:
    rows = [
        Row("all", "p", "h", window=PART, footprint=ACROSS, taken=TAKEN, lat=1.0, lon=2.0),
        Row("plain", "p", "h", footprint=PLAIN),
        Row("nothing", "p", "h"),
        Row("old", "p", "h", taken=datetime(1969, 12, 31, 23, 59, tzinfo=UTC)),
    ]
    with build_store(str(tmp_path / "i"), expert_hash="e", dimension=4, experts="x",
                     root="r") as store:  # fmt: skip
        store.add(rows, np.diag([4.0, 3.0, 2.0, 1.0]).astype(np.float32))
    return tmp_path / "i"


def test_windows_footprints_and_times_come_back(held: Path) -> None:
    store = open_store(str(held))
    [hits] = store.search(np.ones((1, 4), np.float32), 9)
    assert [hit.image_id for hit in hits] == ["all", "plain", "nothing", "old"]
    assert (hits[0].window, hits[0].footprint, hits[0].taken) == (PART, ACROSS, TAKEN)
    assert hits[0].taken is not None
    assert hits[0].taken.tzinfo is UTC
    assert (hits[1].window, hits[1].footprint, hits[1].taken) == (None, PLAIN, None)
    assert (hits[2].window, hits[2].footprint, hits[2].taken) == (None, None, None)
    scored = store.scores(np.ones((1, 4), np.float32))
    for hit in hits:
        assert scored.hit(scored.image_ids.index(hit.image_id), hit.rank, hit.score) == hit
    with open_writer(str(held)) as writer:
        assert {row.image_id: row.footprint for row in writer.rows()}["all"] == ACROSS


def test_footprints_are_well_known_binary_for_others(held: Path) -> None:
    import lancedb

    manifest = json.loads((held / MANIFEST).read_text())
    table = lancedb.connect(str(held / manifest["generation"])).open_table("images").to_arrow()
    shapes = dict(zip(table["image_id"].to_pylist(), table["footprint"].to_pylist(), strict=True))
    assert shapely.from_wkb(shapes["plain"]).equals(shapely.Polygon([(2, 1), (3, 1), (3, 4)]))
    across = shapely.from_wkb(shapes["all"])
    assert across.geom_type == "MultiPolygon"
    assert across.is_valid
    assert across.bounds == (-180, 10, 180, 10.5)
    assert pa.types.is_timestamp(table.schema.field("taken").type)


@pytest.mark.parametrize(
    ("after", "before", "found"),
    [
        ("2025-06-01", None, {"all"}),
        ("2025-06-01T12:30:00.123456Z", None, {"all"}),
        ("2025-06-01T12:30:00.123457Z", None, set()),
        ("2025-06-01T14:30:00.123456+02:00", "2025-06-01T12:30:01", {"all"}),
        (None, "2025-06-01T12:30:00.123456", {"old"}),
        (None, "1970-01-01", {"old"}),
        ("1900-01-01", "2100-01-01", {"all", "old"}),
    ],
)
def test_search_by_date(held: Path, after: str | None, before: str | None, found: set[str]) -> None:
    store, asked = open_store(str(held)), np.ones((1, 4), np.float32)
    period = parse_period(after, before)
    assert {hit.image_id for hit in store.search(asked, 9, period=period)[0]} == found
    assert set(store.scores(asked, period=period).image_ids) == found


@pytest.mark.parametrize("text", ["yesterday", "", "2025-13-01", "2025-06-01' OR 1=1", "20250",
                                  "0001-01-01T00:00+14:00"])  # fmt: skip
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="give it as 2025-06-01"):
        parse_period(text, None)


def test_a_period_has_an_end_after_its_start() -> None:
    assert parse_period(None, None) is None
    with pytest.raises(InputError, match="holds no moment"):
        parse_period("2025-06-02", "2025-06-02")
    with pytest.raises(InputError, match="give one of them"):
        Period()


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(InputError, match="no time zone"):
        Row("a", "p", "h", taken=datetime(2025, 6, 1))


def test_schema_2_is_searched_and_migrated(case: Case) -> None:
    import lancedb

    case.update(1000)
    rows = [replace(row, footprint=None) for row in case.held().values()]
    vectors = np.stack([tile_vector(row.content_hash, None) for row in rows])
    path = Path(case.uri) / MANIFEST
    manifest = json.loads(path.read_text())
    database = lancedb.connect(str(Path(case.uri) / manifest["generation"]))
    database.create_table("images", arrow_rows(rows, vectors, 2), mode="overwrite")
    del manifest["tiling"]
    path.write_text(json.dumps(manifest | {"schema_version": 2}))
    store, asked = open_store(case.uri), np.ones((1, DIMENSION), np.float32)
    assert (store.info().schema_version, store.info().tiling) == (2, None)
    assert len(store.search(asked, 99)[0]) == 7
    assert store.search(asked, 99, period=parse_period("1900-01-01", None)) == [[]]
    scored = store.scores(asked)
    assert scored.hit(0, 1, 1.0).window is None
    case.check_vectors()
    report = case.update(1000)
    assert counts(report) == (0, 1, 0, 6, 0), "the raster's footprint is new"
    assert store.info().tiling == Tiling(1000, 0.25)
    case.check_vectors()


# Features.


def test_tiles_share_the_hash_and_not_the_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    path = write_raster(tmp_path / "a.tif", noise(3, 300, 400))
    windows = [Window(0, 0, 200, 200), Window(200, 100, 200, 200), Window(0, 0, 200, 201)]
    hashed: list[Path] = []

    def counting(path: Path) -> str:
        hashed.append(path)
        return hash_file(path)

    monkeypatch.setattr("saywhere.decoding.hash_file", counting)
    hashes, views = ContentHashes(), (View(), FIXED_VIEWS["crop-tl"])
    asked = [hashes.request(Record(str(n), path, window=w), views) for n, w in enumerate(windows)]
    assert len(hashed) == 1
    tower = CountingImageTower()
    found = image_features(tower, asked, 64)
    assert tower.views == 6
    for window, features in zip(windows, found, strict=True):
        pixels = np.stack([render(read_part(path, window), view, 64) for view in views])
        np.testing.assert_array_equal(features, CountingImageTower().encode(pixels))
    tower = CountingImageTower()
    image_features(tower, asked, 64)
    assert tower.views == 0
    put_raster(path, seed=2)  # after it was hashed
    refused: dict[str, str] = {}
    other = replace(asked[0], views=(View(flip=True),))
    assert [len(views) for views in image_features(tower, [other], 64, refused=refused)] == [0]
    assert list(refused.values()) == ["changed while it was being read; run again"]
    assert refused.keys() == {other.source}
