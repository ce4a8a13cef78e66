"""What the verbs share: options, and how results, progress and remarks are printed.

Results go to stdout, everything else to stderr.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, get_args

import click

from saywhere.hardware import Device, Runtime, default_threads

if TYPE_CHECKING:
    from rich.table import Table

    from saywhere.config import FusionMode
    from saywhere.expert_set import ExpertSet
    from saywhere.features import Progress

Verb = TypeVar("Verb", bound=Callable[..., None])
PATH = click.Path(path_type=Path)
MODES = click.Choice(["own", "mean", "weighted", "gated", "known"])
PLATFORMS = click.Choice(["satellite", "drone", "ground"])


def experts_option(verb: Verb) -> Verb:
    """``--experts``."""
    return click.option(
        "--experts",
        type=PATH,
        envvar="SAYWHERE_EXPERTS",
        callback=_experts_or_default,
        help="Folder of trained experts. Default: experts, else those that come with saywhere.",
    )(verb)


def experts_argument(verb: Verb) -> Verb:
    """``FOLDER``, with the defaults of ``--experts``."""
    return click.argument(
        "folder", type=PATH, required=False, envvar="SAYWHERE_EXPERTS", callback=_experts_or_default
    )(verb)


def _experts_or_default(
    _ctx: click.Context, _parameter: click.Parameter, value: Path | None
) -> Path:
    """What was given, else ``experts`` where ``train`` wrote it, else the shipped ones."""
    from saywhere.manifest import MANIFEST_FILE, SHIPPED

    if value is not None:
        return value
    trained = Path("experts")
    if (trained / MANIFEST_FILE).is_file() or not (SHIPPED / MANIFEST_FILE).is_file():
        return trained
    say("experts: the small ones that come with saywhere; --experts FOLDER for your own")
    return SHIPPED


def runtime_options(verb: Callable[..., None]) -> Callable[..., None]:
    """``--threads`` and ``--device``, which reach the verb as one ``runtime``."""

    @click.option(
        "--threads",
        type=click.IntRange(1, 256),
        default=default_threads,
        show_default="all usable cores",
        envvar="SAYWHERE_THREADS",
        help="CPU threads.",
    )
    @click.option(
        "--device",
        type=click.Choice(get_args(Device)),
        default="auto",
        show_default=True,
        envvar="SAYWHERE_DEVICE",
        help="Where the towers run; auto: on the GPU if ONNX Runtime has CUDA.",
    )
    @wraps(verb)
    def composed(*args: object, threads: int, device: Device, **others: object) -> None:
        verb(*args, runtime=Runtime(threads, device), **others)

    return composed


def json_option(verb: Verb) -> Verb:
    """``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)


def uri_option(verb: Verb) -> Verb:
    """``--index``."""
    return click.option(
        "--index", "uri", default="saywhere-index", show_default=True, help="Path or URI."
    )(verb)


def load(folder: Path, fusion: FusionMode | None) -> ExpertSet:
    """Experts of a folder, fused as asked for or as they were trained."""
    from saywhere.bundle import load_experts

    experts = load_experts(folder)
    return experts.with_mode(fusion) if fusion else experts


def say(line: str) -> None:
    """A remark, on stderr."""
    click.echo(line, err=True)


def print_json(value: object) -> None:
    """A result, for programs."""
    from saywhere.export import plain_json

    click.echo(plain_json(value))


def print_table(table: Table) -> None:
    """A result, for people; wide where stdout is no terminal, so nothing is folded in a file."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


_SECONDS_BETWEEN_LINES = 15
_MEASURED_SECONDS = 3  # of batches, before their rate is believed
_LONG_SECONDS = 10  # what takes less needs no estimate


@contextmanager
def progress_bar(unit: str, threads: int | None = None) -> Iterator[Progress]:
    """Progress on stderr, with the time it will take.

    On a terminal a bar that vanishes when done; in a log one line that estimates a long job after
    its first batches, then a line every 15 seconds.

    Args:
        unit: what is counted.
        threads: CPU threads at work, named in the estimate.
    """
    if not sys.stderr.isatty():
        yield _line_writer(unit, threads)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(unit, total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        yield advance


def _line_writer(unit: str, threads: int | None) -> Progress:
    said = time.monotonic()
    first: tuple[int, float] | None = None
    estimated = False

    def advance(done: int, total: int) -> None:
        nonlocal said, first, estimated
        now = time.monotonic()
        if first is None:  # its batch paid for warming up: the rate is that of the batches after it
            first = done, now
        elif not estimated and now - first[1] >= _MEASURED_SECONDS:
            estimated = True
            rate = max(1, done - first[0]) / (now - first[1])
            if (total - done) / rate >= _LONG_SECONDS:
                said = now
                say(f"{unit}: {_estimate(total - done, rate, threads)}")
        if now - said >= _SECONDS_BETWEEN_LINES:
            said = now
            say(f"{unit}: {done:,} of {total:,}")

    return advance


def _estimate(left: int, rate: float, threads: int | None) -> str:
    """``12,300 to go, about 4 min at 52/s on 2 threads``; ``rate`` is a second."""
    seconds = left / rate
    if seconds < 90:
        time_left = f"{seconds:.0f} s"
    elif seconds < 90 * 60:
        time_left = f"{seconds / 60:.0f} min"
    else:
        time_left = f"{seconds / 3600:.1f} h"
    at = f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s"
    on = f" on {threads} thread{'s' if threads > 1 else ''}" if threads else ""
    return f"{left:,} to go, about {time_left} at {at}{on}"
