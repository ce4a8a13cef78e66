"""Training: stage 1 with in-batch negatives, mining, stage 2 with hard negatives.

The towers stay frozen; what is trained are heads and a logit scale (``heads``). Experts see one
platform each; a generalist sees all. ``train_experts`` trains, fits the fusion on places that were
kept apart, and (``refit``) trains again with every place, keeping what was fitted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from saywhere.batches import Batch, TrainingSet, draw_batches
from saywhere.config import Config, StageConfig
from saywhere.errors import InputError
from saywhere.expert import Expert
from saywhere.heads import MemberModule, create_member
from saywhere.losses import info_nce, negative_mask
from saywhere.mining import NONE, MiningItems, mine_hard_negatives
from saywhere.types import PLATFORMS, IntArray, Platform

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The training set's arrays as tensors, made once."""

    views: torch.Tensor
    texts: torch.Tensor
    codes: torch.Tensor
    places: torch.Tensor


def train_layout(data: TrainingSet, config: Config, log: Log) -> tuple[Expert, ...]:
    """Train what ``config.train.layout`` asks for.

    Args:
        data: items of all platforms.
        log: called with one line for each expert and stage.

    Returns:
        experts in the order of ``PLATFORMS`` (those that have items), a generalist last.

    Raises:
        InputError: a platform with fewer than two places.
    """
    torch.set_num_threads(config.threads)
    layout = config.train.layout
    generalists: list[MemberModule] = []
    experts: list[Expert] = []
    if layout != "experts" or config.train.start_from_generalist:
        generalists = [
            _train_member(data, config, member, None, f"generalist/{member}", log)
            for member in range(config.train.members)
        ]
    if layout != "generalist":
        experts = [
            _train_platform(data, platform, config, generalists, log)
            for platform in PLATFORMS
            if (data.platforms == PLATFORMS.index(platform)).any()
        ]
    if layout != "experts":
        experts.append(Expert(None, tuple(member.freeze() for member in generalists)))
    return tuple(experts)


def _train_platform(
    data: TrainingSet,
    platform: Platform,
    config: Config,
    generalists: list[MemberModule],
    log: Log,
) -> Expert:
    own = data.of_platform(platform)
    starts = generalists if config.train.start_from_generalist else []
    members = [
        _train_member(
            own,
            config,
            member,
            starts[member] if starts else None,
            f"{platform}/{member}",
            log,
        ).freeze()
        for member in range(config.train.members)
    ]
    return Expert(platform, tuple(members))


def _train_member(
    data: TrainingSet,
    config: Config,
    member: int,
    start: MemberModule | None,
    name: str,
    log: Log,
) -> MemberModule:
    """Both stages of one member; a given ``start`` is continued, not changed."""
    if len(np.unique(data.places)) < 2:
        raise InputError(f"{name}: needs images of at least two places to learn what differs")
    seed = int.from_bytes(f"{config.seed}:{name}".encode(), "little") % 2**31
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    module = create_member(data.views, data.texts, config.head)
    if start is not None:
        module.load_state_dict(start.state_dict())
    tensors = _tensors(data)
    started = time.perf_counter()
    loss = _stage1(module, data, tensors, config, generator)
    log(f"{name}: stage 1, {config.train.stage1.epochs} epochs, loss {loss:.3f}, "
        f"{time.perf_counter() - started:.1f} s")  # fmt: skip
    if config.train.stage2.epochs:
        loss = _stage2(module, data, tensors, config, generator)
        log(f"{name}: stage 2, {config.train.stage2.epochs} epochs, loss {loss:.3f}, "
            f"{time.perf_counter() - started:.1f} s")  # fmt: skip
    return module.eval()


def _stage1(
    module: MemberModule,
    data: TrainingSet,
    tensors: _Tensors,
    config: Config,
    generator: np.random.Generator,
) -> float:
    stage = config.train.stage1
    optimiser = _Optimiser(module, stage, len(data))
    by_platform = config.train.batches == "platform"
    loss = math.nan
    for _ in range(stage.epochs):
        batches = draw_batches(data, stage.batch_size, generator, by_platform=by_platform)
        loss = _epoch(module, tensors, batches, optimiser, None)
    return loss


def _stage2(
    module: MemberModule,
    data: TrainingSet,
    tensors: _Tensors,
    config: Config,
    generator: np.random.Generator,
) -> float:
    stage, mining = config.train.stage2, config.train.mining
    optimiser = _Optimiser(module, stage, len(data))
    loss = math.nan
    hard: IntArray = np.empty((0, 0), np.int64)
    for epoch in range(stage.epochs):
        if epoch == 0 or (mining.refresh and epoch % mining.refresh == 0):
            hard = _mine(module, data, config)
        batches = draw_batches(
            data,
            stage.batch_size,
            generator,
            by_platform=config.train.batches == "platform",
            hard=hard,
            per_anchor=mining.per_anchor,
        )
        extra = _Denominator(data, hard, generator) if mining.in_denominator else None
        loss = _epoch(module, tensors, batches, optimiser, extra)
    return loss


def _mine(module: MemberModule, data: TrainingSet, config: Config) -> IntArray:
    """Hard negatives by the current heads: first view and last text of every item."""
    mining = config.train.mining
    member = module.freeze()
    texts = data.text_start[1:] - 1  # the orientation-free caption stands last
    items = MiningItems(
        texts=member.text(data.texts[texts]),
        images=member.image(data.views[data.view_start[:-1]]),
        places=data.places,
        captions=data.text_codes[texts],
    )
    return mine_hard_negatives(items, mining.top_k, relative_margin=mining.relative_margin)


def _epoch(
    module: MemberModule,
    tensors: _Tensors,
    batches: Iterator[Batch],
    optimiser: _Optimiser,
    extra: _Denominator | None,
) -> float:
    """One pass; the mean loss of its batches."""
    module.train()
    losses = []
    for batch in batches:
        places, codes = tensors.places[batch.items], tensors.codes[batch.texts]
        image = module.image(tensors.views[batch.views])  # (n, d)
        text = module.text(tensors.texts[batch.texts])  # (n, d)
        extra_images = extra_negatives = None
        if extra is not None:
            rows, items = extra.draw(batch)
            if len(items):
                extra_images = module.image(tensors.views[rows])  # (m, d)
                extra_negatives = places[:, None] != tensors.places[items][None, :]
        loss = info_nce(
            image,
            text,
            module.scale,
            negative_mask(places, codes),
            extra_images=extra_images,
            extra_negatives=extra_negatives,
            label_smoothing=optimiser.label_smoothing,
        )
        optimiser.step(loss)
        losses.append(float(loss.detach()))
    return float(np.mean(losses)) if losses else math.nan


def _tensors(data: TrainingSet) -> _Tensors:
    return _Tensors(
        views=torch.from_numpy(data.views),
        texts=torch.from_numpy(data.texts),
        codes=torch.from_numpy(data.text_codes),
        places=torch.from_numpy(data.places),
    )


class _Denominator:
    """Draws one mined negative image per anchor, to stand in every text's denominator."""

    def __init__(self, data: TrainingSet, hard: IntArray, generator: np.random.Generator) -> None:
        self._data, self._hard, self._generator = data, hard, generator

    def draw(self, batch: Batch) -> tuple[IntArray, IntArray]:
        """(view rows, items) of the drawn negatives; may be empty."""
        hard = self._hard[batch.items]
        columns = self._generator.integers(0, hard.shape[1], len(hard))
        items = hard[np.arange(len(hard)), columns]
        items = np.unique(items[items != NONE])
        return self._data.view_start[items], items


class _Optimiser:
    """AdamW under a cosine schedule with linear warm-up."""

    def __init__(self, module: MemberModule, stage: StageConfig, items: int) -> None:
        steps = max(1, stage.epochs * math.ceil(items / stage.batch_size))
        warm = max(1, round(stage.warmup * steps))
        self._adam = torch.optim.AdamW(
            module.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
        )
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._adam,
            lambda step: min(
                (step + 1) / warm,
                0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))),
            ),
        )
        self.label_smoothing = stage.label_smoothing

    def step(self, loss: torch.Tensor) -> None:
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._schedule.step()
