"""Evaluation on planted vectors: every row is recomputed by an independent library or by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ir_measures
import numpy as np
import pytest
from ir_measures import AP, RR, Success

from saywhere.errors import InputError
from saywhere.evaluate import Evaluation, Row, score
from saywhere.report import EVALUATION_COLUMNS, evaluation_cells, evaluation_markdown
from saywhere.task import Task, make_task
from saywhere.types import PLATFORMS, Caption, Dataset, Platform, Query, Record


def _task(places: int = 12, texts_per_image: int = 2) -> Task:
    """Every place seen by satellite and drone, and as many other places from the ground."""
    records, names, platforms = [], [], []
    for index in range(places):
        for platform in (Platform.SATELLITE, Platform.DRONE):
            records.append(Record(f"{index}/{platform}", Path("x"), platform, f"{index:04d}"))
            names.append(f"{index:04d}")
            platforms.append(platform)
        records.append(Record(f"g{index}", Path("x"), Platform.GROUND, f"{2000 + index}"))
        names.append(f"{2000 + index}")
        platforms.append(Platform.GROUND)
    target = np.repeat(np.arange(len(records)), texts_per_image)
    queries = tuple(Query(f"q{i + 1}", f"text {i}") for i in range(len(target)))
    return Task(tuple(records), queries, target, tuple(names), tuple(platforms))


def _vectors(task: Task, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    images = generator.normal(size=(len(task.records), 16)).astype(np.float32)
    noise = generator.normal(size=(len(task.target), 16)).astype(np.float32)
    return images, images[task.target] + 1.5 * noise


def _find(rows: list[Row], *key: str) -> Row:
    return next(r for r in rows if (r.direction, r.positives, r.platform, r.gallery) == key)


@pytest.mark.parametrize("positives", ["image", "place"])
@pytest.mark.parametrize("direction", ["t2i", "i2t"])
def test_headline_rows_equal_ir_measures(direction: str, positives: str) -> None:
    task = _task()
    images, texts = _vectors(task)
    row = _find(score(task, images, texts), direction, positives, "all", "mixed")
    labels = np.arange(len(images)) if positives == "image" else np.asarray(task.places)
    scores, asked, answers = texts @ images.T, labels[task.target], labels
    if direction == "i2t":
        scores, asked, answers = scores.T, answers, asked
    run = {
        str(q): {f"d{d}": float(value) for d, value in enumerate(line)}
        for q, line in enumerate(scores)
    }
    truth = {
        str(q): {f"d{d}": int(label == other) for d, other in enumerate(answers)}
        for q, label in enumerate(asked)
    }
    found = ir_measures.calc_aggregate([Success @ 1, Success @ 5, Success @ 10, RR, AP], truth, run)
    assert row.retrieval.recall_at_1 == pytest.approx(100 * found[Success @ 1])
    assert row.retrieval.recall_at_5 == pytest.approx(100 * found[Success @ 5])
    assert row.retrieval.recall_at_10 == pytest.approx(100 * found[Success @ 10])
    assert row.retrieval.mrr == pytest.approx(found[RR])
    assert row.retrieval.map == pytest.approx(found[AP])


def test_own_gallery_holds_one_platform_only() -> None:
    task = _task()
    images, texts = _vectors(task)
    rows = score(task, images, texts)
    own = _find(rows, "t2i", "image", "drone", "own")
    mixed = _find(rows, "t2i", "image", "drone", "mixed")
    assert own.retrieval.count == mixed.retrieval.count == 24
    assert own.chance["recall_at_1"] == pytest.approx(100 / 12)
    assert mixed.chance["recall_at_1"] == pytest.approx(100 / 36)
    assert own.retrieval.recall_at_5 >= mixed.retrieval.recall_at_5
    # By place, a drone query is also answered by the satellite image of its place.
    place = _find(rows, "t2i", "place", "drone", "mixed")
    assert place.chance["recall_at_1"] == pytest.approx(100 * 2 / 36)


def test_images_nobody_describes_are_gallery_but_no_queries() -> None:
    task = _task(texts_per_image=1)
    kept = np.arange(0, len(task.target), 2)
    task = replace(task, queries=tuple(task.queries[i] for i in kept), target=task.target[kept])
    images, texts = _vectors(task)
    rows = score(task, images, texts)
    assert _find(rows, "i2t", "image", "all", "mixed").retrieval.count == len(kept)
    assert _find(rows, "t2i", "image", "all", "mixed").chance["recall_at_1"] == pytest.approx(
        100 / len(images)
    )


def test_equal_vectors_count_against_the_system() -> None:
    task = _task()
    images = np.ones((len(task.records), 4), np.float32)
    row = score(task, images, np.ones((len(task.target), 4), np.float32))[0]
    assert row.retrieval.recall_at_10 == 0
    assert row.retrieval.median_rank == len(images)
    # In a random order they earn what chance does.
    assert row.even_ties == pytest.approx(row.chance, rel=1e-5)


def test_without_ties_both_figures_agree() -> None:
    task = _task()
    for row in score(task, *_vectors(task)):
        recalls = {name: getattr(row.retrieval, name) for name in row.even_ties}
        assert row.even_ties == pytest.approx(recalls, rel=1e-5)


def test_tables_hold_every_number() -> None:
    task = _task()
    rows = score(task, *_vectors(task))
    context = {"queries": 1, "images": 2, "places": 3, "platforms_known": 0,
               "experts": ["drone"], "expert_hash": "a" * 64, "fusion": "own"}  # fmt: skip
    found = Evaluation(tuple(rows), context)
    text = evaluation_markdown(found)
    assert all(len(evaluation_cells(row)) == len(EVALUATION_COLUMNS) for row in rows)
    assert text.count("\n|") == len(rows) + 2
    flat = found.to_dict()
    recalls = [flat[f"{way}_r{k}"] for way in ("t2i", "i2t") for k in (1, 5, 10)]
    assert flat["r_mean"] == pytest.approx(sum(recalls) / 6)
    assert flat["r_mean_even_ties"] == pytest.approx(flat["r_mean"], rel=1e-5)
    assert flat["t2i_r1"] == rows[0].retrieval.recall_at_1
    assert len(flat["rows"]) == len(rows) == 4 * (1 + 2 * len(PLATFORMS))


def test_a_dataset_without_texts_or_places_cannot_be_scored() -> None:
    record = Record("a", Path("a.jpg"), Platform.DRONE, "0001")
    with pytest.raises(InputError, match="no captions"):
        make_task(Dataset("folder", Path("photos"), (record,)))
    bare = Dataset(
        "geotext", Path("x.json"), (replace(record, place_id=None),), (Caption("a", "t", "t"),)
    )
    with pytest.raises(InputError, match="no place"):
        make_task(bare)


@pytest.mark.real
def test_track4_truth_pairs_with_its_images(data_root: Path) -> None:
    from saywhere.data import read

    task = make_task(read(data_root / "track4-mini"))
    assert len(task.queries) == len(task.records) == 300
    assert sorted(task.target) == list(range(300))
    assert all(record.platform is None for record in task.records)
