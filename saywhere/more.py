"""A platform's expert that has images of its own: thousands for it, hundreds for all the others.

The paper's own imbalance the other way round: where one platform has a large dataset, its expert
learns from it, and the generalist that answers for everything else never sees it. Images of that
platform that look like the main dataset's stay the generalist's (``domain``).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saywhere.banks import with_banks
from saywhere.batches import TrainingSet, joined
from saywhere.config import CanonicalConfig, Config, StageConfig
from saywhere.domain import Domain, fit_domain
from saywhere.errors import InputError
from saywhere.expert import Expert
from saywhere.train import FindCheckpoints, train_layout
from saywhere.types import PLATFORMS, Log, Platform


def with_more(
    experts: tuple[Expert, ...],
    own: TrainingSet,
    more: TrainingSet,
    config: Config,
    log: Log,
    find: FindCheckpoints | None = None,
) -> tuple[Expert, ...]:
    """``experts`` with an expert for each platform of ``more``, in place of the one there was.

    Args:
        own: what ``experts`` were trained on.
        more: images that only their platform's expert sees.
        find: where members keep checkpoints.

    Raises:
        InputError, ConfigError: as ``train_layout``.
    """
    made = {expert.platform: expert for expert in experts}
    for code in np.unique(more.platforms):
        platform = PLATFORMS[code]
        data = mixed(own.of_platform(platform), more.of_platform(platform), config.more.share)
        log(f"{platform}: an expert from {len(data)} images, those of the main dataset repeated")
        (expert,) = train_layout(data, expert_config(config), log, _named(find, platform))
        weight, size = config.more.hubness, config.more.bank
        made[platform] = replace(
            with_banks(Expert(platform, expert.members), data, weight, size, seed=config.seed),
            domain=_domain(own.of_platform(platform), more.of_platform(platform)),
        )
    order = [*PLATFORMS, None]
    return tuple(sorted(made.values(), key=lambda expert: order.index(expert.platform)))


def _domain(own: TrainingSet, more: TrainingSet) -> Domain | None:
    """What tells ``more`` from ``own``; None where there are no others of that platform."""
    if not len(own):
        return None
    seen = [np.split(data.views, data.view_start[1:-1]) for data in (more, own)]
    return fit_domain(*seen)


def expert_config(config: Config) -> Config:
    """The settings by which such an expert is trained: a generalist of its one platform."""
    train = config.train.model_copy(
        update={
            "layout": "generalist",
            "members": config.more.members,
            "stage1": config.more.stage,
            "stage2": StageConfig(epochs=0),
            # With thousands of images trained heads are better by far, and it would not help them.
            "canonical": CanonicalConfig(),
            "hubness": 0.0,  # it has banks of its own
        }
    )
    return config.model_copy(update={"head": config.more.head, "train": train})


def view_config(config: Config) -> Config:
    """The settings by which such images are prepared: fewer views, since there are many."""
    views = config.views.model_copy(
        update={
            "test": config.views.test[:2],
            "train": config.more.views,
            "degraded": config.more.degraded,
        }
    )
    return config.model_copy(update={"views": views})


def check_more(config: Config) -> None:
    """Refuse settings under which there can be no such expert.

    Raises:
        InputError: adapters are on.
    """
    if config.adapters.on:
        raise InputError(
            "--more trains heads over frozen towers; leave it out, or set adapters.image.rank=0 "
            "and adapters.text.rank=0"
        )


def mixed(own: TrainingSet, more: TrainingSet, share: float) -> TrainingSet:
    """Both, ``own`` repeated until it is at least ``share`` of the whole."""
    if not len(own):
        return more
    times = max(1, int(np.ceil(share / (1 - share) * len(more) / len(own))))
    repeated = own.take(np.tile(np.arange(len(own)), times))
    return joined(more, repeated)


def _named(find: FindCheckpoints | None, platform: Platform) -> FindCheckpoints | None:
    """Checkpoints under another name than the generalist's of the main dataset."""
    if find is None:
        return None
    return lambda name: find(name.replace("generalist", f"more-{platform}"))
