"""Training: stage 1 with in-batch negatives, mining, stage 2 with hard negatives.

The towers stay frozen; what is trained are heads and a logit scale (``heads``), member by member
(``stages``). Experts see one platform each; a generalist sees all. Nothing is drawn from a global
generator: equal data, configuration and seed give equal experts, bit by bit, whatever the number of
threads, and however often training was killed and taken up.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import torch

import saywhere
from saywhere.banks import with_banks
from saywhere.batches import TrainingSet
from saywhere.canonical import canonical_member
from saywhere.checkpoints import MemberCheckpoints
from saywhere.config import Config
from saywhere.errors import InputError
from saywhere.expert import Expert, Member
from saywhere.files import hash_arrays, hash_file, hash_text
from saywhere.heads import MemberModule, create_member
from saywhere.stages import Run, train_member
from saywhere.types import PLATFORMS, Log, Platform

# Where the member of that name keeps its checkpoint.
FindCheckpoints = Callable[[str], MemberCheckpoints]


def train_layout(
    data: TrainingSet, config: Config, log: Log, find: FindCheckpoints | None = None
) -> tuple[Expert, ...]:
    """Train what ``config.train.layout`` asks for.

    Args:
        data: items of all platforms.
        log: called with one line for each member and stage.
        find: where members keep checkpoints, and go on from those they find; None: nowhere.

    Returns:
        experts in the order of ``PLATFORMS`` (those that have items), a generalist last.

    Raises:
        InputError: fewer than two places in all, or on a platform that gets an expert; a checkpoint
            that cannot be written.
        ConfigError: training diverged.
    """
    layout, members = config.train.layout, range(config.train.members)
    parts = _parts(data) if layout != "generalist" else {}
    # All of them before the first minutes are spent.
    for name, part in [("generalist", data), *parts.items()]:
        _check_places(name, part)
    generalists: list[MemberModule] = []
    if layout != "experts" or config.train.start_from_generalist:
        runs = [_new_run(f"generalist/{k}", data, config, None, find) for k in members]
        generalists = _train_members(runs, config.threads, log)
    starts = generalists if config.train.start_from_generalist else [None for _ in members]
    runs = [
        _new_run(f"{platform}/{k}", part, config, starts[k], find)
        for platform, part in parts.items()
        for k in members
    ]
    modules = iter(_train_members(runs, config.threads, log))
    experts = [
        Expert(platform, tuple(next(modules).freeze() for _ in members)) for platform in parts
    ]
    if layout != "experts":
        experts.append(Expert(None, tuple(module.freeze() for module in generalists)))
    experts = with_canonical(experts, data, config, log)
    return tuple(_with_banks(expert, data, config) for expert in experts)


def _with_banks(expert: Expert, data: TrainingSet, config: Config) -> Expert:
    """The expert less hubness; adapters would change the features under its banks."""
    weight = 0.0 if config.adapters.on else config.train.hubness
    return with_banks(expert, data, weight, config.train.bank, seed=config.seed)


def with_canonical(
    experts: Sequence[Expert], data: TrainingSet, config: Config, log: Log
) -> list[Expert]:
    """Experts with the member in closed form: it knows no platform, so all get the same.

    Args:
        data: what it is fitted on.
        log: told how long it took.
    """
    settings = config.train.canonical
    if not settings.weight:
        return list(experts)
    if config.adapters.on:
        log("canonical correlations: none, adapters would change the features under them")
        return list(experts)
    started = time.perf_counter()
    member = canonical_member(data, settings)
    log(f"canonical correlations: {len(member.image.bias2)} directions, "
        f"{time.perf_counter() - started:.1f} s")  # fmt: skip
    return [
        replace(one, members=(*one.members, _beside(one, member, settings.weight)))
        for one in experts
    ]


def _beside(expert: Expert, member: Member, weight: float) -> Member:
    """The member in closed form, as sharp as the trained ones, of ``weight`` times their weight."""
    scale = float(np.mean([own.logit_scale for own in expert.members]))
    return replace(member, logit_scale=scale, weight=weight * len(expert.members))


def training_key(
    data: TrainingSet, places: Sequence[str], config: Config, towers: Sequence[str]
) -> str:
    """Hash of everything that shapes the numbers of a training, whose checkpoints it names.

    Args:
        places: place_id of each item, which decide what is kept for fitting.
        towers: their fingerprints.
    """
    arrays = {field.name: getattr(data, field.name) for field in fields(data)}
    shaping = {
        # A tower's products are split among threads, and so is their rounding.
        "config": config.model_dump_json(exclude=set() if config.adapters.on else {"threads"}),
        "data": hash_arrays(arrays),
        "places": list(places),
        "towers": list(towers),
        # Other code, libraries or instructions of the CPU may round otherwise.
        "code": [hash_file(path) for path in sorted(Path(saywhere.__file__).parent.rglob("*.py"))],
        "libraries": [torch.__version__, np.__version__, torch.backends.cpu.get_cpu_capability()],
    }
    return hash_text(json.dumps(shaping, sort_keys=True))


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


def _new_run(
    name: str,
    data: TrainingSet,
    config: Config,
    start: MemberModule | None,
    find: FindCheckpoints | None,
) -> Run:
    """A member before its first step; a given ``start`` is continued in a copy."""
    seed = member_seed(config.seed, name)
    module = create_member(data.views, data.texts, config.head, seed)
    if start is not None:
        module.load_state_dict(start.state_dict())
    return Run(
        name=name,
        module=module,
        data=data,
        config=config,
        generator=np.random.default_rng([seed, 1]),
        continued=start is not None,
        checkpoints=find(name) if find else None,
    )


def _train_members(runs: Sequence[Run], threads: int, log: Log) -> list[MemberModule]:
    """Train members side by side, each on one thread.

    Heads are small: a step split over two threads waits for the slower one at every operation (on a
    busy machine ten times as long), two members on a thread each wait for nobody. It also makes the
    result independent of the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads, "member", torch.set_num_threads, (1,)) as pool:
            list(pool.map(lambda run: train_member(run, log), runs))
    finally:
        torch.set_num_threads(before)
    return [run.module for run in runs if isinstance(run.module, MemberModule)]
