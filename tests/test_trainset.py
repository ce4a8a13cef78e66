"""A dataset becomes a training set: texts, views, codes. The towers are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saywhere import trainset
from saywhere.batches import starts_of
from saywhere.config import TextConfig, load_config
from saywhere.errors import InputError
from saywhere.types import PLATFORMS, Caption, Dataset, FloatArray, Platform, Record

TOWERS: Any = ("image tower", "text tower")


def dataset(folder: Path, images: int = 4) -> Dataset:
    from PIL import Image

    records, captions = [], []
    for k in range(images):
        path = folder / f"{k}.png"
        Image.fromarray(np.full((40, 40, 3), 40 * k, np.uint8)).save(path)
        records.append(Record(f"{k}.png", path, PLATFORMS[k % 3], f"place-{k // 2}"))
        text = f"A red roof number {k}. To the left there is a lawn."
        captions += [Caption(f"{k}.png", text, text), Caption(f"{k}.png", "A lawn.", "A lawn.")]
    return Dataset("geotext", folder / "train.json", tuple(records), tuple(captions))


@pytest.fixture
def features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Image features that count the request's views, text features that tell the length."""

    def image_features(_tower: str, requests: Sequence[Any], *_: object) -> list[FloatArray]:
        counts = [len(request.views) for request in requests]
        return [np.arange(8 * n, dtype=np.float32).reshape(n, 8) for n in counts]

    def text_features(_tower: str, texts: Sequence[str]) -> FloatArray:
        return np.asarray([[len(text)] * 4 for text in texts], np.float32)

    monkeypatch.setattr(trainset, "image_features", image_features)
    monkeypatch.setattr(trainset, "text_features", text_features)


@pytest.mark.usefixtures("features")
def test_prepare_lays_a_dataset_out(tmp_path: Path) -> None:
    small = load_config(overrides=["views.test=['full','flip']", "views.train=3"])
    found = trainset.prepare(dataset(tmp_path), small, TOWERS)
    assert np.diff(found.train.view_start).tolist() == [5] * 4
    assert found.train.views.shape == (20, 8)
    assert found.train.texts.shape == (12, 4)
    assert found.train.places.tolist() == [0, 0, 1, 1]
    assert found.place_ids == ("place-0", "place-0", "place-1", "place-1")
    assert found.train.platforms.tolist() == [0, 1, 2, 0]
    # "A lawn." is the last text of every image: one caption, one code.
    assert len(set(found.train.text_codes[found.train.text_start[1:] - 1].tolist())) == 1
    for item, views in enumerate(found.test_features):
        start = found.train.view_start[item]
        assert np.array_equal(views, found.train.views[start : start + 2])
        assert np.shares_memory(views, found.train.views)


@pytest.mark.usefixtures("features")
def test_degraded_views_come_after_the_plain_ones(tmp_path: Path) -> None:
    data, settings = dataset(tmp_path), ["views.test=['full']", "views.train=2"]
    plain = trainset.prepare(data, load_config(overrides=settings), TOWERS).requests
    more = load_config(overrides=[*settings, "views.degraded=3"])
    for before, after in zip(plain, trainset.prepare(data, more, TOWERS).requests, strict=True):
        assert after.views[:3] == before.views
        assert [view.degradation is not None for view in after.views] == [False] * 3 + [True] * 3


@pytest.mark.usefixtures("features")
def test_the_data_hash_tells_contents_and_not_order(tmp_path: Path) -> None:
    small = load_config(overrides=["views.train=1"])
    data = dataset(tmp_path)
    found = trainset.prepare(data, small, TOWERS).data_hash
    turned = replace(data, records=data.records[::-1])
    assert trainset.prepare(turned, small, TOWERS).data_hash == found
    moved = (replace(data.records[0], place_id="elsewhere"), *data.records[1:])
    flown = (replace(data.records[0], platform=Platform.DRONE), *data.records[1:])
    reworded = (replace(data.captions[0], text="A blue roof."), *data.captions[1:])
    for other in (
        replace(data, records=moved),
        replace(data, records=flown),
        replace(data, captions=reworded),
        dataset(tmp_path, images=3),
    ):
        assert trainset.prepare(other, small, TOWERS).data_hash != found


def test_training_texts_are_clean_distinct_and_in_order(tmp_path: Path) -> None:
    data = dataset(tmp_path, images=2)
    full = "A red roof number 1. To the left there is a lawn."
    both = trainset.training_texts(data, TextConfig())[1]
    clean = both[1]
    assert both[0] == full
    assert "left" not in clean
    assert both[2:] == ["A lawn."]
    assert trainset.training_texts(data, TextConfig(keep_full=False))[1] == [clean, "A lawn."]
    satellite = TextConfig(remove_orientation=(Platform.SATELLITE,))
    assert trainset.training_texts(data, satellite)[1] == [full, "A lawn."]
    without_full = satellite.model_copy(update={"keep_full": False})
    assert trainset.training_texts(data, without_full)[1] == [full, "A lawn."]


def test_data_that_cannot_be_trained_on_is_refused(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    nowhere = tuple(replace(record, place_id=None) for record in data.records)
    for bad, message in (
        (replace(data, captions=data.captions[2:]), "1 images have no caption and 0 no platform"),
        (replace(data, records=nowhere), "0 images have no caption and 4 no platform"),
    ):
        with pytest.raises(InputError, match=message):
            trainset.prepare(bad, load_config(), TOWERS)


def test_codes_number_by_first_appearance() -> None:
    assert trainset.codes(["b", "a", "b", "c"]).tolist() == [0, 1, 0, 2]
    assert starts_of([2, 0, 3]).tolist() == [0, 2, 2, 5]
    assert starts_of([]).tolist() == [0]
