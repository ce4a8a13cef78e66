"""For researchers: train and submit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from saywhere.commands.console import (
    MODES,
    PATH,
    experts_option,
    load,
    progress_bar,
    runtime_options,
    say,
)
from saywhere.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from saywhere.config import Config, FusionMode
    from saywhere.hardware import Runtime
    from saywhere.towers import ImageTower, TextTower
    from saywhere.types import Dataset, Log


@click.command()
@click.argument("path", type=PATH)
@click.option("--out", type=PATH, default=Path("experts"), show_default=True)
@click.option("--preset", default="small", show_default=True)
@click.option("--config", "config_path", type=PATH, help="TOML file over the preset.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Over the file.")
@click.option("--seed", type=int, help="Same as --set seed=N.")
@click.option("--overwrite", is_flag=True, help="Replace experts that are in --out.")
@click.option("--fresh", is_flag=True, help="Forget what killed trainings into --out left.")
@click.option(
    "--checkpoint-every",
    "every",
    type=click.FloatRange(0),
    default=10,
    show_default=True,
    help="Seconds between checkpoints; 0: every epoch.",
)
@click.option("--refined", type=PATH, help="Refined captions; needs --set text.refined=add|replace")
@click.option("--more", type=PATH, help="Captioned images that only their platform's expert sees.")
@runtime_options
def train(
    path: Path,
    out: Path,
    preset: str,
    config_path: Path | None,
    overrides: tuple[str, ...],
    seed: int | None,
    overwrite: bool,
    fresh: bool,
    every: float,
    refined: Path | None,
    more: Path | None,
    runtime: Runtime,
) -> None:
    """Train experts on the captioned images of PATH (a GeoText JSON file).

    Training that was killed goes on where it was when the same command is given again.
    """
    from saywhere.bundle import check_target, save_experts
    from saywhere.checkpoints import open_work
    from saywhere.config import load_config
    from saywhere.data import read
    from saywhere.manifest import training_of
    from saywhere.ranks import meet, rank

    config = load_config(preset, config_path, [*overrides, *_given(seed, runtime)])
    dataset = _with_refined(read(path), refined, config.text.refined)
    others = read(more) if more else None
    try:
        from saywhere.fit import train_experts
    except ImportError as error:
        raise MissingExtraError("train", "train", error.name or "torch") from None
    runtime = replace(runtime, threads=config.threads)
    log: Log = (lambda _line: None) if rank() else say
    with open_work(out, log, every=every) as work:
        if not rank():
            if fresh:
                work.clear()
            work.forget(training_of(out))  # killed when they were saved, but not yet forgotten
            check_target(out, overwrite=overwrite)
        meet()
        towers = _load_towers(config, runtime, log)
        with progress_bar("views", runtime.threads) as progress:
            shown = None if rank() else progress
            experts = train_experts(dataset, config, towers, log, shown, work, others)
        if rank():  # what the first process saves is the same
            return
        paths = {"image": towers[0].path, "text": towers[1].path}
        save_experts(experts, out, paths, overwrite=overwrite)
        work.forget(training_of(out))
        if unfinished := work.count():
            say(f"checkpoints of {unfinished} unfinished trainings into {out} are kept; "
                "--fresh deletes them")  # fmt: skip
    say(f"{len(experts.experts)} experts in {out}, {experts.provenance['seconds']} s")


def _given(seed: int | None, runtime: Runtime) -> list[str]:
    """Settings with options of their own; threads that nobody named are the configuration's."""
    given = [f"seed={seed}"] if seed is not None else []
    source = click.get_current_context().get_parameter_source("threads")
    if source is not ParameterSource.DEFAULT:
        given.append(f"threads={runtime.threads}")
    return given


def _load_towers(config: Config, runtime: Runtime, log: Log) -> tuple[ImageTower, TextTower]:
    """Of several processes the first exports them, and the others find them exported."""
    from saywhere.ranks import first_alone
    from saywhere.towers import image_tower, text_tower

    log("towers: loading; the first time they are exported to ONNX")
    with first_alone():
        return (
            image_tower(config.towers.image, runtime=runtime, adapter=config.adapters.image),
            text_tower(config.towers.text, runtime=runtime, adapter=config.adapters.text),
        )


def _with_refined(dataset: Dataset, path: Path | None, way: str) -> Dataset:
    """The dataset with the refined captions of ``path``, if any are asked for."""
    if (path is None) != (way == "off"):
        raise InputError(
            f"text.refined={way} {'with' if path else 'without'} --refined FILE; give both: "
            "--refined FILE --set text.refined=add (or replace)"
        )
    if path is None:
        return dataset
    from saywhere.refine.training import add_refined

    return add_refined(dataset, path, "add" if way == "add" else "replace")


@click.command()
@click.option("--queries", type=PATH, help="q_00001<TAB>text, a line each.")
@click.option("--images", type=PATH, help="Folder of nameless images.")
@click.option("--out", type=PATH, default=Path("submission.txt"), show_default=True)
@click.option("--check", type=PATH, help="Validate a submission .txt or .zip instead.")
@experts_option
@click.option("--fusion", type=MODES, help="Another fusion than the experts' own.")
@runtime_options
def submit(
    queries: Path | None,
    images: Path | None,
    out: Path,
    check: Path | None,
    experts: Path,
    fusion: FusionMode | None,
    runtime: Runtime,
) -> None:
    """Write a Track 4 submission, or check anybody's."""
    from saywhere.data.folder import read_folder
    from saywhere.data.track4 import read_queries

    asked = read_queries(queries) if queries else None
    records = read_folder(images).records if images else None
    if check is not None:
        _check_submission(
            check,
            [query.query_id for query in asked] if asked else None,
            {record.path.stem for record in records} if records else None,
        )
        return
    if asked is None or records is None:
        raise InputError("submit needs --queries and --images, or --check FILE")
    from saywhere.submit import submit as run

    loaded = load(experts, fusion)
    with progress_bar("views", runtime.threads) as progress:
        zipped = run(loaded, asked, records, out, runtime=runtime, progress=progress)
    say(f"{len(asked)} queries answered")
    click.echo(out)
    click.echo(zipped)


def _check_submission(path: Path, queries: list[str] | None, images: set[str] | None) -> None:
    from saywhere.submission import check_submission

    report = check_submission(path, queries=queries, images=images)
    click.echo(report.to_text())
    if not report.ok:
        sys.exit(2)
