"""Live towers: chunks, caches, checkpoints and processes change the cost, never the gradient."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tuning_step import (
    ITEMS,
    WORDS,
    cached,
    gradients,
    live_towers,
    no_adapter,
    open_towers,
    tiny_config,
    tiny_towers,
)
from two_processes import run_two

from saywhere.batches import Batch
from saywhere.checkpoints import Training
from saywhere.config import StageConfig, TuningConfig, load_config
from saywhere.errors import ConfigError
from saywhere.expert import Expert
from saywhere.features import ImageRequest
from saywhere.heads import Ensemble, create_member
from saywhere.optimiser import Optimiser
from saywhere.sources import Wanted
from saywhere.trainset import PreparedData
from saywhere.tune import Material, tune_experts
from saywhere.tuning.processes import Processes, this_process
from saywhere.tuning.source import LiveFeatures
from saywhere.views import View

Gradients = dict[str, NDArray[np.float32]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny towers, exported once into a cache of their own."""
    folder = tiny_towers(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAYWHERE_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def plain(folder: Path) -> Gradients:
    return gradients(tiny_config(folder, "tuning.chunk=64"), folder)


def same(found: Gradients, expected: Gradients) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        atol = 1e-6 + 1e-4 * float(np.abs(values).max())
        np.testing.assert_allclose(found[name], values, atol=atol, err_msg=name)


def test_every_trained_part_gets_a_gradient(plain: Gradients) -> None:
    parts = {name.split("/")[0] for name in plain}
    assert {"adapters.image", "adapters.text", "loss"} <= {
        name.split(".blocks")[0] for name in parts
    }
    assert {name for name in plain if name.startswith("members.")} == {
        "members.0.logit_scale",
        *(f"members.0.{s}.second.{p}" for s in ("image", "text") for p in ("weight", "bias")),
    }
    assert all(np.abs(values).max() > 0 for values in plain.values())


@pytest.mark.parametrize(
    "override",
    [
        "tuning.chunk=2",
        "tuning.cached_gradients=true",
        "tuning.checkpointing=true",
    ],
)
def test_the_gradient_is_that_of_the_plain_batch(
    folder: Path, plain: Gradients, override: str
) -> None:
    same(gradients(tiny_config(folder, override), folder), plain)


def test_stages_of_convolutions_are_seen_under_checkpointing(folder: Path) -> None:
    """Stages nest blocks there: timm's own checkpointing would pass their hooks by."""
    settings = (
        "adapters.text.rank=0",
        "towers.image.name=test_efficientnet",
        f"towers.image.weights={folder / 'convolutions.safetensors'}",
        "towers.image.stages=['blocks.1','blocks.2']",
    )
    plain = gradients(tiny_config(folder, *settings), folder)
    assert [name for name in plain if name.endswith("conv_pwl/B")]
    found = gradients(tiny_config(folder, *settings, "tuning.checkpointing=true"), folder)
    same(found, plain)


@pytest.mark.parametrize("way", ["cached_gradients", "checkpointing"])
def test_dropout_is_the_same_when_a_chunk_runs_again(folder: Path, way: str) -> None:
    dropout = ("adapters.text.dropout=0.5", "adapters.image.dropout=0.5")
    once = gradients(tiny_config(folder, *dropout), folder)
    same(gradients(tiny_config(folder, *dropout, f"tuning.{way}=true"), folder), once)
    without = gradients(tiny_config(folder), folder)
    assert not np.allclose(once["loss"], without["loss"], atol=1e-3)


@pytest.mark.parametrize("more", [(), ("tuning.cached_gradients=true",)])
def test_two_processes_give_the_gradient_of_one(
    folder: Path, tmp_path: Path, plain: Gradients, more: tuple[str, ...]
) -> None:
    script = str(Path(__file__).with_name("tuning_step.py"))
    run_two(lambda rank: [script, str(folder), str(tmp_path / f"{rank}.npz"), *more], timeout=300)
    for rank in range(2):
        same(dict(np.load(tmp_path / f"{rank}.npz")), plain)


def test_a_frozen_side_keeps_its_cached_features(folder: Path) -> None:
    for side, other in (("image", "text"), ("text", "image")):
        found = gradients(no_adapter(tiny_config(folder), side), folder)
        assert not [name for name in found if name.startswith(f"adapters.{side}")]
        assert [name for name in found if name.startswith(f"adapters.{other}")]


def test_live_features_without_an_adapter_are_the_cached_ones(folder: Path) -> None:
    config = tiny_config(folder, "adapters.text.dropout=0.5")
    exported = open_towers(config)
    towers = live_towers(config, folder, exported)
    with torch.no_grad():
        for tower in towers:
            for name, parameter in (tower.parameters if tower else {}).items():
                parameter.mul_(0 if name.endswith(".B") else 1)
    data = cached(exported, folder)
    source = LiveFeatures(data, towers, config.tuning, this_process(config.tuning), 0)
    images, texts = source.embed(np.arange(7)[::-1], np.asarray([5, 0, 5]))
    np.testing.assert_allclose(images, data.views[::-1], atol=1e-4 * np.abs(data.views).max())
    np.testing.assert_allclose(texts, data.texts[[5, 0, 5]], atol=1e-5)
    assert any(part.training for tower in towers if tower for part in tower.module.modules())


def test_an_adapter_that_the_model_passes_by_is_an_error(folder: Path) -> None:
    config = tiny_config(folder)
    exported = open_towers(config)
    towers = live_towers(config, folder, exported)
    data = cached(exported, folder)
    source = LiveFeatures(data, towers, config.tuning, this_process(config.tuning), 0)
    source.reduce()  # no row of this process was in a batch: there is nothing to miss
    source._fed = True
    with pytest.raises(ConfigError, match=r"gets no gradient .* adapters\.\*\.targets"):
        source.reduce()


def test_training_leaves_the_global_generator_alone(folder: Path) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    gradients(tiny_config(folder, "adapters.text.dropout=0.5"), folder)
    assert torch.equal(before, torch.random.get_rng_state())


# --- the loop ---------------------------------------------------------------------------------


def tuned(folder: Path, *overrides: str) -> dict[str, NDArray[np.float32]]:
    """Adapters and heads of a generalist after both stages, checkpoints kept in ``folder``."""
    config = tiny_config(folder.parent, *LOOP, *overrides)
    exported = open_towers(config)
    data = PreparedData(
        train=cached(exported, folder.parent),
        test_features=(),
        requests=tuple(
            ImageRequest(folder.parent / f"{n}.png", str(n), (View(zoom=1 - n / 20),))
            for n in range(ITEMS)
        ),
        size=160,
        texts=tuple(WORDS),
        place_ids=tuple(str(n) for n in range(ITEMS)),
        data_hash="",
    )
    member = create_member(data.train.views, data.train.texts, config.head, 0).freeze()
    training = Training(folder, lambda _line: None, 0)
    material = Material(data, np.arange(ITEMS), exported)
    found = tune_experts(
        [Expert(None, (member, member))], material, config, lambda _line: None,
        partial(training.member, "fit"),
    )  # fmt: skip
    return found[0].arrays() | found[0].adapter_arrays()


LOOP = (
    "adapters.text.dropout=0.3",
    "head.text_dropout=0.2",
    "tuning.stage1.epochs=2",
    "tuning.stage1.batch_size=3",
    "tuning.stage2.epochs=2",
    "tuning.stage2.batch_size=3",
    "train.mining.in_denominator=true",
)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_cut_off_anywhere_it_ends_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch, accumulate: int
) -> None:
    more = f"tuning.accumulate={accumulate}"
    step, left = Optimiser.flush, [-1]

    def spy(self: Optimiser) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        step(self)

    monkeypatch.setattr(Optimiser, "flush", spy)
    expected = tuned(folder / f"whole{accumulate}", more)
    for last in (3, 7):
        left[0] = last
        place = folder / f"cut{accumulate}-{last}"
        with pytest.raises(KeyboardInterrupt):
            tuned(place, more)
        left[0] = -1
        found = tuned(place, more)
        for name, values in expected.items():
            np.testing.assert_array_equal(found[name], values, err_msg=name)
    other = tuned(folder / f"seed{accumulate}", more, "seed=1")
    assert any(not np.array_equal(other[name], values) for name, values in expected.items())


def test_accumulated_batches_give_their_mean(folder: Path) -> None:
    """Two equal batches a step are one of them a step."""
    module = create_member(np.ones((3, 4), "f4"), np.ones((3, 4), "f4"), load_config().head, 0)
    tuning = TuningConfig(accumulate=2, head_rate=1)
    seen = []
    for settings, batches in ((TuningConfig(head_rate=1), 1), (tuning, 2)):
        one = create_member(np.ones((3, 4), "f4"), np.ones((3, 4), "f4"), load_config().head, 0)
        optimiser = Optimiser(one, StageConfig(epochs=1), 4, settings)
        for _ in range(batches):
            optimiser.step(one.image.second.weight.square().sum())
        seen.append(one.image.second.weight.detach().clone())
    torch.testing.assert_close(*seen)
    assert not torch.equal(seen[0], module.image.second.weight)


def test_heads_learn_at_their_own_rate() -> None:
    features = np.ones((3, 4), "f4")
    adapter = torch.nn.Parameter(torch.ones(2, 3))
    member = create_member(features, features, load_config().head, 0)
    optimiser = Optimiser(
        Ensemble([member], {"text.x.A": adapter}), StageConfig(learning_rate=0.5), 1,
        TuningConfig(head_rate=0.01),
    )  # fmt: skip
    before = member.text.second.weight.detach().clone()
    optimiser.step(adapter.sum() + member.text.second.weight.sum())
    # The first step of Adam is as long as the rate, whatever the gradient.
    assert float((1 - adapter).detach().mean()) == pytest.approx(0.5, rel=0.1)
    assert float((before - member.text.second.weight).detach().mean()) == pytest.approx(
        0.005, rel=0.1
    )


def test_shares_cover_a_batch_and_may_be_empty(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = no_adapter(tiny_config(folder), "image")
    alone = this_process(config.tuning)
    for rows in (1, 2, 7, 64):
        shares = [replace(alone, rank=rank, count=5).bounds(rows) for rank in range(5)]
        assert shares[0][0] == 0
        assert shares[-1][1] == rows
        assert all(one[1] == other[0] for one, other in pairwise(shares))
        assert {last - first for first, last in shares} <= {rows // 5, -(-rows // 5)}
    exported = open_towers(config)
    towers, data = live_towers(config, folder, exported), cached(exported, folder)
    monkeypatch.setattr(Processes, "gather", lambda _s, own, n: own.new_ones((n, own.shape[1])))
    first = replace(alone, count=5)
    source = LiveFeatures(data, towers, config.tuning, first, 0)
    two = np.arange(2)
    for found in source.steps([Wanted(Batch(two, two, two), two[:0], two[:0])], "x"):
        (found.texts.sum() + found.images.sum()).backward()  # type: ignore[no-untyped-call]
        assert found.backward is not None
        found.backward()
    assert towers[1] is not None
    assert all(parameter.grad is None for parameter in towers[1].parameters.values())
    assert source.embed(two, two)[1].shape == (2, 32 + 256)
