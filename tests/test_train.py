"""Training on a planted correspondence: it learns, it repeats itself, it masks what it must."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saywhere import stages
from saywhere.batches import Batch, TrainingSet
from saywhere.config import Config, load_config
from saywhere.errors import ConfigError, InputError
from saywhere.expert import Expert
from saywhere.heads import create_member
from saywhere.losses import info_nce
from saywhere.mining import NONE, mine_hard_negatives
from saywhere.negatives import batch_negatives, drawn_negatives
from saywhere.optimiser import Optimiser
from saywhere.train import member_seed, train_layout
from saywhere.types import PLATFORMS, IntArray, Platform

SMALL = (
    "threads=1",
    "head.dimension=16",
    "head.hidden=32",
    "head.image_dropout=0.1",
    "head.text_dropout=0.1",
    "head.hidden_dropout=0.1",
    "train.stage1.epochs=12",
    "train.stage1.batch_size=32",
    "train.stage1.learning_rate=0.01",
    "train.stage2.epochs=3",
    "train.stage2.batch_size=32",
    "train.layout=experts",
    "train.batches=mixed",
    "train.members=1",
    "train.start_from_generalist=false",
    "train.mining.top_k=5",
    "train.mining.in_denominator=false",
    "train.canonical.weight=0",
)


def config(*overrides: str) -> Config:
    return load_config(overrides=[*SMALL, *overrides])


def planted(count: int, seed: int, platforms: int = 3, images_a_place: int = 1) -> TrainingSet:
    """Text features are a fixed linear map of what the image features hold, both with noise."""
    rng = np.random.default_rng(seed)
    fixed = np.random.default_rng(99)
    to_image, to_text = fixed.standard_normal((2, 8, 24))
    places = np.arange(count) // images_a_place
    hidden = rng.standard_normal((count, 8))
    views = (hidden.repeat(3, 0) @ to_image) + 0.5 * rng.standard_normal((3 * count, 24))
    texts = (hidden.repeat(2, 0) @ to_text) + 0.5 * rng.standard_normal((2 * count, 24))
    return TrainingSet(
        views=views.astype(np.float32),
        view_start=np.arange(count + 1) * 3,
        texts=texts.astype(np.float32),
        text_start=np.arange(count + 1) * 2,
        text_codes=np.arange(2 * count),
        places=places,
        platforms=places % platforms,
    )


def recall_at_1(expert: Expert, data: TrainingSet) -> float:
    images = expert.encode_image(np.split(data.views, data.view_start[1:-1]))
    texts = expert.encode_text(data.texts[data.text_start[:-1]])
    return float(np.mean((texts @ images.T).argmax(1) == np.arange(len(data))))


def fingerprint(experts: Sequence[Expert]) -> str:
    digest = hashlib.sha256()
    for expert in experts:
        for name, array in sorted(expert.arrays().items()):
            digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def silent(_line: str) -> None:
    """A log nobody reads."""


def losses(lines: list[str]) -> list[float]:
    return [float(match) for line in lines for match in re.findall(r"loss (\S+),", line)]


def test_the_loss_falls_and_unseen_places_are_found() -> None:
    data, unseen = planted(150, 0, platforms=1), planted(60, 1, platforms=1)
    lines: list[str] = []
    stage_one = train_layout(data, config("train.stage2.epochs=0"), lines.append)[0]
    barely = train_layout(
        data, config("train.stage2.epochs=0", "train.stage1.epochs=1"), lines.append
    )[0]
    assert losses(lines)[0] < losses(lines)[1] / 2
    assert [line.split(":")[0] for line in lines] == ["satellite/0"] * 2
    assert recall_at_1(stage_one, unseen) > 20 / 60  # chance is one in sixty
    assert recall_at_1(stage_one, unseen) > recall_at_1(barely, unseen)
    whole = train_layout(data, config(), lines.append)[0]
    assert recall_at_1(whole, unseen) > 20 / 60
    assert "stage2, 3 epochs" in lines[-1]


def test_layouts() -> None:
    data = planted(60, 0)
    quick = ("train.stage1.epochs=1", "train.stage2.epochs=0")
    found = {
        layout: [
            e.platform for e in train_layout(data, config(*quick, f"train.layout={layout}"), silent)
        ]
        for layout in ("experts", "generalist", "both")
    }
    assert found == {
        "experts": list(PLATFORMS),
        "generalist": [None],
        "both": [*PLATFORMS, None],
    }
    two = data.take(np.flatnonzero(data.platforms != 1))
    platforms = [e.platform for e in train_layout(two, config(*quick), silent)]
    assert platforms == [Platform.SATELLITE, Platform.GROUND]


def test_equal_seeds_train_equal_experts_bit_by_bit() -> None:
    data = planted(60, 0)
    small = ("train.stage1.epochs=2", "train.layout=both", "train.mining.in_denominator=true")
    one = train_layout(data, config(*small), silent)
    torch.manual_seed(5)  # what others did with the global generator does not matter
    torch.rand(3)
    assert fingerprint(one) == fingerprint(train_layout(data, config(*small), silent))
    assert fingerprint(one) != fingerprint(train_layout(data, config(*small, "seed=1"), silent))


_SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1])
import test_train as t
print(t.fingerprint(t.train_layout(t.planted(40, 0), t.config("train.stage1.epochs=2"), t.silent)))
"""


def test_another_process_trains_equal_experts() -> None:
    command = [sys.executable, "-c", _SCRIPT, str(Path(__file__).parent)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    here = train_layout(planted(40, 0), config("train.stage1.epochs=2"), silent)
    assert found.stdout.strip() == fingerprint(here)


def test_training_leaves_the_global_generators_alone() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    train_layout(planted(30, 0), config("train.stage1.epochs=1"), silent)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]


def test_seeds_differ_by_every_letter_of_the_name() -> None:
    names = [f"{who}/{k}" for who in (*PLATFORMS, "generalist") for k in range(16)]
    seeds = {member_seed(seed, name) for seed in (0, 1, 9, 10, 1000, 10_001) for name in names}
    assert len(seeds) == 6 * len(names)
    assert all(0 <= seed < 2**48 for seed in seeds)


def test_members_of_an_ensemble_differ() -> None:
    quick = ("train.stage1.epochs=1", "train.stage2.epochs=0", "train.members=3")
    for start in ("true", "false"):
        options = (*quick, f"train.start_from_generalist={start}")
        for expert in train_layout(planted(60, 0), config(*options), silent):
            weights = [member.image.weight2 for member in expert.members]
            assert len(weights) == 3
            assert not np.array_equal(weights[0], weights[1])
            assert not np.array_equal(weights[1], weights[2])


def test_experts_continue_from_a_generalist_without_changing_it() -> None:
    data = planted(60, 0)
    alone = train_layout(data, config("train.layout=generalist"), silent)[0]
    both = ("train.layout=both", "train.start_from_generalist=true")
    *_, generalist = train_layout(data, config(*both), silent)
    assert fingerprint([alone]) == fingerprint([generalist])
    # Without a step of their own, experts are what they started from.
    still = train_layout(
        data, config(*both, "train.fine_tune.epochs=0", "train.stage2.epochs=0"), silent
    )
    assert len({fingerprint([expert]) for expert in still}) == 1
    apart = train_layout(data, config("train.stage1.epochs=0", "train.stage2.epochs=0"), silent)
    assert len({fingerprint([expert]) for expert in apart}) == 3


def test_stage_two_mines_first_and_then_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    mined: list[IntArray] = []
    original = mine_hard_negatives

    def spy(*args: Any, **kwargs: Any) -> IntArray:
        mined.append(original(*args, **kwargs))
        assert args[1] == 5
        assert kwargs == {"relative_margin": 0.1}
        return mined[-1]

    monkeypatch.setattr(stages, "mine_hard_negatives", spy)
    data = planted(60, 0, platforms=1, images_a_place=3)
    for refresh, epochs, expected in ((2, 5, 3), (0, 5, 1), (5, 5, 1), (5, 0, 0)):
        mined.clear()
        options = (f"train.mining.refresh={refresh}", f"train.stage2.epochs={epochs}")
        train_layout(data, config(*options, "train.mining.relative_margin=0.1"), silent)
        assert len(mined) == expected
        for hard in mined:
            own = data.places[hard] == data.places[:, None]
            assert not (own & (hard != NONE)).any()
    faster = ("train.mining.refresh=2", "train.stage2.epochs=3", "train.stage2.learning_rate=0.05")
    mined.clear()
    train_layout(data, config(*faster, "train.mining.relative_margin=0.1"), silent)
    assert not np.array_equal(mined[0], mined[1])


def test_mined_images_in_the_denominator_are_masked_like_the_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The spy knows which row each feature is: it recomputes every mask from places and texts."""
    data = planted(60, 0, platforms=1, images_a_place=3)
    codes = data.text_codes.copy()
    codes[data.text_start[40]] = codes[data.text_start[7]]  # two places, one caption
    data = replace(data, text_codes=codes)
    seen: list[tuple[Batch, IntArray, Tensor]] = []
    original, original_mask = info_nce, batch_negatives

    def spy_mask(tensors: Any, batch: Any, items: IntArray) -> Tensor:
        mask = original_mask(tensors, batch, items)
        seen.append((batch, items, mask))
        return mask

    extras: list[int] = []

    def spy_loss(*args: Any, **kwargs: Any) -> Tensor:
        extra = kwargs["extra"]
        extras.append(0 if extra is None else len(extra[0]))
        if extra is not None:
            assert extra[1].shape == (len(args[1]), len(extra[0]))
            torch.testing.assert_close(extra[0].norm(dim=1), torch.ones(len(extra[0])))
        return original(*args, **kwargs)

    monkeypatch.setattr(stages, "batch_negatives", spy_mask)
    monkeypatch.setattr(stages, "info_nce", spy_loss)
    small = ("train.stage2.batch_size=8", "train.stage2.epochs=4", "train.stage1.epochs=1")
    train_layout(data, config(*small, "train.mining.in_denominator=true"), silent)
    assert max(extras) > 0
    shared = 0
    for batch, items, mask in seen:
        for row, (item, text) in enumerate(zip(batch.items, batch.texts, strict=True)):
            for column, other in enumerate(items):
                own = set(codes[data.text_start[other] : data.text_start[other + 1]].tolist())
                same_caption = int(codes[text]) in own
                same_place = data.places[item] == data.places[other]
                shared += same_caption and not same_place
                assert bool(mask[row, column]) is not bool(same_caption or same_place)
    assert shared > 0  # the planted caption did meet the other place
    outside = [(b, items) for b, items, _ in seen if items is not b.items]
    assert outside
    for batch, items in outside:
        assert not set(items.tolist()) & set(batch.items.tolist())


def test_padding_draws_no_negative() -> None:
    rows = np.asarray([0, 1])
    hard = np.full((4, 2), NONE)
    hard[1] = 3
    batch = Batch(rows, rows, rows)
    assert drawn_negatives(hard, batch, np.random.default_rng(0)).tolist() == [3]
    hard[1] = 0  # in the batch anyway
    assert drawn_negatives(hard, batch, np.random.default_rng(0)).tolist() == []


def test_without_in_denominator_nothing_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    original = info_nce

    def spy(*args: Any, **kwargs: Any) -> Tensor:
        assert kwargs["extra"] is None
        return original(*args, **kwargs)

    monkeypatch.setattr(stages, "info_nce", spy)
    train_layout(planted(30, 0), config("train.stage1.epochs=1"), silent)


@pytest.mark.parametrize("batches", ["platform", "mixed"])
def test_the_schedule_covers_every_step(batches: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    original = Optimiser.step

    def spy(self: Any, loss: Tensor, backward: Any = None) -> None:
        original(self, loss, backward)
        rates.append(self._adam.param_groups[0]["lr"])

    monkeypatch.setattr(Optimiser, "step", spy)
    options = ("train.layout=generalist", f"train.batches={batches}", "train.stage2.epochs=0")
    train_layout(planted(101, 0), config(*options, "train.stage1.epochs=10"), silent)
    # 34, 34 and 33 items in batches of 32: two, two, and one that takes the leftover along.
    assert len(rates) == {"platform": 10 * 5, "mixed": 10 * 4}[batches]
    assert max(rates) == pytest.approx(0.01, rel=0.05)
    assert rates[0] < 0.01 / 2  # warm-up
    assert 0 < rates[-1] < 0.01 / 20  # cosine down to nothing, and never nothing itself
    assert min(rates) > 0


def test_only_weights_decay() -> None:
    data = planted(30, 0, platforms=1)
    module = create_member(data.views, data.texts, config().head, 0)
    optimiser = Optimiser(module, config().train.stage1, 5)
    decays = {
        id(parameter): group["weight_decay"]
        for group in optimiser._adam.param_groups
        for parameter in group["params"]
    }
    named = dict(module.named_parameters())
    assert len(decays) == len(named)
    for name, parameter in named.items():
        assert (decays[id(parameter)] > 0) == name.endswith("weight")


def test_one_place_is_not_enough() -> None:
    data = planted(60, 0, platforms=1, images_a_place=60)
    for layout in ("experts", "generalist", "both"):
        with pytest.raises(InputError, match="fewer than two places"):
            train_layout(data, config(f"train.layout={layout}"), silent)


def test_a_platform_with_one_place_is_found_before_training_starts() -> None:
    data = planted(30, 0, platforms=2)
    platforms = data.platforms.copy()
    platforms[7] = 2
    lines: list[str] = []
    with pytest.raises(InputError, match="ground: 1 images of fewer than two places"):
        train_layout(replace(data, platforms=platforms), config(), lines.append)
    assert lines == []
    generalist = config("train.layout=generalist", "train.stage1.epochs=1")
    assert len(train_layout(replace(data, platforms=platforms), generalist, silent)) == 1


def test_divergence_is_an_error_and_not_an_expert() -> None:
    data = planted(30, 0, platforms=1)
    data.views[3, 5] = np.nan
    with pytest.raises(ConfigError, match=r"satellite/0: the loss became nan; lower train\.stage1"):
        train_layout(data, config("train.stage2.epochs=0"), silent)
