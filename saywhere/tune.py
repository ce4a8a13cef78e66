"""End-to-end training: adapters in the towers, with the heads on top of them.

What ``train`` makes of frozen features is where it starts: heads that fit, and adapters that change
nothing. Each expert gets adapters of its own, which its members share; then stage 1, mining and
stage 2 run as in ``stages``, with features that come out of the towers as they are trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from saywhere.adapters import Adapter
from saywhere.batches import TrainingSet
from saywhere.config import Config
from saywhere.expert import Expert
from saywhere.heads import Ensemble, thaw_member
from saywhere.stages import Run, train_member
from saywhere.towers import ImageTower, TextTower
from saywhere.towers.lora import collect
from saywhere.train import FindCheckpoints, member_seed
from saywhere.trainset import PreparedData
from saywhere.tuning.live import LiveTower, live_images, live_text
from saywhere.tuning.processes import Processes, this_process
from saywhere.tuning.source import LiveFeatures
from saywhere.types import PLATFORMS, IntArray, Log


@dataclass(frozen=True, slots=True)
class Material:
    """What experts are tuned on.

    Attributes:
        data: everything that was prepared.
        items: those of it to train on.
        towers: exported, for their preprocessing.
    """

    data: PreparedData
    items: IntArray
    towers: tuple[ImageTower, TextTower]


def tune_experts(
    experts: Sequence[Expert],
    material: Material,
    config: Config,
    log: Log,
    find: FindCheckpoints | None = None,
) -> tuple[Expert, ...]:
    """Train each expert on, with adapters where ``config.adapters`` has them.

    Args:
        experts: of frozen towers, over the features of ``material``.
        log, find: as in ``train_layout``.

    Returns:
        the experts, in their order, with their adapters.

    Raises:
        ConfigError: training diverged, or sites that a tower does not have.
        InputError: a checkpoint that cannot be written.
        ImageError: an image that cannot be decoded any more.
    """
    processes = this_process(config.tuning)
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        return tuple(_tune(expert, material, (config, processes), log, find) for expert in experts)
    finally:
        torch.set_num_threads(before)


def _tune(
    expert: Expert,
    material: Material,
    how: tuple[Config, Processes],
    log: Log,
    find: FindCheckpoints | None,
) -> Expert:
    config, processes = how
    name = f"{expert.name}/tuned"
    seed = member_seed(config.seed, name)
    data, rows = _of_expert(expert, material)
    towers = _live_towers(material, rows, config, processes, seed)
    adapters = {
        f"{side}.{site}": parameter
        for side, tower in zip(("image", "text"), towers, strict=True)
        if tower is not None
        for site, parameter in tower.parameters.items()
    }
    members = [
        thaw_member(member, config.head, member_seed(seed, str(k)))
        for k, member in enumerate(expert.members)
    ]
    module = Ensemble(members, adapters).to(processes.device)
    processes.share([*module.parameters(), *module.buffers()])
    run = Run(
        name=name,
        module=module,
        data=data,
        config=config,
        generator=np.random.default_rng([seed, 1]),
        continued=True,
        checkpoints=find(name) if find else None,
        source=LiveFeatures(data, towers, config.tuning, processes, seed),
    )
    train_member(run, log)
    image, text = (_collected(tower) for tower in towers)
    return Expert(expert.platform, tuple(part.freeze() for part in module.parts), image, text)


def _collected(tower: LiveTower | None) -> Adapter | None:
    return None if tower is None else collect(tower.parameters, tower.settings)


def _of_expert(expert: Expert, material: Material) -> tuple[TrainingSet, tuple[IntArray, IntArray]]:
    """The items the expert learns from, and which rows of everything they have."""
    whole, items = material.data.train, material.items
    if expert.platform is not None:
        items = items[whole.platforms[items] == PLATFORMS.index(expert.platform)]
    return whole.take(items), whole.rows(items)


def _live_towers(
    material: Material,
    rows: tuple[IntArray, IntArray],
    config: Config,
    processes: Processes,
    seed: int,
) -> tuple[LiveTower | None, LiveTower | None]:
    data, (image_tower, text_tower) = material.data, material.towers
    images = texts = None
    if config.adapters.image.rank:
        views = [(request.path, view) for request in data.requests for view in request.views]
        own = [views[row] for row in rows[0]]
        images = live_images(config, image_tower, own, seed=seed, device=processes.device)
    if config.adapters.text.rank:
        words = [data.texts[row] for row in rows[1]]
        texts = live_text(config, text_tower, words, seed=seed, device=processes.device)
    return images, texts
