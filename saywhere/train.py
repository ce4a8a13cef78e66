"""Training: stage 1 with in-batch negatives, mining, stage 2 with hard negatives.

The towers stay frozen; what is trained are heads and a logit scale (``heads``). Experts see one
platform each; a generalist sees all. Nothing is drawn from a global generator: equal data,
configuration and seed give equal experts, bit by bit, whatever the number of threads.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from saywhere.batches import (
    Batch,
    TrainingSet,
    count_batches,
    draw_batches,
    draw_rows,
)
from saywhere.config import Config, MiningConfig, StageConfig
from saywhere.errors import ConfigError, InputError
from saywhere.expert import Expert
from saywhere.heads import MemberModule, create_member
from saywhere.losses import info_nce, negative_mask
from saywhere.mining import NONE, MiningItems, mine_hard_negatives
from saywhere.types import PLATFORMS, IntArray, Platform

Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class _Tensors:
    """The training set's arrays as tensors, sharing their memory.

    Attributes:
        item_codes: (n, most texts of an item) codes of every text of an item, padded with -1.
    """

    views: torch.Tensor
    texts: torch.Tensor
    codes: torch.Tensor
    item_codes: torch.Tensor
    places: torch.Tensor


@dataclass(frozen=True, slots=True)
class _Run:
    """One member in training."""

    name: str
    module: MemberModule
    data: TrainingSet
    tensors: _Tensors
    config: Config
    generator: np.random.Generator
    continued: bool  # from a generalist


def train_layout(data: TrainingSet, config: Config, log: Log) -> tuple[Expert, ...]:
    """Train what ``config.train.layout`` asks for.

    Args:
        data: items of all platforms.
        log: called with one line for each member and stage.

    Returns:
        experts in the order of ``PLATFORMS`` (those that have items), a generalist last.

    Raises:
        InputError: fewer than two places in all, or on a platform that gets an expert.
        ConfigError: training diverged.
    """
    layout, members = config.train.layout, range(config.train.members)
    parts = _parts(data) if layout != "generalist" else {}
    # All of them before the first minutes are spent.
    for name, part in [("generalist", data), *parts.items()]:
        _check_places(name, part)
    generalists: list[MemberModule] = []
    if layout != "experts" or config.train.start_from_generalist:
        runs = [_new_run(f"generalist/{k}", data, config, None) for k in members]
        generalists = _train_members(runs, config.threads, log)
    starts = generalists if config.train.start_from_generalist else [None for _ in members]
    runs = [
        _new_run(f"{platform}/{k}", part, config, starts[k])
        for platform, part in parts.items()
        for k in members
    ]
    modules = iter(_train_members(runs, config.threads, log))
    experts = [
        Expert(platform, tuple(next(modules).freeze() for _ in members)) for platform in parts
    ]
    if layout != "experts":
        experts.append(Expert(None, tuple(module.freeze() for module in generalists)))
    return tuple(experts)


def member_seed(seed: int, name: str) -> int:
    """Seed of one member, such as ``drone/0``; other seeds or names give unrelated ones."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:6], "little")


def _parts(data: TrainingSet) -> dict[Platform, TrainingSet]:
    present = [PLATFORMS[code] for code in np.unique(data.platforms)]
    return {platform: data.of_platform(platform) for platform in present}


def _check_places(name: str, data: TrainingSet) -> None:
    if len(np.unique(data.places)) < 2:
        raise InputError(
            f"{name}: {len(data)} images of fewer than two places cannot show what differs; add "
            "places, or leave that platform's images out"
        )


def _new_run(name: str, data: TrainingSet, config: Config, start: MemberModule | None) -> _Run:
    """A member before its first step; a given ``start`` is continued in a copy."""
    seed = member_seed(config.seed, name)
    module = create_member(data.views, data.texts, config.head, seed)
    if start is not None:
        module.load_state_dict(start.state_dict())
    generator = np.random.default_rng([seed, 1])
    return _Run(name, module, data, _tensors(data), config, generator, start is not None)


def _train_members(runs: Sequence[_Run], threads: int, log: Log) -> list[MemberModule]:
    """Train members side by side, each on one thread.

    Heads are small: a step split over two threads waits for the slower one at every operation (on a
    busy machine ten times as long), two members on a thread each wait for nobody. It also makes the
    result independent of the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "member", torch.set_num_threads, (1,)) as pool:
            return list(pool.map(lambda run: _train_member(run, log), runs))
    finally:
        torch.set_num_threads(before)


def _train_member(run: _Run, log: Log) -> MemberModule:
    """Both stages of one member."""
    train = run.config.train
    if run.continued:
        _stage(run, "fine_tune", train.fine_tune, None, log)
    else:
        _stage(run, "stage1", train.stage1, None, log)
    _stage(run, "stage2", train.stage2, train.mining, log)
    return run.module.eval()


def _stage(
    run: _Run, stage_name: str, stage: StageConfig, mining: MiningConfig | None, log: Log
) -> None:
    """All epochs of one stage; with ``mining``, hard negatives join their anchors."""
    if not stage.epochs:
        return
    started = time.perf_counter()
    by_platform = run.config.train.batches == "platform"
    steps = stage.epochs * count_batches(run.data, stage.batch_size, by_platform=by_platform)
    optimiser = _Optimiser(run.module, stage, steps)
    loss, hard = math.nan, None
    for epoch in range(stage.epochs):
        if mining and (epoch == 0 or (mining.refresh and epoch % mining.refresh == 0)):
            hard = _mine(run, mining)
        batches = draw_batches(
            run.data,
            stage.batch_size,
            run.generator,
            by_platform=by_platform,
            hard=hard,
            per_anchor=mining.per_anchor if mining else 0,
        )
        extra = hard if mining and mining.in_denominator else None
        loss = _epoch(run, batches, optimiser, extra)
    if not math.isfinite(loss):
        raise ConfigError(
            f"{run.name}: the loss became {loss}; lower train.{stage_name}.learning_rate "
            f"({stage.learning_rate})"
        )
    seconds = time.perf_counter() - started
    log(f"{run.name}: {stage_name}, {stage.epochs} epochs, loss {loss:.3f}, {seconds:.1f} s")


def _mine(run: _Run, mining: MiningConfig) -> IntArray:
    """Hard negatives by the current heads: first view and last text of every item."""
    data, member = run.data, run.module.freeze()
    texts = data.text_start[1:] - 1  # the orientation-free caption stands last
    items = MiningItems(
        texts=member.text(data.texts[texts]),
        images=member.image(data.views[data.view_start[:-1]]),
        places=data.places,
        captions=data.text_codes[texts],
    )
    return mine_hard_negatives(items, mining.top_k, relative_margin=mining.relative_margin)


def _epoch(
    run: _Run, batches: Iterator[Batch], optimiser: _Optimiser, hard: IntArray | None
) -> float:
    """One pass; the mean loss of its batches. ``hard`` joins the denominators."""
    module, tensors = run.module.train(), run.tensors
    losses = []
    for batch in batches:
        extra = None
        if hard is not None and len(items := _drawn_negatives(hard, batch, run.generator)):
            rows = draw_rows(run.data.view_start, items, run.generator)
            extra = module.image(tensors.views[rows]), _negatives(tensors, batch, items)
        loss = info_nce(
            module.image(tensors.views[batch.views]),
            module.text(tensors.texts[batch.texts]),
            module.scale,
            _negatives(tensors, batch, batch.items),
            extra=extra,
            label_smoothing=optimiser.label_smoothing,
        )
        optimiser.step(loss)
        losses.append(float(loss.detach()))
    return float(np.mean(losses)) if losses else math.nan


def _negatives(tensors: _Tensors, batch: Batch, items: IntArray) -> torch.Tensor:
    """(batch, items) bool: of which texts of the batch these items are negatives."""
    return negative_mask(
        tensors.places[batch.items],
        tensors.codes[batch.texts],
        tensors.places[items],
        tensors.item_codes[items],
    )


def _drawn_negatives(hard: IntArray, batch: Batch, generator: np.random.Generator) -> IntArray:
    """One mined negative per anchor: distinct items, none that is in the batch anyway."""
    own = hard[batch.items]  # (batch, k)
    columns = generator.integers(0, own.shape[1], len(own))
    items = own[np.arange(len(own)), columns]
    return np.setdiff1d(items[items != NONE], batch.items)


def _tensors(data: TrainingSet) -> _Tensors:
    counts = np.diff(data.text_start)
    item_codes = np.full((len(data), counts.max()), -1, np.int64)
    item_codes[np.arange(counts.max()) < counts[:, None]] = data.text_codes
    return _Tensors(
        views=torch.from_numpy(data.views),
        texts=torch.from_numpy(data.texts),
        codes=torch.from_numpy(data.text_codes),
        item_codes=torch.from_numpy(item_codes),
        places=torch.from_numpy(data.places),
    )


class _Optimiser:
    """AdamW under a cosine schedule with linear warm-up; decays weights only, as CLIP does."""

    def __init__(self, module: MemberModule, stage: StageConfig, steps: int) -> None:
        parameters = list(module.parameters())
        groups = [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": stage.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ]
        # Fused: the plain loop over parameters took a third of each step on a CPU.
        self._adam = torch.optim.AdamW(groups, lr=stage.learning_rate, fused=True)
        self._module, self._stage = module, stage
        self._steps, self._done = max(1, steps), 0
        self.label_smoothing = stage.label_smoothing

    def step(self, loss: torch.Tensor) -> None:
        for group in self._adam.param_groups:
            group["lr"] = self._stage.learning_rate * self._factor()
        self._adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._adam.step()
        self._module.clamp_scale()
        self._done += 1

    def _factor(self) -> float:
        warm = max(1, round(self._stage.warmup * self._steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._done / self._steps)))
        return min((self._done + 1) / warm, cosine)
