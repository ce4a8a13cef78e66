"""Probabilities of hits: those of the whole score matrix, whatever part of it was searched."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saywhere.area import Area, Box
from saywhere.errors import IndexMismatchError, InputError
from saywhere.match import Belief, match_probabilities
from saywhere.period import Period
from saywhere.products import Best, ScoreTally, ScoreTotals, exact_scores
from saywhere.search import Answer, Page, Scope, search, search_matches
from saywhere.sharpness import Sharpness
from saywhere.store import VectorStore, build_store, open_store, scan
from saywhere.store.row import Row
from saywhere.types import Embeddings, FloatArray, Hit, Platform

EXPERTS = "e" * 64
COUNT, DIMENSION = 5000, 64
BELIEF = Belief(Sharpness(temperature=2.0, stray=0.03, none_offset=5.0))
SHARP = Belief(Sharpness(temperature=0.4, stray=0.01, none_offset=30.0), none_share=0.3)
START = datetime(2026, 1, 1, tzinfo=UTC)


def embeddings(count: int = 4) -> Embeddings:
    return Embeddings(tuple(map(str, range(count))), vectors_of(count, seed=1), EXPERTS)


def vectors_of(count: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, DIMENSION)) * rng.uniform(0.5, 1, (count, 1))
    return np.asarray(vectors, np.float32)


GALLERY = vectors_of(COUNT, seed=0)
KINDS = [list(Platform)[n % 3] for n in range(COUNT)]
LATITUDES = np.linspace(40, 50, COUNT)
TAKEN = [START + timedelta(hours=n) for n in range(COUNT)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    uri = str(tmp_path_factory.mktemp("matches") / "index")
    rows = [
        Row(f"i{n:05d}", f"{n}.jpg", "h", KINDS[n], lat=LATITUDES[n], lon=11.0, taken=TAKEN[n])
        for n in range(COUNT)
    ]
    with build_store(uri, expert_hash=EXPERTS, dimension=DIMENSION, experts="e", root="r") as new:
        new.add(rows, GALLERY)
    return open_store(uri)


def expected(kept: Any, belief: Belief) -> tuple[list[dict[str, float]], list[float]]:
    """By image_id, from the matrix of all scores; and "none"."""
    rows = np.arange(COUNT)[kept]
    scores = exact_scores(embeddings().vectors, GALLERY[rows])
    found = match_probabilities(scores, *belief)
    names = [f"i{n:05d}" for n in rows]
    shares = [dict(zip(names, row, strict=True)) for row in found.images.tolist()]
    return shares, found.none.tolist()


@pytest.mark.parametrize("belief", [BELIEF, SHARP])
@pytest.mark.parametrize(
    ("scope", "kept"),
    [
        (Scope(), slice(None)),
        (Scope(Platform.DRONE), [kind == Platform.DRONE for kind in KINDS]),
        (Scope(area=Area((Box(10, 40, 12, 43.1),))), LATITUDES <= 43.1),
        (Scope(period=Period(TAKEN[4000], None)), slice(4000, None)),
    ],
    ids=["all", "platform", "area", "period"],
)
def test_equal_to_the_whole_score_matrix(
    store: VectorStore, scope: Scope, kept: Any, belief: Belief, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "MAX_SCORES", 3 * 1100)  # four queries take two passes
    shares, none = expected(kept, belief)
    answers = search_matches(store, embeddings(), belief, 50, scope)
    for answer, share, no in zip(answers, shares, none, strict=True):
        assert len(answer.hits) == 50
        for hit in answer.hits:
            assert hit.probability == pytest.approx(share[hit.image_id], abs=1e-6)
        assert answer.none == pytest.approx(no, abs=1e-6)
        assert answer.first == answer.hits[0].probability == pytest.approx(max(share.values()))
    assert max(answer.first or 0 for answer in answers) > 0.05  # else nothing was compared


def test_a_larger_gallery_is_believed_less(store: VectorStore, tmp_path: Path) -> None:
    """The same images ten times: the same best score, a tenth of the probability."""
    uri = str(tmp_path / "ten")
    with build_store(uri, expert_hash=EXPERTS, dimension=DIMENSION, experts="e", root="r") as new:
        for copy in range(10):
            rows = [Row(f"{copy}-{n}", f"{n}.jpg", "h") for n in range(COUNT)]
            new.add(rows, GALLERY)
    once = search_matches(store, embeddings(), BELIEF)
    tenfold = search_matches(open_store(uri), embeddings(), BELIEF)
    for small, large in zip(once, tenfold, strict=True):
        assert large.hits[0].score == small.hits[0].score
        assert large.first == pytest.approx((small.first or 0) / 10, rel=1e-5)
        assert large.none == pytest.approx(small.none, rel=1e-5)


def test_pages_and_thresholds_leave_probabilities_alone(store: VectorStore) -> None:
    whole = search_matches(store, embeddings(), BELIEF, 30)
    least = whole[0].hits[24].score
    paged = search_matches(store, embeddings(), BELIEF, 10, page=Page(20, least))
    assert paged[0].hits == whole[0].hits[20:25]
    for page, all_of_it in zip(paged, whole, strict=True):
        assert (page.first, page.none) == (all_of_it.first, all_of_it.none)


def test_hits_are_those_of_search(store: VectorStore) -> None:
    plain = search(store, embeddings(), 20, platform=Platform.GROUND)
    for belief in (None, BELIEF):
        found = search_matches(store, embeddings(), belief, 20, Scope(Platform.GROUND))
        for answer, hits in zip(found, plain, strict=True):
            assert [replace(hit, probability=None) for hit in answer.hits] == hits
    assert all(answer.none is not None for answer in found)


def test_nothing_searched_says_nothing(store: VectorStore) -> None:
    nowhere = Scope(area=Area((Box(-10, -10, -9, -9),)))
    for answer in search_matches(store, embeddings(), BELIEF, 5, nowhere):
        assert answer == Answer([], None, None)
        assert answer.confident is None


class _Approximate:
    """A store that looks at candidates only, so it cannot know what all scores come to."""

    def __init__(self, store: VectorStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def search_and_total(
        self, vectors: FloatArray, k: int, temperature: float, **scope: Any
    ) -> tuple[list[list[Hit]], ScoreTotals | None]:
        return self._store.search_and_total(vectors, k, temperature, **scope)[0], None


def test_an_approximate_search_says_nothing_rather_than_something_wrong(
    store: VectorStore,
) -> None:
    rough: Any = _Approximate(store)
    for answer in search_matches(rough, embeddings(), BELIEF):
        assert len(answer.hits) == 10
        assert {hit.probability for hit in answer.hits} == {None}
        assert (answer.first, answer.none) == (None, None)


def test_other_experts_and_unfitted_beliefs_are_refused(store: VectorStore) -> None:
    with pytest.raises(IndexMismatchError):
        search_matches(store, replace(embeddings(), expert_hash="f" * 64), BELIEF)
    with pytest.raises(InputError, match="none_offset"):
        search_matches(store, embeddings(), Belief(Sharpness()))
    with pytest.raises(InputError, match="temperature"):
        Sharpness(temperature=0)


def test_confidence_needs_a_best_hit_more_probable_than_all_else() -> None:
    assert Answer([], 0.51, 0.2).confident is True
    assert Answer([], 0.49, 0.2).confident is False


def test_totals_of_a_stream_are_those_of_the_whole() -> None:
    """Blocks of any size, empty ones too, ascending so that the maximum moves; large scores."""
    draw = np.random.default_rng(3)
    scores = np.sort(draw.normal(1000, 30, (3, 4000)), 1).astype(np.float32)
    tally = ScoreTally(3, 0.7)
    assert np.isnan(tally.totals().mean).all()
    for block in np.split(scores, [0, 1, 1, 700, 2500], 1):
        tally.add(block)
    found = tally.totals()
    logs = (scores.astype(np.float64) - scores.mean(1, dtype=np.float64)[:, None]) / 0.7
    top = logs.max(1)
    direct = top + np.log(np.exp(logs - top[:, None]).mean(1))
    assert found.count == 4000
    np.testing.assert_allclose(found.mean, scores.mean(1, dtype=np.float64))
    np.testing.assert_allclose(found.log_mean_exp, direct, rtol=0, atol=1e-5)


def test_the_largest_scores_are_totalled_exactly() -> None:
    """Where float32 products of long vectors are off, the best are those of float64."""
    draw = np.random.default_rng(4)
    images = draw.normal(size=(300, 1500)).astype(np.float32) * 3
    queries = images[:5] + 300  # a common part that cancels badly
    tally = ScoreTally(5, 1.0)
    best = Best(queries, 300, tally)  # all of them
    best.offer(images)
    exact = exact_scores(queries, images).astype(np.float64)
    logs = exact - exact.mean(1, keepdims=True)
    top = logs.max(1)
    direct = top + np.log(np.exp(logs - top[:, None]).mean(1))
    np.testing.assert_allclose(tally.totals().log_mean_exp, direct, rtol=1e-9)
