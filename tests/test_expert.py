"""Heads in NumPy against their torch twins, ensembles, and what a file of heads must hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from saywhere.config import HeadConfig
from saywhere.errors import ExpertError
from saywhere.expert import Expert, Head, Member, _gelu, expert_from_arrays
from saywhere.heads import MemberModule, create_member
from saywhere.types import FloatArray, Platform

IMAGE, TEXT = 20, 12  # features


def features(rows: int, width: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    scale = rng.uniform(0.1, 5, width)
    return (rng.standard_normal((rows, width)) * scale + rng.normal(0, 3, width)).astype(np.float32)


def module(seed: int = 0, hidden: int = 16, **changes: float) -> MemberModule:
    config = HeadConfig.model_validate({"dimension": 8, "hidden": hidden, **changes})
    return create_member(features(50, IMAGE, 1), features(60, TEXT, 2), config, seed)


def expert(members: int = 2, hidden: int = 16) -> Expert:
    frozen = tuple(module(seed, hidden).eval().freeze() for seed in range(members))
    return Expert(Platform.DRONE, frozen)


@pytest.mark.parametrize("hidden", [16, 0])
def test_numpy_heads_equal_torch_heads(hidden: int) -> None:
    torch_member = module(hidden=hidden).eval()
    frozen = torch_member.freeze()
    for head, twin, width in (
        (frozen.image, torch_member.image, IMAGE),
        (frozen.text, torch_member.text, TEXT),
    ):
        rows = features(30, width, 3)
        with torch.no_grad():
            expected = twin(torch.from_numpy(rows)).numpy()
        found = head(rows)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert frozen.logit_scale == pytest.approx(1 / 0.07)


def test_gelu_is_the_one_that_was_trained() -> None:
    values = np.linspace(-6, 6, 500, dtype=np.float32)
    expected = torch.nn.functional.gelu(torch.from_numpy(values), approximate="tanh").numpy()
    np.testing.assert_allclose(_gelu(values), expected, atol=1e-6)


@pytest.mark.parametrize("hidden", [16, 0])
def test_only_heads_and_logit_scale_are_trained(hidden: int) -> None:
    layers = ["second"] if hidden == 0 else ["first", "second"]
    expected = {"logit_scale"} | {
        f"{side}.{layer}.{kind}"
        for side in ("image", "text")
        for layer in layers
        for kind in ("weight", "bias")
    }
    assert {name for name, _ in module(hidden=hidden).named_parameters()} == expected


def test_frozen_heads_are_copies() -> None:
    trained = module()
    before = trained.freeze()
    with torch.no_grad():
        trained.image.second.weight.zero_()
    assert before.image.weight2.any()


def test_standardisation_survives_large_offsets_and_constant_features() -> None:
    rows = features(3000, IMAGE, 4) + np.float32(100)
    rows[:, 5] = 7
    head = create_member(rows, features(10, TEXT, 5), HeadConfig(), 0).freeze().image
    expected = rows.astype(np.float64).std(0)
    expected[5] = 1  # as in scikit-learn: a new value must not be divided by next to nothing
    np.testing.assert_allclose(head.mean, rows.astype(np.float64).mean(0), rtol=1e-6)
    np.testing.assert_allclose(head.std, expected, rtol=1e-4)


def test_logit_scale_is_held_at_100_and_can_come_back() -> None:
    trained = module()
    with torch.no_grad():
        trained.logit_scale.fill_(9.0)
    trained.clamp_scale()
    assert trained.scale.item() == pytest.approx(100, rel=1e-5)
    trained.scale.backward()  # type: ignore[no-untyped-call]
    assert trained.logit_scale.grad is not None
    assert trained.logit_scale.grad.item() > 0


def test_dropout_zeros_its_share_and_keeps_the_mean() -> None:
    trained = module(image_dropout=0.3)
    dropout = trained.image.input_dropout
    values = torch.ones((400, 500))
    dropped = dropout.train()(values)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    assert torch.equal(dropout.eval()(values), values)


def test_seeds_make_heads_and_leave_the_global_generator_alone() -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one, again, other = module(3), module(3), module(4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(one.image.second.weight, again.image.second.weight)
    assert not torch.equal(one.image.second.weight, other.image.second.weight)


def test_similarity_of_an_ensemble_is_the_mean_of_its_members() -> None:
    whole = expert(3)
    images, texts = [features(1, IMAGE, seed) for seed in range(4)], features(5, TEXT, 9)
    found = whole.encode_text(texts) @ whole.encode_image(images).T
    parts = [
        member.text(texts) @ member.image(np.concatenate(images)).T for member in whole.members
    ]
    np.testing.assert_allclose(found, np.mean(parts, 0), atol=1e-6)
    assert whole.dimension == whole.encode_text(texts).shape[1] == 24


def test_views_are_averaged_in_the_joint_space() -> None:
    whole = expert(2)
    images = [features(count, IMAGE, count) for count in (3, 1, 5)]
    found = whole.encode_image(images)
    for row, views in zip(found, images, strict=True):
        parts = []
        for member in whole.members:
            mean = member.image(views).mean(0)
            parts.append(mean / np.linalg.norm(mean))
        np.testing.assert_allclose(row, np.concatenate(parts) / np.sqrt(2), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_no_images_and_no_views() -> None:
    whole = expert()
    assert whole.encode_image([]).shape == (0, 16)
    with pytest.raises(ExpertError, match="image 1 of 2 has no view"):
        whole.encode_image([features(2, IMAGE, 0), np.empty((0, IMAGE), np.float32)])


def test_features_of_another_tower_are_refused() -> None:
    with pytest.raises(ExpertError, match=r"takes \(n, 20\)"):
        expert().encode_image([features(2, IMAGE + 1, 0)])
    with pytest.raises(ExpertError, match=r"takes \(n, 12\)"):
        expert().encode_text(features(2, 1, 0))  # one feature would broadcast


@pytest.mark.parametrize("hidden", [16, 0])
def test_arrays_round_trip(hidden: int) -> None:
    whole = expert(2, hidden)
    back = expert_from_arrays(Platform.DRONE, whole.arrays())
    assert back.platform is Platform.DRONE
    assert back.name == "drone"
    texts = features(4, TEXT, 1)
    assert np.array_equal(back.encode_text(texts), whole.encode_text(texts))
    assert [m.logit_scale for m in back.members] == pytest.approx(
        [m.logit_scale for m in whole.members]
    )
    for name, array in back.arrays().items():
        assert np.array_equal(array, whole.arrays()[name])
    assert expert_from_arrays(None, whole.arrays()).name == "generalist"


@pytest.mark.parametrize("hidden", [16, 0])
def test_every_array_is_needed_in_its_shape(hidden: int) -> None:
    arrays = expert(2, hidden).arrays()
    for name, array in arrays.items():
        without = {key: value for key, value in arrays.items() if key != name}
        with pytest.raises(ExpertError, match="train it anew"):
            expert_from_arrays(None, without)
        if array.size:
            wrongs: list[Any] = [np.concatenate([array, array]), array[None]]
            for wrong in [*wrongs, array.astype(np.float64)]:
                if name.endswith("logit_scale") and wrong.dtype == np.float64:
                    continue  # a number, whatever its width
                with pytest.raises(ExpertError, match="train it anew"):
                    expert_from_arrays(None, {**arrays, name: wrong})
    with pytest.raises(ExpertError, match="train it anew"):
        expert_from_arrays(None, {**arrays, "0.image.weight3": arrays["0.image.weight2"]})
    with pytest.raises(ExpertError, match="0 members"):
        expert_from_arrays(None, {})


def test_text_and_image_heads_must_meet() -> None:
    member = module().freeze()
    text = member.text
    shorter = Head(text.mean, text.std, text.weight1, text.bias1, text.weight2[:5], text.bias2[:5])
    arrays = Expert(None, (Member(member.image, shorter, 1.0),)).arrays()
    with pytest.raises(ExpertError, match="give 8 and 5 numbers"):
        expert_from_arrays(None, arrays)
