"""Trains what the rows need and asks it, each result an artefact by hash.

A training serves all rows that differ in fusion only. Its result lies under the hash of data,
recipe and tasks, so the same command goes on where it was stopped, and another one sharing a row
finds it. Trainings run side by side, each on one thread: heads are too small for more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import saywhere
from saywhere.ablation.compare import ask
from saywhere.ablation.config import AblationConfig
from saywhere.ablation.plan import Step, steps
from saywhere.ablation.tables import Ablation, Result
from saywhere.config import Config, FusionMode
from saywhere.data import read
from saywhere.errors import InputError
from saywhere.features import Progress, content_hashes
from saywhere.files import hash_file, hash_text
from saywhere.hardware import Runtime
from saywhere.summary import summarise_expert
from saywhere.task import Task, make_task
from saywhere.towers import image_tower, text_tower
from saywhere.trials import Artefacts, task_hash
from saywhere.types import Dataset, Log, Platform, Record

RESULTS_FOLDER = "results"
_ONE = Runtime(1)


@dataclass(frozen=True, slots=True)
class _Job:
    """One training, and the fusions it is asked in.

    Attributes:
        key: hash of all that shapes its answers.
        refined: whether it trains on the refined captions, too.
    """

    key: str
    config: Config
    modes: tuple[FusionMode, ...]
    refined: bool


@dataclass(frozen=True, slots=True)
class _Material:
    """What all trainings share."""

    plain: Dataset
    refined: Dataset
    tasks: Mapping[str, Task]

    def dataset(self, job: _Job) -> Dataset:
        return self.refined if job.refined else self.plain


def run_ablation(
    ablation: AblationConfig,
    out: Path,
    log: Log,
    progress: Progress | None = None,
) -> Ablation:
    """Train and ask every row at every seed that ``out`` has no result of.

    Args:
        out: results are kept in its folder ``results``.
        log: called with one line a training.
        progress: of views of images that are not cached.

    Raises:
        ConfigError, InputError, ImageError: as ``train_experts`` and ``make_task``.
    """
    started = time.perf_counter()
    rows = steps(ablation)
    material = _material(ablation)
    jobs = _jobs(ablation, rows, _data_hash(material))
    artefacts = Artefacts(out / RESULTS_FOLDER)
    distinct = {job.key: job for job in jobs.values()}
    missing = [job for job in distinct.values() if not _known(artefacts, job)]
    log(f"{len(distinct)} trainings for {len(rows)} rows and {len(ablation.seeds)} seeds; "
        f"{len(distinct) - len(missing)} are there already")  # fmt: skip
    _warm_up(missing, material, progress)
    _train_all(missing, material, artefacts, log)
    found = {name: _load(artefacts, job) for name, job in jobs.items()}
    results = tuple(
        Result(step, tuple(found[_name(step, seed)] for seed in ablation.seeds)) for step in rows
    )
    return Ablation(ablation, material.tasks, results, time.perf_counter() - started)


def kept_places(records: Sequence[Record], wanted: Mapping[Platform, int]) -> tuple[Record, ...]:
    """Records without those of a platform's surplus places.

    The places that stay are drawn by the hash of their name: the same in every run, and whatever
    they are called.

    Raises:
        InputError: a platform has fewer places than are wanted.
    """
    dropped = set()
    for platform, count in wanted.items():
        places = {str(r.place_id) for r in records if r.platform is platform}
        if len(places) < count:
            raise InputError(
                f"subset.{platform}: there are {len(places)} places, {count} are wanted; lower it"
            )
        dropped |= {(platform, place) for place in sorted(places, key=hash_text)[count:]}
    return tuple(r for r in records if (r.platform, str(r.place_id)) not in dropped)


def _material(ablation: AblationConfig) -> _Material:
    whole = read(ablation.train)
    plain = whole.only(kept_places(whole.records, ablation.subset))
    refined = plain
    if ablation.refined:
        from saywhere.refine.training import add_refined

        refined = add_refined(plain, ablation.refined, "add")
    tasks = {name: make_task(read(path)) for name, path in ablation.evaluate.items()}
    return _Material(plain, refined, tasks)


def _data_hash(material: _Material) -> str:
    """Of images, texts and right answers, wherever their files lie."""
    records = material.plain.records
    described: list[object] = [
        [record.image_id, digest, str(record.platform), str(record.place_id)]
        for record, digest in zip(records, content_hashes(records), strict=True)
    ]
    described += [[caption.image_id, caption.text] for caption in material.plain.captions]
    for name, task in material.tasks.items():
        described += [name, task_hash(task)]
    return hash_text(json.dumps(described))


def _jobs(ablation: AblationConfig, rows: Sequence[Step], data: str) -> dict[str, _Job]:
    """The trainings, by the row and seed that need them; equal ones are one."""
    modes: dict[str, dict[FusionMode, None]] = {}
    configs: dict[str, Config] = {}
    owner: dict[str, str] = {}
    refined = hash_file(ablation.refined) if ablation.refined else ""
    for step in rows:
        for seed in ablation.seeds:
            config = ablation.recipe([*step.overrides, f"seed={seed}", "threads=1"])
            shaping = config.model_dump_json(exclude={"fusion", "preset"})
            own = refined if config.text.refined != "off" else ""
            key = hash_text(json.dumps([saywhere.__version__, data, shaping, own]))
            owner[_name(step, seed)] = key
            configs[key] = config
            modes.setdefault(key, {})[step.mode] = None
    jobs = {
        key: _Job(key, config, tuple(modes[key]), config.text.refined != "off")
        for key, config in configs.items()
    }
    return {name: jobs[key] for name, key in owner.items()}


def _name(step: Step, seed: int) -> str:
    return f"{step.section}/{step.name}/{seed}"


def _warm_up(jobs: Sequence[_Job], material: _Material, progress: Progress | None) -> None:
    """Compute the features first: two trainings that lack the same views would both make them."""
    from saywhere.trainset import prepare

    seen: dict[str, _Job] = {}
    for job in jobs:
        shaping = job.config.model_dump_json(include={"towers", "views", "text"})
        seen.setdefault(f"{shaping}{job.refined}", job)
    for job in seen.values():
        towers = image_tower(job.config.towers.image), text_tower(job.config.towers.text)
        prepare(material.dataset(job), job.config, towers, progress)


def _train_all(jobs: Sequence[_Job], material: _Material, artefacts: Artefacts, log: Log) -> None:
    """Every training; at the first failure those not yet begun are given up."""
    if not jobs:
        return
    import torch

    from saywhere.hardware import default_threads

    before = torch.get_num_threads()
    torch.set_num_threads(1)  # each training has a thread of its own
    started = time.perf_counter()
    pool = ThreadPoolExecutor(default_threads(), "training")
    try:
        running = [pool.submit(_train, job, material, artefacts) for job in jobs]
        for done, future in enumerate(as_completed(running), start=1):
            future.result()
            rate = (time.perf_counter() - started) / done
            left = (len(jobs) - done) * rate / 60
            log(f"{done} of {len(jobs)} trainings, about {left:.0f} min to go")
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _train(job: _Job, material: _Material, artefacts: Artefacts) -> None:
    from saywhere.fit import train_experts

    config = job.config
    towers = (
        image_tower(config.towers.image, runtime=_ONE),
        text_tower(config.towers.text, runtime=_ONE),
    )
    started = time.perf_counter()
    experts = train_experts(material.dataset(job), config, towers, lambda _line: None)
    seconds = time.perf_counter() - started
    ranks = {
        mode: {
            name: ask(experts.with_mode(mode), task, runtime=_ONE).tolist()
            for name, task in material.tasks.items()
        }
        for mode in job.modes
    }
    known = artefacts.load(job.key) or {}
    value = {
        "config": json.loads(config.model_dump_json()),
        "ranks": {**known.get("ranks", {}), **ranks},
        "parameters": sum(summarise_expert(expert).parameters for expert in experts.experts),
        "seconds": round(seconds, 1),
        "git_commit": experts.provenance["git_commit"],
    }
    artefacts.save(job.key, value)


def _known(artefacts: Artefacts, job: _Job) -> bool:
    found = artefacts.load(job.key)
    return found is not None and all(mode in found.get("ranks", {}) for mode in job.modes)


def _load(artefacts: Artefacts, job: _Job) -> dict[str, Any]:
    found = artefacts.load(job.key)
    if found is None:
        raise InputError(
            f"{artefacts.folder}: the result {job.key} was written and is gone; run again"
        )
    return found
