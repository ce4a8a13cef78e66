"""Search refuses other experts' queries, ranks exactly, and starts without heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import saywhere.search
from saywhere.errors import IndexMismatchError, InputError
from saywhere.search import rank_exact, search
from saywhere.store import VectorStore, build_store, open_store
from saywhere.store.row import Row
from saywhere.types import Embeddings, FloatArray, IntArray, Platform

EXPERTS = "a1b2c3d4e5f6" + "0" * 52
OTHERS = "f6e5d4c3b2a1" + "0" * 52


def embeddings(vectors: FloatArray, expert_hash: str = EXPERTS) -> Embeddings:
    return Embeddings(tuple(f"v{n:04d}" for n in range(len(vectors))), vectors, expert_hash)


def vectors_of(count: int, dimension: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension)) * rng.uniform(0.2, 5, (count, 1))
    return np.asarray(vectors, dtype=np.float32)


def naive_rank(queries: FloatArray, gallery: FloatArray) -> IntArray:
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    return np.argsort(-scores.astype(np.float32), axis=1, kind="stable").astype(np.int64)


@pytest.fixture(scope="module")
def gallery() -> Embeddings:
    return embeddings(vectors_of(300, 32, seed=0))


@pytest.fixture(scope="module")
def store(gallery: Embeddings, tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    uri = str(tmp_path_factory.mktemp("search") / "index")
    platforms = list(Platform)
    rows = [Row(i, f"{i}.jpg", "h", platforms[n % 3]) for n, i in enumerate(gallery.ids)]
    with build_store(uri, expert_hash=EXPERTS, dimension=32, experts="e", root="r") as new:
        new.add(rows, gallery.vectors)
    return open_store(uri)


def test_search_agrees_with_rank_exact(store: VectorStore, gallery: Embeddings) -> None:
    queries = embeddings(vectors_of(6, 32, seed=1))
    ranking = rank_exact(queries, gallery, 20)
    found = [[hit.image_id for hit in hits] for hits in search(store, queries, 20)]
    assert found == [[gallery.ids[n] for n in row] for row in ranking]


def test_search_filters_and_defaults_to_ten(store: VectorStore) -> None:
    queries = embeddings(vectors_of(1, 32, seed=2))
    [hits] = search(store, queries, platform=Platform.GROUND)
    assert len(hits) == 10
    assert {hit.platform for hit in hits} == {Platform.GROUND}


def test_search_refuses_other_experts(store: VectorStore) -> None:
    queries = embeddings(vectors_of(1, 32, seed=2), OTHERS)
    with pytest.raises(IndexMismatchError, match=f"{EXPERTS[:12]}.*{OTHERS[:12]}.*saywhere index"):
        search(store, queries)


def test_search_refuses_bad_queries(store: VectorStore) -> None:
    queries = embeddings(vectors_of(2, 32, seed=2))
    with pytest.raises(InputError, match="k = 0"):
        search(store, queries, 0)
    with pytest.raises(InputError, match=r"do not fit \(n, 32\)"):
        search(store, embeddings(vectors_of(2, 31, seed=2)))
    with pytest.raises(InputError, match="1 ids but 2 vectors"):
        search(store, Embeddings(("a",), queries.vectors, EXPERTS))
    with pytest.raises(InputError, match="not finite"):
        search(store, embeddings(np.full((1, 32), np.nan, dtype=np.float32)))


@pytest.mark.parametrize("k", [None, 1, 7, 300, 9999])
def test_rank_exact_equals_a_naive_ranking(
    gallery: Embeddings, k: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saywhere.search, "MAX_SCORES", 4 * 300)  # eleven queries, three chunks
    queries = embeddings(vectors_of(11, 32, seed=3))
    ranking = rank_exact(queries, gallery, k)
    assert ranking.dtype == np.int64
    np.testing.assert_array_equal(ranking, naive_rank(queries.vectors, gallery.vectors)[:, :k])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 40), k=st.integers(1, 45))
def test_ties_are_in_order_of_position(seed: int, count: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    gallery = rng.integers(-1, 2, (count, 3)).astype(np.float32)  # few values, many ties
    queries = rng.integers(-1, 2, (5, 3)).astype(np.float32)
    ranking = rank_exact(embeddings(queries), embeddings(gallery), k)
    np.testing.assert_array_equal(ranking, naive_rank(queries, gallery)[:, :k])


def test_rank_exact_of_nothing(gallery: Embeddings) -> None:
    nothing = embeddings(np.empty((0, 32), dtype=np.float32))
    assert rank_exact(nothing, gallery, 5).shape == (0, 5)
    assert rank_exact(gallery, nothing, 5).shape == (300, 0)
    assert rank_exact(gallery, nothing, None).shape == (300, 0)


def test_rank_exact_refuses(gallery: Embeddings) -> None:
    with pytest.raises(IndexMismatchError, match=f"{EXPERTS[:12]}.*{OTHERS[:12]}.*embed both"):
        rank_exact(embeddings(gallery.vectors, OTHERS), gallery, 1)
    with pytest.raises(InputError, match="k = 0"):
        rank_exact(gallery, gallery, 0)
    with pytest.raises(InputError, match=r"do not fit \(n, 32\)"):
        rank_exact(embeddings(vectors_of(1, 8, seed=0)), gallery, 1)


def test_import_is_light(tmp_path: Path) -> None:
    code = (
        "import sys, saywhere.search\n"
        "heavy = {'torch', 'lancedb', 'pyarrow', 'saywhere.train', 'saywhere.store.lance'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[]\n"


def test_search_filters_by_area_and_pages_like_a_plain_ranking(tmp_path: Path) -> None:
    from saywhere.area import Area, Box
    from saywhere.search import Page

    vectors = vectors_of(200, 16, seed=5)
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(-5, 5, 200), rng.uniform(170, 190, 200)
    lon = np.where(lon > 180, lon - 360, lon)
    rows = [
        Row(f"v{n:04d}", f"{n}.jpg", "h", list(Platform)[n % 3], None, lat[n], lon[n])
        if n % 10
        else Row(f"v{n:04d}", f"{n}.jpg", "h", list(Platform)[n % 3])
        for n in range(200)
    ]
    uri = str(tmp_path / "index")
    with build_store(uri, expert_hash=EXPERTS, dimension=16, experts="e", root="r") as new:
        new.add(rows, vectors)
    store, queries = open_store(uri), embeddings(vectors_of(1, 16, seed=6))
    area = Area((Box(175, -3, -175, 3),))
    chosen = frozenset({Platform.DRONE, Platform.GROUND})
    wanted = [
        rows[n].image_id
        for n in naive_rank(queries.vectors, vectors)[0]
        if n % 10 and n % 3 and abs(lat[n]) <= 3 and (lon[n] >= 175 or lon[n] <= -175)
    ]
    assert len(wanted) > 20
    [whole] = search(store, queries, 200, platform=chosen, area=area)
    assert [hit.image_id for hit in whole] == wanted
    [page] = search(store, queries, 7, platform=chosen, area=area, page=Page(5))
    assert [hit.image_id for hit in page] == wanted[5:12]
    assert [hit.rank for hit in page] == list(range(6, 13))
    [above] = search(store, queries, 200, area=area, page=Page(least=whole[3].score))
    assert all(hit.score >= whole[3].score for hit in above)
    with pytest.raises(InputError, match="offset"):
        Page(-1)
    scored = store.scores(queries.vectors)
    assert scored.image_ids == tuple(sorted(row.image_id for row in rows))
    assert scored.scores[0] == pytest.approx(vectors @ queries.vectors[0], rel=1e-5)
    assert np.isnan(scored.lat[0])
    assert scored.lon[1] == lon[1]
