"""For whoever brings towers of their own: look at them, convert a pickle, export, tune blocks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from saywhere.commands.console import PATH, json_option, print_json, progress_bar, say
from saywhere.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable

    from saywhere.config import Config


@click.group()
def towers() -> None:
    """Look at the two towers, convert weights, export ahead of time, tune the last blocks."""


def _config_options(verb: Callable[..., None]) -> Callable[..., None]:
    """``--preset``, ``--config`` and ``--set``, as for training."""
    for option in (
        click.option(
            "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Over the file."
        ),
        click.option("--config", "config_path", type=PATH, help="TOML file over the preset."),
        click.option("--preset", default="small", show_default=True),
    ):
        verb = option(verb)
    return verb


def _config(preset: str, path: Path | None, overrides: tuple[str, ...]) -> Config:
    from saywhere.config import load_config

    return load_config(preset, path, overrides)


@towers.command("show")
@_config_options
@json_option
def towers_show(
    preset: str, config_path: Path | None, overrides: tuple[str, ...], as_json: bool
) -> None:
    """Load both towers strictly and print what was loaded, with its SHA-256."""
    config = _config(preset, config_path, overrides)
    towers, adapters = config.towers, config.adapters
    from saywhere.towers import find_tower
    from saywhere.towers.weights import load_image_module, load_text_module

    shown: dict[str, dict[str, Any]] = {}
    for side, settings, adapter, report in (
        ("image", towers.image, adapters.image, load_image_module(towers.image)[1]),
        ("text", towers.text, adapters.text, load_text_module(towers.text)[1]),
    ):
        exported = find_tower(settings, None, adapter)
        shown[side] = {
            "name": settings.name,
            "precision": settings.precision,
            **report.to_dict(),
            "exported": str(exported) if exported else None,
        }
    if as_json:
        print_json(shown)
        return
    for side, values in shown.items():
        _print_report(side, values)


def _print_report(side: str, values: dict[str, Any]) -> None:
    click.echo(f"{side}: {values['name']} ({values['architecture']})")
    click.echo(f"  parameters  {values['parameters'] / 1e6:.1f} million, {values['precision']}")
    for file in values["files"]:
        click.echo(f"  {file['sha256']}  {file['name']}")
    if values["unused_keys"]:
        names = ", ".join(values["unused"])
        click.echo(f"  not used    {values['unused_keys']} tensors ({names})")
    click.echo(f"  exported    {values['exported'] or 'not yet'}")


@towers.command("convert")
@click.argument("file", type=PATH)
@click.argument("out", type=PATH)
@click.option("--sha256", required=True, help="Of FILE, as its publisher states it.")
@json_option
def towers_convert(file: Path, out: Path, sha256: str, as_json: bool) -> None:
    """Convert a pickled state dict FILE to safetensors in OUT, once.

    Nothing is read before the hash agrees, and then only by torch's restricted unpickler.
    """
    from saywhere.towers.checkpoint import convert_pickle

    report = convert_pickle(file, out, sha256)
    if as_json:
        print_json({"out": str(out), **report.to_dict()})
    say(f"{report.parameters / 1e6:.1f} million numbers of {file} are in {out}")
    say(f"SHA-256 of {out}: {report.weight_hash}")


@towers.command("export")
@_config_options
@click.option("--out", type=PATH, help="Copy the files here, too: the towers/ of other machines.")
def towers_export(
    preset: str, config_path: Path | None, overrides: tuple[str, ...], out: Path | None
) -> None:
    """Export both towers to ONNX, as training would, and print the files."""
    import shutil

    from saywhere.files import atomic_path
    from saywhere.towers import image_tower, text_tower

    config = _config(preset, config_path, overrides)
    towers, adapters = config.towers, config.adapters
    for tower in (
        image_tower(towers.image, adapter=adapters.image),
        text_tower(towers.text, adapter=adapters.text),
    ):
        path = tower.path
        if out is not None:
            path = out / tower.path.name
            with atomic_path(path) as temporary:
                shutil.copyfile(tower.path, temporary)
        click.echo(path)


@towers.command("tune")
@click.argument("data", type=PATH)
@click.option("--out", type=PATH, required=True, help="Safetensors file for what changed.")
@click.option("--first", default=3, show_default=True, help="First block that is tuned.")
@_config_options
@click.option("--overwrite", is_flag=True, help="Replace --out if it is there.")
@click.option("--fresh", is_flag=True, help="Forget what killed runs into --out left.")
def towers_tune(
    data: Path,
    out: Path,
    first: int,
    preset: str,
    config_path: Path | None,
    overrides: tuple[str, ...],
    overwrite: bool,
    fresh: bool,
) -> None:
    """Tune the image tower's last blocks on the captioned images of DATA.

    Starts from the configured tower; --set towers.image.tuned= for the one as published. Killed, it
    goes on where it was when the same command is given again. Use what it writes as
    towers.image.tuned.
    """
    from saywhere.checkpoints import open_work
    from saywhere.data import read

    if out.exists() and not overwrite:
        raise InputError(f"{out}: is there already; give --overwrite or another --out")
    config = _config(preset, config_path, overrides)
    dataset = read(data)
    try:
        from saywhere.tune_blocks import tune_blocks
    except ImportError as error:
        raise MissingExtraError("towers tune", "train", error.name or "torch") from None
    with open_work(out, say) as work, progress_bar("images", config.threads) as progress:
        if fresh:
            work.clear()
        tuned = tune_blocks(dataset, config, first, out, work, (say, progress))
        work.forget(tuned.training)
    say(f"{tuned.numbers / 1e6:.1f} million tuned weights in {out}; "
        f"--set towers.image.tuned={out}")  # fmt: skip
