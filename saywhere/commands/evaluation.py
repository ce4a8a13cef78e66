"""For researchers: score experts on captioned images, Track 4 answers or a named benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saywhere.commands.console import (
    MODES,
    PATH,
    experts_option,
    json_option,
    load,
    print_json,
    print_table,
    progress_bar,
    runtime_options,
    say,
)
from saywhere.errors import InputError

if TYPE_CHECKING:
    from saywhere.config import FusionMode
    from saywhere.evaluate import Evaluation
    from saywhere.expert_set import ExpertSet
    from saywhere.hardware import Runtime
    from saywhere.types import Dataset


@click.command()
@click.argument("path", type=PATH, required=False)
@click.option(
    "--benchmark",
    type=click.Choice(["world", "rsicd"]),
    help="Instead of PATH. world: positions in rendered worlds of the benchmark's own seeds; "
    "rsicd: mean recall on RSICD, five captions an image, satellite known.",
)
@click.option("--data", type=PATH, help="Folder with the RSICD images and lists.")
@click.option("--split", help="Of RSICD; default: test, or valid where there is no test.")
@click.option("--cache", type=PATH, help="Where the benchmark's worlds are kept.")
@experts_option
@click.option("--fusion", type=MODES, help="Another fusion than the experts' own.")
@click.option("--unknown-platforms", is_flag=True, help="Hide the images' platforms.")
@click.option("--truth", type=PATH, help="Track 4 answers, if not PATH/ground_truth.json.")
@click.option(
    "--protocol",
    type=click.Choice(["saywhere", "official"]),
    default="saywhere",
    show_default=True,
    help="official: add what the published GeoText script prints.",
)
@click.option("--out", type=PATH, help="Write the JSON report here, and Markdown beside it.")
@click.option("--reliability", type=PATH, help="Draw probability against share right, PNG.")
@click.option("--all", "every_row", is_flag=True, help="Print every row of the table.")
@json_option
@runtime_options
def evaluate(
    path: Path | None,
    benchmark: str | None,
    data: Path | None,
    split: str | None,
    cache: Path | None,
    experts: Path,
    fusion: FusionMode | None,
    unknown_platforms: bool,
    truth: Path | None,
    protocol: str,
    out: Path | None,
    reliability: Path | None,
    every_row: bool,
    as_json: bool,
    runtime: Runtime,
) -> None:
    """Score experts on PATH: a GeoText test JSON, or a Track 4 folder with its answers.

    Where images have coordinates, positions are scored too: error in metres, and whether regions
    hold the truth as often as they say.
    """
    if benchmark == "world":
        _world_benchmark(load(experts, fusion), cache, out, as_json, runtime)
        return
    from saywhere.evaluate import evaluate as run
    from saywhere.task import make_task

    loaded = load(experts, fusion)
    task = make_task(_evaluated(path, benchmark, data, split), truth)
    with progress_bar("views", runtime.threads) as progress:
        found = run(
            loaded,
            task,
            platforms_unknown=unknown_platforms,
            protocol="official" if protocol == "official" else "saywhere",
            runtime=runtime,
            progress=progress,
        )
    report = found.to_dict()
    if out is not None:
        from saywhere.files import write_text
        from saywhere.report import evaluation_markdown

        write_text(out, json.dumps(report, indent=2) + "\n")
        write_text(out.with_suffix(".md"), evaluation_markdown(found))
    if reliability is not None:
        context = report["context"]
        _draw_reliability(context["match_as_searched"] or context["match"], reliability)
    if as_json:
        print_json(report)
    else:
        _print_evaluation(found, report, every_row=every_row)


def _evaluated(
    path: Path | None, benchmark: str | None, data: Path | None, split: str | None
) -> Dataset:
    """What to evaluate on: PATH, or the RSICD split of ``--data``."""
    if benchmark == "rsicd":
        if data is None or path is not None:
            raise InputError("--benchmark rsicd reads no PATH; give its folder as --data DIR")
        from saywhere.data.rsicd import benchmark_split, read_rsicd

        return read_rsicd(data, split or benchmark_split(data))
    if path is None:
        raise InputError("nothing to evaluate on; name a dataset, or give --benchmark")
    if data is not None or split is not None:
        raise InputError("--data and --split belong to --benchmark rsicd; PATH names the rest")
    from saywhere.data import read

    return read(path)


def _print_evaluation(found: Evaluation, report: Mapping[str, Any], *, every_row: bool) -> None:
    """For people: the table, and what stands in no row of it."""
    from saywhere.location_metrics import match_in_words
    from saywhere.report import evaluation_markdown, evaluation_table

    print_table(evaluation_table(found, every_row=every_row))
    mean, even = report["r_mean"], report["r_mean_even_ties"]
    click.echo(
        f"mean recall, R@1/5/10 both ways, by image, all platforms: {mean:.1f} "
        f"with ties against us, {even:.1f} with ties ordered at random"
    )
    for name in ("match", "match_as_searched"):
        if match := report["context"][name]:
            click.echo("\n".join(match_in_words(match)))
    if found.official is not None:
        click.echo(evaluation_markdown(found).rsplit("|\n", 1)[-1].strip())


def _draw_reliability(match: Mapping[str, Any] | None, path: Path) -> None:
    if match is None:
        raise InputError(
            "--reliability: too few queries or places to fit and to check probabilities on; "
            "evaluate on more, or leave it out"
        )
    from saywhere.reliability import plot_reliability

    say(f"reliability: {plot_reliability(match, path)}")


def _world_benchmark(
    experts: ExpertSet, cache: Path | None, out: Path | None, as_json: bool, runtime: Runtime
) -> None:
    from saywhere.location_metrics import scores_in_words
    from saywhere.towers import cache_folder
    from saywhere.world_benchmark import run_world_benchmark

    where = cache or cache_folder() / "worlds"
    with progress_bar("views", runtime.threads) as progress:
        found = run_world_benchmark(experts, where, say, runtime=runtime, progress=progress)
    if out is not None:
        from saywhere.files import write_text

        write_text(out, json.dumps(found, indent=2) + "\n")
    if as_json:
        print_json(found)
    else:
        for line in scores_in_words(found):
            click.echo(line)
