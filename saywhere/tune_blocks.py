"""The last blocks of the image tower, tuned on captioned images.

Over the frozen blocks the others learn with a pair of heads as in ``tune``; the heads are thrown
away, the blocks kept. What they learned of one dataset's captions serves others, too: experts are
then trained over the tuned tower as over any frozen one. Places that experts keep for fitting are
kept out here, too: a tower that knew them would promise too much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from saywhere.batches import TrainingSet
from saywhere.checkpoints import Training, WorkFolder
from saywhere.config import Config
from saywhere.errors import InputError
from saywhere.features import Progress
from saywhere.hardware import Runtime
from saywhere.heads import Ensemble, create_member
from saywhere.ranks import count
from saywhere.stages import Run, train_member
from saywhere.towers import image_tower, text_tower
from saywhere.towers.tuned import save_changes
from saywhere.towers.weights import load_image_module
from saywhere.train import member_seed, training_key
from saywhere.trainset import kept_for_fitting, prepare
from saywhere.tuning.blocks import cached_maps, frozen_part, live_blocks
from saywhere.tuning.live import LiveTower
from saywhere.tuning.processes import this_process
from saywhere.tuning.source import LiveFeatures
from saywhere.types import Dataset, Log

_NAME = "blocks"


@dataclass(frozen=True, slots=True)
class Tuned:
    """What came of it.

    Attributes:
        numbers: how many weights were written.
        training: key of the training, whose checkpoints can go.
    """

    numbers: int
    training: str


def tune_blocks(
    dataset: Dataset,
    config: Config,
    first: int,
    out: Path,
    work: WorkFolder,
    say: tuple[Log, Progress | None],
) -> Tuned:
    """Tune the image tower's blocks from ``first`` on and write what changed to ``out``.

    Views are those of ``config.views``, all at the default size. The heads learn first, alone, by
    ``train.stage1`` and ``stage2``; then ``tuning`` has its two stages. The tower of ``config`` is
    where it starts, tuned weights included; what is written lies over the tower as published.

    Args:
        say: lines of progress, and images done.

    Raises:
        ConfigError: blocks that the tower does not have, or training diverged.
        InputError, ImageError: as ``prepare``; or one of several processes.
    """
    log, progress = say
    if count() > 1:
        raise InputError(f"{count()} processes: blocks are tuned by one; start the command plainly")
    runtime = Runtime(config.threads)
    towers = (
        image_tower(config.towers.image, runtime=runtime),
        text_tower(config.towers.text, runtime=runtime),
    )
    module, _ = load_image_module(config.towers.image)
    part = frozen_part(module, config.towers.image, first)
    data = prepare(_learning(dataset, config.train.fit_places_ending_in), config, towers, progress)
    prints = [*(tower.fingerprint for tower in towers), f"from {first}"]
    key = training_key(data.train, data.place_ids, config, prints)
    training = work.training(key)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)  # of each of the threads that fill the cache
        how = config.towers.image.size, config.threads, progress
        maps = cached_maps(part, towers[0], data.requests, training.folder / "maps.npy", how)
        live, model = live_blocks(module, config.towers.image, first, maps)
        torch.set_num_threads(config.threads)
        for run in _runs(data.train, live, config, training):
            train_member(run, log)
    finally:
        torch.set_num_threads(before)
    plain = config.towers.image.model_copy(update={"tuned": "", "tuned_sha256": None})
    published, report = load_image_module(plain)
    return Tuned(save_changes(model, published, report.weight_hash, out), key)


def _runs(data: TrainingSet, live: LiveTower, config: Config, training: Training) -> Iterator[Run]:
    """The heads alone and, when these are trained, the blocks under them."""
    seed = member_seed(config.seed, _NAME)
    member = create_member(data.views, data.texts, config.head, seed)
    heads = Run(
        name="heads",
        module=member,
        data=data,
        config=config,
        generator=np.random.default_rng([seed, 0]),
        continued=False,
        checkpoints=training.member("tower", "heads"),
    )
    yield heads
    processes = this_process(config.tuning)
    live.module.to(processes.device)
    adapted = {f"image.{name}": parameter for name, parameter in live.parameters.items()}
    yield replace(
        heads,
        name=_NAME,
        module=Ensemble([member], adapted).to(processes.device),
        generator=np.random.default_rng([seed, 1]),
        checkpoints=training.member("tower", _NAME),
        source=LiveFeatures(data, (live, None), config.tuning, processes, seed),
    )


def _learning(dataset: Dataset, ending: str | None) -> Dataset:
    """Without the places that are kept for fitting."""
    return dataset.only(r for r in dataset.records if not kept_for_fitting(r.place_id, ending))
