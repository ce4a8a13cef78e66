"""Latency of one folded vector in the index, against NumPy and against a search an expert."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np

from parts.common import Line, Setting, folded_dimension, milliseconds, rounds, say, unit_vectors

K = 10
BLOCK = 10_000


def run(setting: Setting) -> list[Line]:
    """Three lines a gallery size."""
    full, small = folded_dimension(), folded_dimension(members=1)
    sizes = [(1_000, full, 40), (10_000, full, 20), (100_000, full, 10), (1_000_000, small, 5)]
    if setting.toy:
        sizes = [(50, 22, 3), (300, 22, 3)]
    return [line for size in sizes for line in _measure(setting.scratch, *size)]


def _measure(scratch: Path, count: int, dimension: int, turns: int) -> list[Line]:
    say(f"search: {count:,} images of {dimension} numbers")
    gallery = unit_vectors(count, dimension, seed=0)
    queries = unit_vectors(64, dimension, seed=1)
    part = dimension // 3
    stores = [store_of(scratch / "folded", gallery)]
    stores += [
        store_of(scratch / f"expert{e}", gallery[:, e * part : (e + 1) * part]) for e in range(3)
    ]
    turn = cycle(range(len(queries)))

    def folded() -> None:
        at = next(turn)
        stores[0].search(queries[at : at + 1], K)

    def bare() -> None:
        scores = gallery @ queries[next(turn)]
        best = np.argpartition(scores, -K)[-K:]
        best[np.argsort(-scores[best])]

    def three() -> None:
        at = next(turn)
        merged: dict[str, float] = {}
        for e, store in enumerate(stores[1:]):
            for hit in store.search(queries[at : at + 1, e * part : (e + 1) * part], K)[0]:
                merged[hit.image_id] = merged.get(hit.image_id, 0) + hit.score
        sorted(merged, key=merged.__getitem__, reverse=True)[:K]

    jobs: dict[str, Callable[[], object]] = {"ours": folded, "numpy": bare, "three": three}
    jobs["many"] = lambda: stores[0].search(queries, K)
    _check(stores[0], gallery, queries[:1])
    seconds = rounds(jobs, turns)
    for folder in ("folded", "expert0", "expert1", "expert2"):
        shutil.rmtree(scratch / folder)
    return _lines(count, dimension, seconds, len(queries))


def _lines(count: int, dimension: int, seconds: dict[str, list[float]], asked: int) -> list[Line]:
    ours, name = milliseconds(seconds["ours"]), f"{count:,} images × {dimension}"
    times = {job: float(np.median(spent)) for job, spent in seconds.items()}
    each = [spent / asked for spent in seconds["many"]]
    numpy = milliseconds(seconds["numpy"])
    return [
        Line(
            "search: one query, top 10, from disk",
            name,
            ours,
            f"NumPy in memory, float32: {numpy}",
            times["numpy"] / times["ours"],
            "",
            seconds,
        ),
        Line(
            "search: one query, top 10, from disk",
            name,
            ours,
            f"three searches and a merge (not exact): {milliseconds(seconds['three'])}",
            times["three"] / times["ours"],
        ),
        Line(
            f"search: {asked} queries at once, each",
            name,
            milliseconds(each),
            f"NumPy, one at a time: {numpy}",
            times["numpy"] / (times["many"] / asked),
        ),
    ]


def store_of(folder: Path, vectors: np.ndarray) -> object:
    """An index of ``vectors``, opened for searching."""
    from saywhere.store import build_store, open_store
    from saywhere.store.row import Row
    from saywhere.types import PLATFORMS

    dimension = vectors.shape[1]
    with build_store(
        str(folder), expert_hash="bench", dimension=dimension, experts="e", root="r"
    ) as store:
        for start in range(0, len(vectors), BLOCK):
            block = vectors[start : start + BLOCK]
            rows = [
                Row(f"{n:07d}.jpg", f"photos/{n:07d}.jpg", f"{n:064x}", PLATFORMS[n % 3])
                for n in range(start, start + len(block))
            ]
            store.append(rows, block)
    return open_store(str(folder))


def _check(store: object, gallery: np.ndarray, queries: np.ndarray) -> None:
    """The index must answer as the exact product does."""
    exact = gallery.astype(np.float64) @ queries[0].astype(np.float64)
    expected = [f"{n:07d}.jpg" for n in np.argsort(-exact, kind="stable")[:K]]
    found = [hit.image_id for hit in store.search(queries, K)[0]]
    if found != expected:
        raise SystemExit(f"search: the index answers {found}, the exact product {expected}")
