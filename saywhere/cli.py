"""The command line: one verb a stage. Results go to stdout, everything else to stderr.

Heavy modules are imported inside the verbs, so ``--help`` is immediate and ``search`` never
touches torch. Our own errors become one line on stderr and exit code 2.
"""

from __future__ import annotations

import io
import os
import sys
from typing import NoReturn

import click

from saywhere import __version__
from saywhere.commands.evaluation import evaluate
from saywhere.commands.experts import expert
from saywhere.commands.hub import hub
from saywhere.commands.imagery import data, index, world
from saywhere.commands.locate import calibrate, locate
from saywhere.commands.measuring import ablate, robustness
from saywhere.commands.refine import refine
from saywhere.commands.research import submit, train
from saywhere.commands.search import search
from saywhere.commands.towers import towers
from saywhere.commands.upkeep import cache, doctor
from saywhere.errors import SaywhereError


def main() -> NoReturn:
    """Entry point: runs the verb and turns errors into one line and an exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Paths need not be Unicode; escaped so, JSON that holds one is still JSON.
            stream.reconfigure(errors="backslashreplace")
    try:
        commands(standalone_mode=False)
    except SaywhereError as error:
        click.echo(f"saywhere: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("saywhere: stopped", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    sys.exit(0)


_HELP = """Say what you see, get where it is.

\b
  saywhere train train.json --out experts       words and images -> experts
  saywhere index PHOTOS --experts experts       images -> index
  saywhere search "red brick church by a pond"  words -> images
  saywhere locate "red brick church by a pond"  words -> places, with a radius
"""


@click.group(
    help=_HELP,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="saywhere")
def commands() -> None:
    """The group of all verbs."""


for _verb in (
    data, refine, train, evaluate, ablate, robustness, expert, index, search, locate, calibrate,
    submit, towers, hub, world, doctor, cache,
):  # fmt: skip
    commands.add_command(_verb)
