"""For whoever carries experts about: look at them, pack them, unpack them."""

from __future__ import annotations

from pathlib import Path

import click

from saywhere.commands.console import PATH, experts_argument, json_option, print_json, say
from saywhere.errors import InputError


@click.group()
def expert() -> None:
    """Look at trained experts, and carry them to another machine."""


@expert.command("show")
@experts_argument
@json_option
def expert_show(folder: Path, as_json: bool) -> None:
    """Check every hash of the experts in FOLDER and print what they are made of.

    Parameters trained and frozen, towers, fusion, origin. Exit code 2 if anything is missing or
    altered.
    """
    from saywhere.summary import summarise

    found = summarise(folder)
    print_json(found.to_dict()) if as_json else click.echo(found.to_text())


@expert.command("export")
@click.argument("folder", type=PATH)
@click.argument("out", type=PATH)
@click.option("--zip", "as_zip", is_flag=True, help="One archive; so does a name in .zip.")
@click.option("--half", is_flag=True, help="Round heads to half precision: half their size.")
@click.option("--no-towers", is_flag=True, help="Leave the towers out, where they are at hand.")
@click.option("--merged", is_flag=True, help="Add a tower for each expert, adapters merged in.")
@click.option("--overwrite", is_flag=True, help="Replace experts or an archive at OUT.")
def expert_export(
    folder: Path,
    out: Path,
    as_zip: bool,
    half: bool,
    no_towers: bool,
    merged: bool,
    overwrite: bool,
) -> None:
    """Copy the experts of FOLDER to OUT, with all that a search on another machine needs.

    Heads, fusion, configuration, hashes, and the towers as ONNX files that carry their tokenizer:
    real copies, no links. The other machine needs `pip install saywhere`, no torch, no network.

    With --merged an expert's adapters need no computing at search time, but every expert has towers
    of its own in memory (docs/adapters.md); indexes stay valid. It needs torch here.
    """
    from saywhere.portable import Form, export_archive, export_folder

    if merged and no_towers:
        raise InputError(f"{out}: --merged adds towers, --no-towers leaves them out; give one")
    if as_zip or out.suffix == ".zip":
        if half or no_towers or merged:
            raise InputError(
                f"{out}: --half, --merged and --no-towers go with a folder; give one as OUT"
            )
        export_archive(folder, out, overwrite=overwrite)
        size = out.stat().st_size
        say(f"{out}: {size / 1e6:.1f} MB; unpack it with: saywhere expert import {out} experts")
    else:
        form = Form(half=half, towers=not no_towers, merged=merged)
        export_folder(folder, out, overwrite=overwrite, form=form)
        size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
        needs = "the small towers of saywhere[train]" if no_towers else "nothing else"
        say(f"{out}: {size / 1e6:.1f} MB; needs {needs} on another machine")
    click.echo(out)


@expert.command("import")
@click.argument("archive", type=PATH)
@click.argument("out", type=PATH)
@click.option("--overwrite", is_flag=True, help="Replace experts that are in OUT.")
@click.option(
    "--max-gb",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Refuse an archive that holds more.",
)
def expert_import(archive: Path, out: Path, overwrite: bool, max_gb: float) -> None:
    """Unpack an exported ARCHIVE into the folder OUT, if every hash in it is right."""
    from saywhere.portable import import_archive

    import_archive(archive, out, overwrite=overwrite, most_bytes=round(max_gb * 1e9))
    say(f"{out}: whole, every hash checked")
    click.echo(out)
