"""One member in training: its stages, epoch by epoch, and where it goes on after a kill.

Stage 2 is stage 1 with hard negatives, mined by the member's own heads before its first epoch and
every so often after.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saywhere.batches import (
    Batch,
    TrainingSet,
    count_batches,
    draw_batches,
    draw_rows,
)
from saywhere.checkpoints import Checkpoint, MemberCheckpoints
from saywhere.config import Config, MiningConfig, StageConfig
from saywhere.errors import ConfigError
from saywhere.expert import Expert
from saywhere.heads import Ensemble, MemberModule
from saywhere.losses import info_nce
from saywhere.mining import MiningItems, mine_hard_negatives
from saywhere.negatives import CodeTensors, batch_negatives, code_tensors, drawn_negatives
from saywhere.optimiser import Optimiser
from saywhere.sources import CachedFeatures, FeatureSource, Wanted
from saywhere.types import IntArray, Log

_SAY_EVERY_S = 30.0  # at most, within a stage


@dataclass(frozen=True, slots=True)
class Run:
    """One member before its first step.

    Attributes:
        name: such as ``drone/1``.
        generator: of its batches.
        continued: from a generalist, whose weights ``module`` has.
        checkpoints: None: it starts anew, and leaves nothing behind.
        source: what gives the features of rows of ``data``.
    """

    name: str
    module: MemberModule | Ensemble
    data: TrainingSet
    config: Config
    generator: np.random.Generator
    continued: bool
    checkpoints: MemberCheckpoints | None = None
    source: FeatureSource | None = None

    @property
    def features(self) -> FeatureSource:
        """The source; without one, the cached features of ``data``."""
        return self.source or CachedFeatures(self.data)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage by its name in the configuration; with ``mining``, hard negatives join anchors."""

    name: str
    config: StageConfig
    mining: MiningConfig | None = None


@dataclass(slots=True)
class _Position:
    """Where a member stands in a stage; with its module and generators, all that changes."""

    optimiser: Optimiser
    epoch: int = 0
    loss: float = math.nan
    hard: IntArray | None = None


def train_member(run: Run, log: Log) -> None:
    """Both stages of one member, or what a checkpoint leaves of them; its module is then trained.

    Raises:
        ConfigError: training diverged.
        InputError: a checkpoint cannot be written.
    """
    stages = _stages(run)
    found = run.checkpoints.load() if run.checkpoints else None
    if found is not None:
        _restore(run, found)
        log(f"resumed: {run.name} at {_label(found.stage)} epoch {found.epoch}")
        stages = stages[[stage.name for stage in stages].index(found.stage) :]
    tensors = code_tensors(run.data)
    for stage in stages:
        position = _position(run, stage)
        if found is not None and found.stage == stage.name:
            _place(position, found)
        _train_stage(run, tensors, stage, position, log)
    if run.checkpoints and run.checkpoints.latest != (stage.name, stage.config.epochs):
        run.checkpoints.save(_checkpoint(run, stage, position, done=True))
    run.module.eval()


def _stages(run: Run) -> list[_Stage]:
    train, tuning = run.config.train, run.config.tuning
    if run.source is not None:
        first, second = _Stage("tuning.stage1", tuning.stage1), tuning.stage2
        return [first, _Stage("tuning.stage2", second, train.mining)]
    continued = _Stage("train.fine_tune", train.fine_tune)
    first = continued if run.continued else _Stage("train.stage1", train.stage1)
    return [first, _Stage("train.stage2", train.stage2, train.mining)]


def _position(run: Run, stage: _Stage) -> _Position:
    by_platform = run.config.train.batches == "platform"
    size = stage.config.batch_size
    batches = count_batches(run.data, size, by_platform=by_platform)
    if run.source is None:
        return _Position(Optimiser(run.module, stage.config, stage.config.epochs * batches))
    tuning = run.config.tuning
    # An epoch ends with a step, so its last batches may be fewer than the others'.
    whole = -(-batches // tuning.accumulate) * tuning.accumulate
    return _Position(
        Optimiser(run.module, stage.config, stage.config.epochs * whole, tuning, run.source.reduce)
    )


def _train_stage(
    run: Run, tensors: CodeTensors, stage: _Stage, position: _Position, log: Log
) -> None:
    """The epochs of one stage that are still to be done."""
    epochs, label, started = stage.config.epochs, _label(stage.name), time.perf_counter()
    if position.epoch == epochs:
        return
    said = started
    while position.epoch < epochs:
        _train_epoch(run, tensors, stage, position)
        if run.checkpoints and math.isfinite(position.loss) and run.checkpoints.due():
            done = position.epoch == epochs
            run.checkpoints.save(_checkpoint(run, stage, position, done=done))
        if time.perf_counter() - said > _SAY_EVERY_S and position.epoch < epochs:
            log(f"{run.name}: {label}, epoch {position.epoch} of {epochs}, "
                f"loss {position.loss:.3f}")  # fmt: skip
            said = time.perf_counter()
    if not math.isfinite(position.loss):
        raise ConfigError(
            f"{run.name}: the loss became {position.loss}; lower "
            f"{stage.name}.learning_rate ({stage.config.learning_rate})"
        )
    seconds = time.perf_counter() - started
    log(f"{run.name}: {label}, {epochs} epochs, loss {position.loss:.3f}, {seconds:.1f} s")


def _label(stage: str) -> str:
    return stage.removeprefix("train.")


def _train_epoch(run: Run, tensors: CodeTensors, stage: _Stage, position: _Position) -> None:
    mining, epoch = stage.mining, position.epoch
    if mining and (epoch == 0 or (mining.refresh and epoch % mining.refresh == 0)):
        position.hard = _mine(run, mining)
    batches = draw_batches(
        run.data,
        stage.config.batch_size,
        run.generator,
        by_platform=run.config.train.batches == "platform",
        hard=position.hard,
        per_anchor=mining.per_anchor if mining else 0,
    )
    extra = position.hard if mining and mining.in_denominator else None
    wanted = [_wanted(run, batch, extra) for batch in batches]
    position.loss = _pass(run, tensors, wanted, (position.optimiser, f"{stage.name}/{epoch}"))
    position.epoch += 1


def _checkpoint(run: Run, stage: _Stage, position: _Position, *, done: bool) -> Checkpoint:
    """All that the next epoch depends on; the next stage has its own optimiser and negatives."""
    arrays = {f"module.{name}": t.cpu().numpy() for name, t in run.module.state_dict().items()}
    if not done:
        arrays |= {f"adam.{name}": array for name, array in position.optimiser.arrays().items()}
        arrays |= {} if position.hard is None else {"hard": position.hard}
    return Checkpoint(
        stage=stage.name,
        epoch=position.epoch,
        loss=position.loss,
        generators={name: g.bit_generator.state for name, g in _generators(run).items()},
        arrays=arrays,
    )


def _restore(run: Run, found: Checkpoint) -> None:
    state = _under("module.", found.arrays)
    run.module.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    for name, generator in _generators(run).items():
        generator.bit_generator.state = found.generators[name]


def _place(position: _Position, found: Checkpoint) -> None:
    position.epoch, position.loss = found.epoch, found.loss
    position.hard = found.arrays.get("hard")
    if optimiser := _under("adam.", found.arrays):  # none where the stage is done
        position.optimiser.restore(optimiser)


def _generators(run: Run) -> dict[str, np.random.Generator]:
    parts = run.module.parts
    dropout = {f"dropout{index or ''}": part.generator for index, part in enumerate(parts)}
    return {"batches": run.generator, **dropout}


def _under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _mine(run: Run, mining: MiningConfig) -> IntArray:
    """Hard negatives by the current heads: first view and last text of every item."""
    data = run.data
    texts = data.text_start[1:] - 1  # the orientation-free caption stands last
    image_features, text_features = run.features.embed(data.view_start[:-1], texts)
    current = Expert(None, tuple(part.freeze() for part in run.module.parts))
    items = MiningItems(
        texts=current.encode_text(text_features),
        images=current.encode_image(list(image_features[:, None])),
        places=data.places,
        captions=data.text_codes[texts],
    )
    return mine_hard_negatives(items, mining.top_k, relative_margin=mining.relative_margin)


def _wanted(run: Run, batch: Batch, hard: IntArray | None) -> Wanted:
    """Rows of one step; ``hard`` joins the denominators."""
    items = np.empty(0, np.int64) if hard is None else drawn_negatives(hard, batch, run.generator)
    rows = draw_rows(run.data.view_start, items, run.generator) if len(items) else items
    return Wanted(batch, items, rows)


def _pass(
    run: Run, tensors: CodeTensors, wanted: Sequence[Wanted], by: tuple[Optimiser, str]
) -> float:
    """One pass; the mean loss of its batches.

    Args:
        by: what takes the steps, and the name of this pass, unique in the run.
    """
    module, (optimiser, name) = run.module.train(), by
    losses = []
    for step, features in zip(wanted, run.features.steps(wanted, name), strict=True):
        batch = step.batch
        negatives = batch_negatives(tensors, batch, batch.items)
        others = batch_negatives(tensors, batch, step.items) if len(step.items) else None
        own = []
        for part in module.parts:
            images = part.image(features.images)
            extra = None
            if others is not None:
                extra = images[len(batch.items) :], others.to(images.device)
            loss = info_nce(
                images[: len(batch.items)],
                part.text(features.texts),
                part.scale,
                negatives.to(images.device),
                extra=extra,
                label_smoothing=optimiser.label_smoothing,
            )
            own.append(loss)
        mean = torch.stack(own).mean()
        optimiser.step(mean, features.backward)
        losses.append(float(mean.detach()))
    optimiser.flush()
    return float(np.mean(losses)) if losses else math.nan
