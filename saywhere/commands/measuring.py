"""For researchers: what each part of the method is worth."""

from __future__ import annotations

import json
from pathlib import Path

import click

from saywhere.commands.console import PATH, json_option, print_json, progress_bar, say
from saywhere.errors import MissingExtraError


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
