"""Positions in evaluations: of any task with coordinates, and of worlds rendered for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from saywhere.bundle import load_experts
from saywhere.hardware import Runtime
from saywhere.task_location import task_location
from saywhere.types import FloatArray, Platform, Record
from saywhere.world_benchmark import WorldSizes, run_world_benchmark


def task(count: int, noise: float) -> tuple[
    tuple[Record, ...], tuple[str, ...], np.ndarray, tuple[FloatArray, FloatArray]
]:  # fmt: skip
    """Two images a place, 500 m apart place from place; texts are noisy copies of images."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    records = tuple(
        Record(f"{n}", Path(f"{n}.jpg"), list(Platform)[n % 2], f"{n // 2}",
               48 + 0.0045 * (n // 2), 11 + 1e-4 * (n % 2))
        for n in range(count)
    )  # fmt: skip
    texts = vectors + rng.normal(size=vectors.shape).astype(np.float32) * np.float32(noise)
    places = tuple(str(record.place_id) for record in records)
    return records, places, np.arange(count), (vectors, texts)


def test_tasks_with_coordinates_are_scored_in_metres() -> None:
    clear, blurred = task_location(*task(80, 0.02)), task_location(*task(80, 0.6))
    assert clear is not None
    assert blurred is not None
    assert clear["within_25_m"] == 1.0
    assert clear["median_error_m"] < 10
    assert blurred["within_25_m"] < 0.9
    assert blurred["median_error_m"] > clear["median_error_m"]
    assert blurred["negative_log_likelihood"] > clear["negative_log_likelihood"]
    assert blurred["queries"] == 80
    assert blurred["places"] == 40


def test_without_enough_coordinates_there_is_nothing_to_say() -> None:
    records, places, target, vectors = task(80, 0.1)
    bare = tuple(Record(record.image_id, record.path, None, record.place_id) for record in records)
    assert task_location(bare, places, target, vectors) is None
    assert task_location(*task(8, 0.1)) is None


@pytest.mark.slow
def test_the_world_benchmark_calibrates_on_one_world_and_scores_others(
    small_experts: Path, tmp_path: Path
) -> None:
    sizes = WorldSizes((901, 12), ((902, 6), (903, 6)))
    said: list[str] = []
    experts = load_experts(small_experts)
    found = run_world_benchmark(experts, tmp_path, said.append, sizes, runtime=Runtime(1))
    assert len(said) == 3
    assert found["queries"] == 2 * 5 * 3
    assert found["places"] == 10
    assert found["calibration"]["queries"] == 33
    assert found["seeds"] == {"fitted": 901, "scored": [902, 903]}
    assert found["several_descriptions"]["queries"] == 10
    for name in ("coverage_50", "coverage_95", "median_error_m", "negative_log_likelihood"):
        assert np.isfinite(found[name])
    # A campus of six places is 390 m wide: whatever the experts know, nothing can be further off.
    assert found["median_error_m"] < 400
    assert run_world_benchmark(experts, tmp_path, said.append, sizes, runtime=Runtime(1)) == found
