"""Fitting never sees what it is tested on, and embedding keeps experts and queries together."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_TRAINING

from saywhere.bundle import load_experts
from saywhere.config import Config, load_config
from saywhere.data import read
from saywhere.embed import clean_texts, embed_images, embed_queries
from saywhere.errors import IndexMismatchError, InputError
from saywhere.expert_set import ExpertSet
from saywhere.fit import MODES, train_experts
from saywhere.hardware import Runtime
from saywhere.search import rank_exact
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.types import Dataset, Query


def _train(dataset: Dataset, *overrides: str) -> ExpertSet:
    config = load_config(overrides=[*SMALL_TRAINING, "threads=1", *overrides])
    return train_experts(dataset, config, _towers(config), lambda _line: None)


def _towers(config: Config) -> tuple[ImageTower, TextTower]:
    return image_tower(config.towers.image, runtime=Runtime(1)), text_tower(
        config.towers.text, runtime=Runtime(1)
    )


@pytest.fixture(scope="module")
def dataset(small_world: Path, tower_cache: Path) -> Dataset:
    return read(small_world / "geotext/train.json")


@pytest.fixture(scope="module")
def experts(small_experts: Path) -> ExpertSet:
    return load_experts(small_experts)


def test_experts_before_the_refit_never_see_the_fitting_places(dataset: Dataset) -> None:
    held = {r.image_id for r in dataset.records if str(r.place_id).endswith("1")}
    assert held
    altered = replace(
        dataset,
        captions=tuple(
            replace(c, text="nothing to see") if c.image_id in held else c for c in dataset.captions
        ),
    )
    first, second = (_train(data, "train.refit=false") for data in (dataset, altered))
    for one, other in zip(first.experts, second.experts, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])
    assert first.calibrations != second.calibrations


def test_the_refit_keeps_what_was_fitted(dataset: Dataset) -> None:
    fitted = _train(dataset, "train.refit=false")
    again = _train(dataset, "train.refit=true")
    assert fitted.calibrations == again.calibrations
    assert fitted.hash != again.hash
    assert set(again.calibrations) == set(MODES)


def test_sharpness_is_fitted_where_there_are_places_enough(dataset: Dataset) -> None:
    """Two places are too few; half of all are enough, and the refit keeps what was found."""
    assert _train(dataset, "train.refit=false").sharpness == {}
    places = sorted({str(record.place_id) for record in dataset.records})
    renamed = {name: f"{name}-{'f' if n % 2 else 'x'}" for n, name in enumerate(places)}
    half = replace(
        dataset,
        records=tuple(replace(r, place_id=renamed[str(r.place_id)]) for r in dataset.records),
    )
    setting = 'train.fit_places_ending_in="f"'
    fitted, again = (
        _train(half, setting, f"train.refit={refit}").sharpness for refit in ("false", "true")
    )
    assert fitted == again
    assert set(fitted) == set(MODES)
    assert all(found.none_offset is not None for found in fitted.values())
    # Bare similarities spread less than fitted log-odds.
    assert fitted["mean"].temperature < fitted["own"].temperature


def test_nothing_is_fitted_without_fitting_places(dataset: Dataset) -> None:
    bare = replace(
        dataset,
        records=tuple(r for r in dataset.records if not str(r.place_id).endswith("1")),
        captions=tuple(c for c in dataset.captions if not re.search(r"/\d{3}1/", c.image_id)),
    )
    assert _train(bare).calibrations == {}


def test_a_dataset_without_captions_is_refused(small_world: Path, tower_cache: Path) -> None:
    with pytest.raises(InputError, match="no caption"):
        _train(read(small_world / "imagery"))


def test_generalist_and_both_layouts(dataset: Dataset) -> None:
    one = _train(dataset, "train.layout=generalist", "train.refit=false")
    assert [expert.name for expert in one.experts] == ["generalist"]
    four = _train(dataset, "train.layout=both", "train.refit=false")
    assert [e.name for e in four.experts] == ["satellite", "drone", "ground", "generalist"]
    vectors = embed_images(four, dataset.records[:3], runtime=Runtime(1)).embeddings.vectors
    assert vectors.shape == (3, 4 * (32 + 128) + 4 + 1)


def test_known_platforms_make_one_hot_gates(experts: ExpertSet, dataset: Dataset) -> None:
    gated = experts.with_mode("gated")
    records = dataset.records[:6]
    known = embed_images(gated, records, runtime=Runtime(1)).embeddings.vectors
    hidden = [replace(record, platform=None) for record in records]
    guessed = embed_images(gated, hidden, runtime=Runtime(1)).embeddings.vectors
    gates = slice(-4, -1)
    assert set(np.unique(known[:, gates])) == {0.0, 1.0}
    np.testing.assert_allclose(guessed[:, gates].sum(1), 1, rtol=1e-5)
    assert not np.array_equal(known, guessed)


def test_another_fusion_of_the_same_experts_is_another_space(
    experts: ExpertSet, dataset: Dataset
) -> None:
    images = embed_images(
        experts.with_mode("mean"), dataset.records[:3], runtime=Runtime(1)
    ).embeddings
    asked = embed_queries(experts.with_mode("own"), [Query("q1", "a pond")], runtime=Runtime(1))
    with pytest.raises(IndexMismatchError):
        rank_exact(asked, images, 1)


def test_queries_are_cleaned_by_the_function_that_cleans_captions(experts: ExpertSet) -> None:
    text = "a red roof in the upper left corner"
    assert clean_texts(experts, [text]) == [text]
    cleaning = experts.config.model_copy(
        update={"text": experts.config.text.model_copy(update={"clean_queries": True})}
    )
    assert clean_texts(replace(experts, config=cleaning), [text]) == ["a red roof"]
