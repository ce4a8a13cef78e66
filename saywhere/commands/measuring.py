"""For researchers: what each part of the method is worth, and how much survives bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import (
    MODES,
    PATH,
    experts_option,
    json_option,
    load,
    print_json,
    progress_bar,
    runtime_options,
    say,
)
from saywhere.errors import MissingExtraError

if TYPE_CHECKING:
    from saywhere.config import FusionMode
    from saywhere.hardware import Runtime


@click.command()
@click.argument("config_path", metavar="CONFIG", type=PATH)
@click.option("--out", type=PATH, default=Path("runs/ablation"), show_default=True)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Over the file.")
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw ladder.png, too.")
@json_option
def ablate(
    config_path: Path, out: Path, overrides: tuple[str, ...], plot: bool, as_json: bool
) -> None:
    """Measure every part of the method: the ladder, all but one, and the controls.

    CONFIG is a TOML file (examples/ladder.toml). Results are kept in --out, so the same command
    goes on where it was stopped. Writes ladder.json, ladder.md and ladder.png there.
    """
    from saywhere.ablation.config import load_ablation

    config = load_ablation(config_path, overrides)
    try:
        import saywhere.fit  # noqa: F401 - asked for before anything is hashed or read

        if plot:
            import matplotlib  # noqa: F401
    except ImportError as error:
        extra = "plots" if error.name == "matplotlib" else "train"
        raise MissingExtraError("ablate", extra, error.name or "torch") from None
    from saywhere.ablation.run import run_ablation
    from saywhere.ablation.tables import ablation_markdown
    from saywhere.files import write_text

    with progress_bar("views") as progress:
        found = run_ablation(config, out, say, progress)
    report = found.to_dict()
    markdown = ablation_markdown(found)
    write_text(out / "ladder.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "ladder.md", markdown)
    if plot:
        from saywhere.ablation.plot import plot_ablation

        plot_ablation(found, out / "ladder.png")
    if as_json:
        print_json(report)
    else:
        click.echo(markdown)


_SEVERITY = click.IntRange(1, 5)


@click.command()
@click.argument("path", type=PATH)
@experts_option
@click.option("--fusion", type=MODES, help="Another fusion than the experts' own.")
@click.option("--unknown-platforms", is_flag=True, help="Hide the images' platforms.")
@click.option("--truth", type=PATH, help="Track 4 answers, if not PATH/ground_truth.json.")
@click.option("--severity", "severities", type=_SEVERITY, multiple=True, help="Default: 3.")
@click.option("--image", "images", multiple=True, help="A corruption of images. Default: all.")
@click.option("--words", "words", multiple=True, help="A corruption of queries. Default: all.")
@click.option(
    "--curve", "curves", multiple=True, help="A corruption tried at all severities, or all."
)
@click.option("--views", type=click.IntRange(1), help="Only so many of the test views: faster.")
@click.option("--out", type=PATH, default=Path("runs/robustness"), show_default=True)
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw robustness.png.")
@json_option
@runtime_options
def robustness(
    path: Path,
    experts: Path,
    fusion: FusionMode | None,
    unknown_platforms: bool,
    truth: Path | None,
    severities: tuple[int, ...],
    images: tuple[str, ...],
    words: tuple[str, ...],
    curves: tuple[str, ...],
    views: int | None,
    out: Path,
    plot: bool,
    as_json: bool,
    runtime: Runtime,
) -> None:
    """Score experts on PATH with corrupted images, then with corrupted queries.

    Images suffer noise, blur, weather, compression and occlusion; queries suffer typos, dropped
    words, synonyms and other spellings. Reports how much of the clean R@10 is retained; with
    --views, clean and corrupted images are both seen in that many views. Results are kept in --out,
    so the same command goes on where it was stopped.
    """
    from saywhere.data import read
    from saywhere.files import write_text
    from saywhere.robustness.report import plot_robustness, robustness_markdown
    from saywhere.robustness.run import Plan, run_robustness
    from saywhere.task import make_task

    defaults = Plan()
    only = images or words  # naming some of one kind means: no others
    plan = Plan(
        severities=severities or defaults.severities,
        every_severity=curves,
        images=images if only else defaults.images,
        words=words if only else defaults.words,
    )
    task = make_task(read(path), truth)
    if unknown_platforms:
        task = replace(task, records=tuple(replace(r, platform=None) for r in task.records))
    asked = load(experts, fusion)
    if views:
        asked = asked.with_views(views)
    found = run_robustness(asked, task, plan, out, say, runtime=runtime)
    report, markdown = found.to_dict(), robustness_markdown(found)
    write_text(out / "robustness.json", json.dumps(report, indent=2) + "\n")
    write_text(out / "robustness.md", markdown)
    if plot:
        plot_robustness(found, out / "robustness.png")
    if as_json:
        print_json(report)
    else:
        click.echo(markdown)
