"""The embedded store: what goes in comes out, exactly, and no build can spoil an index."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from saywhere.errors import IndexMismatchError, InputError
from saywhere.store import (
    SCHEMA_VERSION,
    StoreInfo,
    VectorStore,
    build_store,
    lance,
    open_store,
    scan,
)
from saywhere.store.generations import MANIFEST, read_manifest
from saywhere.store.row import Row
from saywhere.store.scan import best_hits
from saywhere.types import FloatArray, Platform

EXPERTS = "a1b2c3d4e5f6" + "0" * 52
OTHERS = "f6e5d4c3b2a1" + "0" * 52


def rows_of(count: int, prefix: str = "im") -> list[Row]:
    """Rows whose platforms take turns, every fourth unknown, and some with positions."""
    platforms = (*Platform, None)
    return [
        Row(
            image_id=f"{prefix}{n:05d}",
            path=f"dir/{prefix}{n:05d}.jpg",
            content_hash=f"{n:064x}",
            platform=platforms[n % 4],
            place_id=f"place{n // 4}" if n % 3 else None,
            lat=n / 100 if n % 2 else None,
            lon=-n / 50 if n % 2 else None,
        )
        for n in range(count)
    ]


def vectors_of(count: int, dimension: int, seed: int = 0) -> FloatArray:
    """Random directions, norms from 0.2 to 5."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    return np.asarray(vectors * rng.uniform(0.2, 5, (count, 1)), dtype=np.float32)


def build(
    uri: Path | str,
    rows: list[Row],
    vectors: FloatArray,
    *,
    expert_hash: str = EXPERTS,
    step: int = 1000,
) -> VectorStore:
    dimension = vectors.shape[1]
    with build_store(
        str(uri), expert_hash=expert_hash, dimension=dimension, experts="experts", root="my photos"
    ) as store:
        for start in range(0, len(rows), step):
            store.add(rows[start : start + step], vectors[start : start + step])
    return open_store(str(uri))


def first_ids(store: VectorStore, vectors: FloatArray, k: int = 1) -> list[list[str]]:
    return [[hit.image_id for hit in hits] for hits in store.search(vectors, k)]


def generations(uri: Path) -> list[str]:
    return sorted(path.name for path in uri.iterdir() if path.name != MANIFEST)


@pytest.fixture(scope="module")
def gallery() -> tuple[list[Row], FloatArray]:
    return rows_of(5000), vectors_of(5000, 64)


@pytest.fixture(scope="module")
def big(
    gallery: tuple[list[Row], FloatArray], tmp_path_factory: pytest.TempPathFactory
) -> VectorStore:
    return build(tmp_path_factory.mktemp("big") / "index", *gallery)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    build(tmp_path / "index", rows_of(8), np.eye(8, dtype=np.float32))
    yield tmp_path / "index"
    assert len(generations(tmp_path / "index")) == 1, "a build left something behind"


def test_info_and_rows_come_back(small: Path) -> None:
    store = open_store(str(small), expert_hash=EXPERTS)
    assert store.info() == StoreInfo(SCHEMA_VERSION, EXPERTS, 8, 8, "experts", "my photos")
    for row, [hit] in zip(rows_of(8), store.search(np.eye(8, dtype=np.float32), 1), strict=True):
        assert (hit.rank, hit.image_id, hit.path, hit.score) == (1, row.image_id, row.path, 1.0)
        assert (hit.platform, hit.place_id) == (row.platform, row.place_id)
        assert (hit.lat, hit.lon) == (row.lat, row.lon)


def test_hits_equal_a_naive_search(
    big: VectorStore, gallery: tuple[list[Row], FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, vectors = gallery
    queries = vectors_of(7, 64, seed=1)
    monkeypatch.setattr(scan, "MAX_SCORES", 3 * 5000)  # seven queries take three passes
    for query, hits in zip(queries, big.search(queries, 200), strict=True):
        scores = vectors.astype(np.float64) @ query.astype(np.float64)
        order = np.argsort(-scores, kind="stable")[:200]
        assert [hit.image_id for hit in hits] == [rows[n].image_id for n in order]
        assert [hit.rank for hit in hits] == list(range(1, 201))
        np.testing.assert_allclose([hit.score for hit in hits], scores[order], rtol=1e-6)


@pytest.mark.parametrize("platform", list(Platform))
def test_platform_filter(
    big: VectorStore, gallery: tuple[list[Row], FloatArray], platform: Platform
) -> None:
    rows, vectors = gallery
    query = vectors_of(1, 64, seed=2)
    [hits] = big.search(query, 50, platform=platform)
    chosen = [n for n, row in enumerate(rows) if row.platform is platform]
    order = np.argsort(-(vectors[chosen].astype(np.float64) @ query[0]), kind="stable")[:50]
    assert [hit.image_id for hit in hits] == [rows[chosen[n]].image_id for n in order]
    assert {hit.platform for hit in hits} == {platform}


def test_unfiltered_search_includes_unknown_platforms(small: Path) -> None:
    [hits] = open_store(str(small)).search(np.ones((1, 8), dtype=np.float32), 8)
    assert [hit.platform for hit in hits].count(None) == 2


def test_k_above_count_returns_all(small: Path) -> None:
    [hits] = open_store(str(small)).search(np.ones((1, 8), dtype=np.float32), 10_000)
    assert len(hits) == 8


def test_ties_are_in_order_of_image_id_also_at_the_cut(tmp_path: Path) -> None:
    vector = vectors_of(1, 333)
    rows = rows_of(101)
    shuffled = [rows[n] for n in np.random.default_rng(3).permutation(101)]
    store = build(tmp_path / "index", shuffled, np.repeat(vector, 101, axis=0), step=7)
    assert first_ids(store, vector, k=40) == [[row.image_id for row in rows[:40]]]


def test_empty_index_and_no_queries(tmp_path: Path) -> None:
    store = build(tmp_path / "index", [], np.empty((0, 4), dtype=np.float32))
    assert store.info().count == 0
    assert store.search(np.ones((2, 4), dtype=np.float32), 3) == [[], []]
    assert store.search(np.empty((0, 4), dtype=np.float32), 3) == []


def test_adding_again_replaces(small: Path) -> None:
    store = open_store(str(small))
    moved = Row("im00003", "elsewhere.tif", "new", Platform.GROUND, "hall", 1.5, 2.5)
    vectors = np.full((2, 8), 9, dtype=np.float32)
    vectors[1] = 0
    store.add([moved, Row("im99999", "new.jpg", "h")], vectors)
    assert store.info().count == 9
    [[hit]] = store.search(np.ones((1, 8), dtype=np.float32), 1)
    assert (hit.image_id, hit.path, hit.score) == ("im00003", "elsewhere.tif", 72.0)
    assert (hit.platform, hit.place_id, hit.lat, hit.lon) == (Platform.GROUND, "hall", 1.5, 2.5)


def test_an_open_handle_sees_writes_and_rebuilds_of_others(small: Path) -> None:
    reader = open_store(str(small), expert_hash=EXPERTS)
    query = np.ones((1, 8), dtype=np.float32)
    assert reader.info().count == 8
    open_store(str(small)).add([Row("late", "late.jpg", "h")], 5 * query)
    assert first_ids(reader, query) == [["late"]]
    build(small, rows_of(3, "re"), np.eye(3, 8, dtype=np.float32))
    assert first_ids(reader, query, k=9) == [["re00000", "re00001", "re00002"]]
    assert reader.info().count == 3


def test_a_handle_refuses_an_index_rebuilt_by_other_experts(small: Path) -> None:
    reader = open_store(str(small))
    build(small, rows_of(3), np.eye(3, 8, dtype=np.float32), expert_hash=OTHERS)
    with pytest.raises(IndexMismatchError, match=OTHERS[:12]):
        reader.search(np.ones((1, 8), dtype=np.float32), 1)


def test_a_search_goes_on_when_a_rebuild_sweeps_its_table(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = open_store(str(small))
    rebuilt: list[VectorStore] = []

    def scan_after_a_rebuild(*args: object) -> object:
        if not rebuilt:
            rebuilt.append(build(small, rows_of(2, "re"), np.eye(2, 8, dtype=np.float32)))
        return best_hits(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(lance, "best_hits", scan_after_a_rebuild)
    assert first_ids(reader, np.ones((1, 8), dtype=np.float32)) == [["re00000"]]


def test_opening_goes_on_when_a_rebuild_sweeps_what_it_was_about_to_open(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilt: list[bool] = []

    def read_before_a_rebuild(folder: Path) -> object:
        found = read_manifest(folder)
        if not rebuilt:
            rebuilt.append(True)
            build(small, rows_of(2, "re"), np.eye(2, 8, dtype=np.float32))
        return found

    monkeypatch.setattr(lance, "read_manifest", read_before_a_rebuild)
    assert open_store(str(small)).info().count == 2


def test_adding_waits_for_no_build(small: Path) -> None:
    """A build has read what it will keep: what is added meanwhile would be lost."""
    store, row, vector = open_store(str(small)), Row("x", "x.jpg", "h"), np.ones((1, 8), np.float32)
    with rebuild(small), pytest.raises(InputError, match="another process is building it"):
        store.add([row], vector)


def test_threads_share_a_handle(big: VectorStore) -> None:
    queries = vectors_of(4, 64, seed=4)
    expected = [big.search(queries[n : n + 1], 5) for n in range(4)]
    found: list[object] = [None] * 4

    def ask(n: int) -> None:
        found[n] = big.search(queries[n : n + 1], 5)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_other_experts_are_refused(small: Path) -> None:
    with pytest.raises(IndexMismatchError) as caught:
        open_store(str(small), expert_hash=OTHERS)
    message = str(caught.value)
    assert EXPERTS[:12] in message
    assert OTHERS[:12] in message
    assert "`saywhere index 'my photos' --rebuild`" in message
    assert "\n" not in message


def edit_manifest(uri: Path, **changes: object) -> None:
    manifest = uri / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def test_other_schema_is_refused_and_survives_a_failed_rebuild(small: Path) -> None:
    edit_manifest(small, schema_version=99)
    before = generations(small)
    with pytest.raises(IndexMismatchError, match=r"schema 99.*up to 3; .*DIR --rebuild"):
        open_store(str(small))
    with pytest.raises(RuntimeError, match="no light"), rebuild(small):
        raise RuntimeError("no light")
    assert generations(small) == before
    assert build(small, rows_of(2), np.eye(2, dtype=np.float32)).info().count == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "\xff",
        "[" * 100_000,
        "{}",
        '{"schema_version": true}',
        '{"schema_version": 1}',
    ],
)
def test_damaged_manifest(small: Path, text: str) -> None:
    (small / MANIFEST).write_bytes(text.encode("latin-1"))
    with pytest.raises(
        InputError, match="damaged, rebuild it with `saywhere index DIR --rebuild`"
    ) as caught:
        open_store(str(small))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"generation": "../../etc"},
        {"generation": "generation-zzzzzzzzzzzz"},
        {"dimension": 0},
        {"dimension": 7},
        {"dimension": True},
        {"expert_hash": None},
        {"root": 3},
    ],
)
def test_manifest_that_does_not_fit(small: Path, change: dict[str, object]) -> None:
    edit_manifest(small, **change)
    with pytest.raises(InputError, match="damaged, rebuild"):
        open_store(str(small))


def test_table_that_is_gone_or_damaged(small: Path) -> None:
    reader = open_store(str(small))
    [data] = small.glob("*/images.lance/data/*")
    data.write_bytes(b"noise")
    with pytest.raises(InputError, match=r"cannot read it.*rebuild"):
        reader.search(np.ones((1, 8), dtype=np.float32), 1)
    edit_manifest(small, generation="generation-000000000000")
    with pytest.raises(InputError, match="its table is missing"):
        open_store(str(small))


def test_no_index(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(InputError, match=r"no index at .*saywhere index DIR"):
            open_store(str(path))


def rebuild(uri: Path) -> AbstractContextManager[VectorStore]:
    return build_store(str(uri), expert_hash=OTHERS, dimension=2, experts="e", root="r")


def test_failed_build_keeps_the_old_index(small: Path) -> None:
    def interrupted() -> None:
        with rebuild(small) as store:
            store.add(rows_of(2), np.eye(2, dtype=np.float32))
            assert store.info().count == 2
            raise KeyboardInterrupt

    before = generations(small)
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert generations(small) == before
    assert open_store(str(small), expert_hash=EXPERTS).info().count == 8


def test_failed_commit_keeps_the_old_index(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match=r"cannot write it .*No space left"), rebuild(small):
        pass
    assert open_store(str(small)).info().count == 8


def test_failed_first_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), rebuild(tmp_path / "deep" / "index"):
        raise ZeroDivisionError
    assert list((tmp_path / "deep").iterdir()) == []


def test_two_builds_at_once_are_refused(small: Path) -> None:
    with rebuild(small) as store:
        with pytest.raises(InputError, match="another process is building it"), rebuild(small):
            pass
        store.add(rows_of(2), np.eye(2, dtype=np.float32))
    assert open_store(str(small), expert_hash=OTHERS).info().count == 2


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match=r"holds 'holiday.jpg'.*choose"), rebuild(tmp_path):
        pass
    with pytest.raises(InputError, match="check the disk"), rebuild(tmp_path / "holiday.jpg"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def python(code: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )


BUILD_AND_WAIT = """
import sys
import numpy as np
from saywhere.store import build_store
from saywhere.store.row import Row
with build_store(sys.argv[1], expert_hash="x", dimension=2, experts="e", root="r") as store:
    store.add([Row("a", "a.jpg", "h")], np.ones((1, 2), dtype=np.float32))
    print("added", flush=True)
    sys.stdin.readline()
"""


def test_killed_build_keeps_the_old_index(small: Path) -> None:
    before = generations(small)
    with python(BUILD_AND_WAIT, str(small)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "added\n"
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert len(generations(small)) == 2, "the process was killed in mid-build"
    store = open_store(str(small), expert_hash=EXPERTS)
    assert first_ids(store, np.eye(8, dtype=np.float32)) == [[row.image_id] for row in rows_of(8)]
    # Neither its lock nor its leftovers stand in the way of the next build, even one that fails.
    with pytest.raises(ZeroDivisionError), rebuild(small):
        raise ZeroDivisionError
    assert generations(small) == before


SEARCH = """
import sys
import numpy as np
from saywhere.store import open_store
store = open_store(sys.argv[1])
sys.stdin.readline()
queries = np.eye(8, dtype=np.float32)
for _ in range(20):
    answer = [hits[0].image_id for hits in store.search(queries, 1)]
print(*answer)
"""


def test_two_processes_read(small: Path) -> None:
    readers = [python(SEARCH, str(small)) for _ in range(2)]
    answers = [reader.communicate("go\n", timeout=60)[0].split() for reader in readers]
    assert answers == [[row.image_id for row in rows_of(8)]] * 2


AWKWARD = [
    "o'brien.jpg",
    "x' OR '1'='1",
    "'; DROP TABLE images; --",
    'say "where"',
    "back\\slash",
    "100% _like_",
    "日本/ünï.tif",
    "new\nline",
]


def test_awkward_names_are_data(tmp_path: Path) -> None:
    rows = [Row(name, f"/p/{name}", "h", Platform.DRONE, place_id=name) for name in AWKWARD]
    store = build(tmp_path / "it's #1 100%?" / "in'dex", rows, np.eye(8, dtype=np.float32))
    store.add(rows, 2 * np.eye(8, dtype=np.float32))
    assert store.info().count == 8
    found = store.search(np.eye(8, dtype=np.float32), 1, platform=Platform.DRONE)
    for name, [hit] in zip(AWKWARD, found, strict=True):
        assert (hit.image_id, hit.path, hit.place_id) == (name, f"/p/{name}", name)
        assert hit.score == 2.0


def test_platform_is_never_sql(small: Path) -> None:
    with pytest.raises(InputError, match="unknown; give one of satellite, drone, ground"):
        open_store(str(small)).search(
            np.ones((1, 8), dtype=np.float32),
            1,
            platform="drone' OR '1'='1",  # type: ignore[arg-type]
        )


@pytest.mark.parametrize("k", [0, -1, 10_001])
def test_k_out_of_range(big: VectorStore, k: int) -> None:
    with pytest.raises(InputError, match="give 1 to 10,000"):
        big.search(np.ones((1, 64), dtype=np.float32), k)


@pytest.mark.parametrize("shape", [(1, 63), (64,), (1, 1, 64)])
def test_query_of_other_shape(big: VectorStore, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"do not fit \(n, 64\)"):
        big.search(np.ones(shape, dtype=np.float32), 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e16])
def test_components_out_of_range(small: Path, value: float) -> None:
    vectors = np.ones((2, 8), dtype=np.float32)
    vectors[1, 3] = value
    store = open_store(str(small))
    with pytest.raises(InputError, match="vector 1 has a component"):
        store.search(vectors, 1)
    with pytest.raises(InputError, match="vector 1 has a component"):
        store.add(rows_of(2), vectors)


def test_rows_that_do_not_fit(small: Path) -> None:
    store = open_store(str(small))
    with pytest.raises(InputError, match="2 images but 3 vectors"):
        store.add(rows_of(2), np.ones((3, 8), dtype=np.float32))
    with pytest.raises(InputError, match="'im00000': given twice"):
        store.add([*rows_of(1), *rows_of(1)], np.ones((2, 8), dtype=np.float32))
    assert store.info().count == 8


@pytest.mark.parametrize(
    ("lat", "lon"), [(1.0, None), (None, 1.0), (91.0, 0.0), (0.0, 181.0), (float("nan"), 0.0)]
)
def test_positions_off_the_earth(lat: float | None, lon: float | None) -> None:
    with pytest.raises(InputError, match="no WGS84 position"):
        Row("a", "a.jpg", "h", lat=lat, lon=lon)


def test_names_that_are_empty_or_not_utf8() -> None:
    with pytest.raises(InputError, match="image_id is empty"):
        Row("", "a.jpg", "h")
    with pytest.raises(InputError, match="not UTF-8"):
        Row("a", "caf\udce9.jpg", "h")


@pytest.mark.parametrize("uri", ["s3://bucket/index", "qdrant://host", "file:///tmp/index"])
def test_unknown_scheme(uri: str) -> None:
    with pytest.raises(InputError, match=r"unknown scheme .*lance://path"):
        open_store(uri)
    with pytest.raises(InputError, match="unknown scheme"):
        build_store(uri, expert_hash="x", dimension=2, experts="e", root="r")


@pytest.mark.parametrize("uri", ["", "lance://", "a\0b"])
def test_uri_without_a_folder(uri: str) -> None:
    with pytest.raises(InputError, match="names no folder"):
        open_store(uri)


def test_lance_uri_and_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = build("lance://a/index", rows_of(1), np.eye(1, dtype=np.float32))
    monkeypatch.chdir(tmp_path / "a")
    assert store.info().count == open_store("index").info().count == 1
    assert open_store(f"lance://{tmp_path}/a/index").info().count == 1


def test_build_needs_experts_and_a_dimension(tmp_path: Path) -> None:
    for expert_hash, dimension in (("", 4), ("x", 0)):
        with pytest.raises(InputError, match="describe no vectors"):
            build_store(
                str(tmp_path / "index"),
                expert_hash=expert_hash,
                dimension=dimension,
                experts="e",
                root="r",
            )


@pytest.mark.parametrize("own", [None, "4096"])
def test_the_store_reads_little_ahead_unless_told(tmp_path: Path, own: str | None) -> None:
    program = (
        "import os; from pathlib import Path; from saywhere.store.lance import _connect\n"
        f"_connect(Path({str(tmp_path)!r})); print(os.environ['LANCE_DEFAULT_IO_BUFFER_SIZE'])"
    )
    name = "LANCE_DEFAULT_IO_BUFFER_SIZE"
    environment = {k: v for k, v in os.environ.items() if k != name} | ({name: own} if own else {})
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert int(done.stdout) == (int(own) if own else 8 << 20)
