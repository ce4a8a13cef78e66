"""Hubness: what is near everything is taken off, and stays an inner product."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_more import MORE
from test_train import config, planted, recall_at_1, silent

from saywhere.errors import ExpertError
from saywhere.expert import Expert, expert_from_arrays
from saywhere.hubness import Hubness, hubness_from_arrays
from saywhere.more import with_more
from saywhere.train import train_layout
from saywhere.types import FloatArray, Platform


def unit(rows: int, seed: int, size: int = 6) -> FloatArray:
    vectors = np.random.default_rng(seed).standard_normal((rows, size)).astype(np.float32)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def test_the_inner_product_is_the_formula() -> None:
    hubness = Hubness(unit(7, 0), unit(5, 1), weight=0.8, temperature=0.1)
    images, texts = unit(3, 2), unit(4, 3)
    found = (
        np.concatenate([texts, hubness.of_texts(texts)], 1)
        @ np.concatenate([images, hubness.of_images(images)], 1).T
    )
    for t, text in enumerate(texts):
        for v, image in enumerate(images):
            near_texts = 0.1 * np.log(np.mean([np.exp(b @ image / 0.1) for b in hubness.texts]))
            near_images = 0.1 * np.log(np.mean([np.exp(b @ text / 0.1) for b in hubness.images]))
            expected = text @ image - 0.8 * (near_texts + near_images)
            assert found[t, v] == pytest.approx(expected, abs=1e-5)


def test_a_hub_no_longer_crowds_out_the_right_answers() -> None:
    axes = np.eye(12, dtype=np.float32)
    texts = axes[:6]
    hub = np.concatenate([np.full(6, 6**-0.5), np.zeros(6)])[None].astype(np.float32)
    # Each text's own image is less near to it than the hub, which is that near to all of them.
    images = np.concatenate([hub, 0.35 * texts + np.sqrt(1 - 0.35**2) * axes[6:]])
    for weight, right in ((0.0, 0), (1.0, 6)):
        hubness = Hubness(images, texts, weight, 0.1)
        scores = (
            np.concatenate([texts, hubness.of_texts(texts)], 1)
            @ np.concatenate([images, hubness.of_images(images)], 1).T
        )
        beaten = scores[np.arange(6), np.arange(1, 7)] > scores[:, 0]
        assert beaten.sum() == right


def test_an_expert_keeps_its_banks_and_photos_are_searched_without() -> None:
    settings = config(*MORE, "more.hubness=1", "more.bank=20")
    main, extra = planted(30, 0), planted(160, 7, platforms=1)
    plain = with_more((), main, extra, config(*MORE), silent)[0]
    expert = with_more((), main, extra, settings, silent)[0]
    assert expert.hubness is not None
    assert expert.hubness.images.shape == expert.hubness.texts.shape == (20, plain.dimension)
    assert expert.dimension == plain.dimension + 2
    back = expert_from_arrays(Platform.SATELLITE, expert.arrays())
    test = planted(60, 8, platforms=1)
    views = np.split(test.views, test.view_start[1:-1])
    np.testing.assert_array_equal(back.encode_image(views), expert.encode_image(views))
    np.testing.assert_array_equal(back.encode_text(test.texts), expert.encode_text(test.texts))
    np.testing.assert_array_equal(expert.encode_image(views)[:, :-2], plain.encode_image(views))
    assert not expert.encode_photo_query(views)[:, -2:].any()
    np.testing.assert_array_equal(plain.encode_photo_query(views), plain.encode_image(views))
    assert recall_at_1(expert, test) > 0.5


def test_experts_of_a_training_get_banks_of_all_platforms() -> None:
    settings = config("train.layout=both", "train.hubness=0.5", "train.bank=20")
    data = planted(40, 0)
    made = train_layout(data, settings, silent)
    plain = train_layout(data, config("train.layout=both"), silent)
    assert [expert.name for expert in made] == [expert.name for expert in plain]
    for expert, other in zip(made, plain, strict=True):
        assert expert.hubness is not None
        assert (expert.hubness.weight, len(expert.hubness.texts)) == (0.5, 20)
        found = expert.encode_text(data.texts)
        np.testing.assert_array_equal(found[:, :-2], other.encode_text(data.texts))
    adapted = config("train.hubness=0.5", "adapters.text.rank=2", "train.layout=generalist")
    assert train_layout(data, adapted, silent)[0].hubness is None


def test_banks_that_fit_no_expert_are_refused() -> None:
    expert = train_layout(planted(30, 0), config("train.layout=generalist"), silent)[0]
    good = Hubness(unit(3, 0, expert.dimension), unit(3, 1, expert.dimension), 1.0, 0.1)
    arrays = replace(expert, hubness=good).arrays()
    assert isinstance(expert_from_arrays(None, arrays), Expert)
    with pytest.raises(ExpertError, match=r"hubness\.texts"):
        expert_from_arrays(None, {k: v for k, v in arrays.items() if k != "hubness.texts"})
    with pytest.raises(ExpertError, match="another dimension"):
        expert_from_arrays(
            None, arrays | {"hubness.images": unit(3, 0, 9), "hubness.texts": unit(3, 1, 9)}
        )
    with pytest.raises(ExpertError, match="do not fit"):
        hubness_from_arrays({**good.arrays(), "hubness.images": unit(3, 0, 9)})
    with pytest.raises(ExpertError, match="out of range"):
        replace(good, temperature=0.0)
    assert hubness_from_arrays({}) is None
