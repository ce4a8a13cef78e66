"""For whoever looks after an installation: what is in place, what is slow, what takes space."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import (
    PATH,
    json_option,
    print_json,
    print_table,
    runtime_options,
    say,
)

if TYPE_CHECKING:
    from saywhere.caches import CacheFile, Kind
    from saywhere.hardware import Runtime


@click.command()
@click.option(
    "--index", "uri", help="An index that must be there. Default: saywhere-index, if any."
)
@click.option(
    "--experts",
    type=PATH,
    envvar="SAYWHERE_EXPERTS",
    help="Experts that must be there. Default: experts, if any.",
)
@json_option
@runtime_options
def doctor(uri: str | None, experts: Path | None, as_json: bool, runtime: Runtime) -> None:
    """Look at everything a search or a training needs, and say what is missing, broken or slow.

    Exit code 2 if anything is broken; notes are worth knowing and work.
    """
    from saywhere.doctor import examine

    checks = examine(runtime, index=uri, experts=experts)
    broken = sum(check.status == "problem" for check in checks)
    if as_json:
        print_json({"sound": not broken, "checks": [asdict(check) for check in checks]})
    else:
        from saywhere.report import checks_table

        print_table(checks_table(checks))
        slow = [check for check in checks if check.slow]
        click.echo("What would be slow, and why:" if slow else "Nothing stands out that is slow.")
        for check in slow:
            click.echo(f"  {check.name}: {check.found}; {check.remedy}")
    say(f"{broken} broken" if broken else "nothing is broken")
    if broken:
        sys.exit(2)


@click.group()
def cache() -> None:
    """See and free what is kept to save time: features of images and texts, exported towers."""


@cache.command("show")
@json_option
def cache_show(as_json: bool) -> None:
    """Print every cache with its size and when it was last used."""
    from saywhere.caches import list_caches
    from saywhere.report import caches_table
    from saywhere.towers.cache import cache_folder

    files = list_caches()
    total = sum(file.bytes for file in files)
    if as_json:
        print_json({"folder": str(cache_folder()), "bytes": total,
                    "caches": [_plain(file) for file in files]})  # fmt: skip
    elif files:
        print_table(caches_table(files))
    say(f"{cache_folder()}: {len(files)} caches, {total / 1e6:.1f} MB")


@cache.command("clear")
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(0),
    default=0,
    metavar="DAYS",
    help="Only what was not used for DAYS days.",
)
@click.option(
    "--kind",
    type=click.Choice(["all", "features", "towers"]),
    default="all",
    show_default=True,
    help="What to delete; leftovers of killed processes always go.",
)
@json_option
def cache_clear(days: float, kind: str, as_json: bool) -> None:
    """Delete caches; they are made again when needed, which takes time.

    Experts carry their towers, so deleting cached ones harms no search. A cache that another
    process has open stays.
    """
    from saywhere.caches import clear_caches

    kinds: dict[str, tuple[Kind, ...]] = {
        "all": ("features", "tower", "leftover"),
        "features": ("features", "leftover"),
        "towers": ("tower", "leftover"),
    }
    done = clear_caches(kinds[kind], days)
    if as_json:
        print_json({"bytes": done.bytes, "deleted": [_plain(file) for file in done.deleted],
                    "busy": [_plain(file) for file in done.busy]})  # fmt: skip
    for file in done.busy:
        say(f"{file.path}: kept, another process is using it")
    say(f"{len(done.deleted)} caches deleted, {done.bytes / 1e6:.1f} MB freed")


def _plain(file: CacheFile) -> dict[str, object]:
    return asdict(file) | {"path": str(file.path)}
