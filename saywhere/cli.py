"""The command line: one verb a stage. Results go to stdout, everything else to stderr.

Heavy modules are imported inside the verbs, so ``--help`` is immediate and ``search`` never
touches torch. Our own errors become one line on stderr and exit code 2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from saywhere import __version__
from saywhere.errors import InputError, MissingExtraError, SaywhereError

if TYPE_CHECKING:
    from rich.table import Table

    from saywhere.bundle import ExpertSet
    from saywhere.features import Progress

_Verb = TypeVar("_Verb", bound=Callable[..., None])
_PATH = click.Path(path_type=Path)
_MODES = click.Choice(["own", "mean", "weighted", "gated"])
_PLATFORMS = click.Choice(["satellite", "drone", "ground"])


def main() -> NoReturn:
    """Entry point: runs the verb and turns errors into one line and an exit code."""
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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="saywhere")
def commands() -> None:
    """Say what you see, get where it is.

    \b
    saywhere train train.json --out experts      words and images -> experts
    saywhere index PHOTOS --experts experts      images -> index
    saywhere search "red brick church by a pond" words -> places
    """


def _experts_option(verb: _Verb) -> _Verb:
    return click.option(
        "--experts",
        type=_PATH,
        default=Path("experts"),
        envvar="SAYWHERE_EXPERTS",
        show_default=True,
        help="Folder of trained experts.",
    )(verb)


def _threads_option(verb: _Verb) -> _Verb:
    return click.option(
        "--threads",
        type=click.IntRange(1, 256),
        default=2,
        show_default=True,
        envvar="SAYWHERE_THREADS",
        help="CPU threads.",
    )(verb)


def _json_option(verb: _Verb) -> _Verb:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(verb)


@commands.group()
def data() -> None:
    """Look at datasets before training on them."""


@data.command("inspect")
@click.argument("path", type=_PATH)
@_json_option
def data_inspect(path: Path, as_json: bool) -> None:
    """Print what is recognised at PATH: a GeoText JSON, a Track 4 folder, a folder of images."""
    from saywhere.data.inspect import inspect

    found = inspect(path)
    _print_json(found.to_dict()) if as_json else click.echo(found.to_text())


@data.command("views")
@click.argument("image", type=_PATH)
@click.option("--out", type=_PATH, required=True, help="PNG to write.")
@click.option("--platform", type=_PLATFORMS, default="satellite", show_default=True)
@click.option("--count", type=click.IntRange(1, 60), default=17, show_default=True)
def data_views(image: Path, out: Path, platform: str, count: int) -> None:
    """Draw a contact sheet of an IMAGE's augmented training views."""
    from saywhere.files import atomic_path, hash_file
    from saywhere.images import contact_sheet, read_image
    from saywhere.types import Platform
    from saywhere.views import random_views, render

    picture = read_image(image)
    views = random_views(hash_file(image), count, Platform(platform))
    import PIL.Image

    seen = [PIL.Image.fromarray(render(picture, view, 224)) for view in views]
    labels = [f"{view.angle:.0f}° zoom {view.zoom:.2f}" for view in views]
    with atomic_path(out) as temporary:
        contact_sheet([picture, *seen], ["original", *labels]).save(temporary, "PNG")
    _say(f"{len(views)} views of {image} drawn to {out}")


@commands.command()
@click.argument("path", type=_PATH)
@click.option("--out", type=_PATH, default=Path("experts"), show_default=True)
@click.option("--preset", default="small", show_default=True)
@click.option("--config", "config_path", type=_PATH, help="TOML file over the preset.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Over the file.")
@click.option("--seed", type=int, help="Same as --set seed=N.")
@click.option("--overwrite", is_flag=True, help="Replace experts that are in --out.")
@_threads_option
def train(
    path: Path,
    out: Path,
    preset: str,
    config_path: Path | None,
    overrides: tuple[str, ...],
    seed: int | None,
    overwrite: bool,
    threads: int,
) -> None:
    """Train experts on the captioned images of PATH (a GeoText JSON file)."""
    from saywhere.bundle import check_target, save_experts
    from saywhere.config import load_config
    from saywhere.data import read

    more = [f"threads={threads}"] + ([f"seed={seed}"] if seed is not None else [])
    config = load_config(preset, config_path, [*overrides, *more])
    check_target(out, overwrite=overwrite)
    dataset = read(path)
    try:
        from saywhere.fit import train_experts
    except ImportError as error:
        raise MissingExtraError("train", "train", error.name or "torch") from None
    from saywhere.towers import image_tower, text_tower

    _say("towers: loading; the first time they are exported to ONNX")
    towers = (
        image_tower(config.towers.image, threads=threads),
        text_tower(config.towers.text, threads=threads),
    )
    with _progress("views") as progress:
        experts = train_experts(dataset, config, towers, _say, progress)
    save_experts(
        experts, out, {"image": towers[0].path, "text": towers[1].path}, overwrite=overwrite
    )
    _say(f"{len(experts.experts)} experts in {out}, {experts.provenance['seconds']} s")


@commands.command()
@click.argument("path", type=_PATH)
@_experts_option
@click.option("--fusion", type=_MODES, help="Another fusion than the experts' own.")
@click.option("--unknown-platforms", is_flag=True, help="Hide the images' platforms.")
@click.option("--truth", type=_PATH, help="Track 4 answers, if not PATH/ground_truth.json.")
@click.option(
    "--protocol",
    type=click.Choice(["saywhere", "official"]),
    default="saywhere",
    show_default=True,
    help="official: add what the published GeoText script prints.",
)
@click.option("--out", type=_PATH, help="Write the JSON report here, and Markdown beside it.")
@click.option("--all", "every_row", is_flag=True, help="Print every row of the table.")
@_json_option
@_threads_option
def evaluate(
    path: Path,
    experts: Path,
    fusion: str | None,
    unknown_platforms: bool,
    truth: Path | None,
    protocol: str,
    out: Path | None,
    every_row: bool,
    as_json: bool,
    threads: int,
) -> None:
    """Score experts on PATH: a GeoText test JSON, or a Track 4 folder with its answers."""
    from saywhere.data import read
    from saywhere.evaluate import evaluate as run
    from saywhere.evaluate import make_task
    from saywhere.report import evaluation_markdown, evaluation_table

    loaded = _load(experts, fusion)
    task = make_task(read(path), truth)
    with _progress("views") as progress:
        found = run(
            loaded,
            task,
            platforms_unknown=unknown_platforms,
            protocol="official" if protocol == "official" else "saywhere",
            threads=threads,
            progress=progress,
        )
    if out is not None:
        from saywhere.files import write_text

        write_text(out, json.dumps(found.to_dict(), indent=2) + "\n")
        write_text(out.with_suffix(".md"), evaluation_markdown(found))
    if as_json:
        _print_json(found.to_dict())
    else:
        _print_table(evaluation_table(found, every_row=every_row))
        if found.official is not None:
            click.echo(evaluation_markdown(found).rsplit("|\n", 1)[-1].strip())


@commands.command()
@click.argument("folder", type=_PATH)
@_experts_option
@click.option("--index", "uri", default="saywhere-index", show_default=True, help="Path or URI.")
@_json_option
@_threads_option
def index(folder: Path, experts: Path, uri: str, as_json: bool, threads: int) -> None:
    """Index the images of FOLDER for searching."""
    from saywhere.data import read
    from saywhere.index import build_index

    loaded = _load(experts, None)
    dataset = read(folder)
    with _progress("views") as progress:
        info = build_index(loaded, dataset.records, folder, uri, threads=threads, progress=progress)
    placed = sum(record.lat is not None for record in dataset.records)
    if as_json:
        _print_json({"index": uri, "images": info.count, "with_coordinates": placed,
                     "expert_hash": info.expert_hash})  # fmt: skip
    _say(f"{info.count} images indexed in {uri}, {placed} with coordinates")


@commands.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-k", "count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--platform", type=_PLATFORMS, help="Only images of this platform.")
@click.option("--index", "uri", default="saywhere-index", show_default=True, help="Path or URI.")
@click.option("--experts", type=_PATH, help="Where the index's experts are now, if moved.")
@_json_option
@_threads_option
def search(
    words: tuple[str, ...],
    count: int,
    platform: str | None,
    uri: str,
    experts: Path | None,
    as_json: bool,
    threads: int,
) -> None:
    """Find the images that WORDS describe, best first."""
    from dataclasses import asdict

    from saywhere.bundle import load_experts
    from saywhere.embed import embed_queries
    from saywhere.search import search as find
    from saywhere.store import open_store
    from saywhere.types import Platform, Query

    text = " ".join(words).strip()
    if not text:
        raise InputError("the description is empty; say what you see, in quotes")
    store = open_store(uri)
    loaded = load_experts(experts or Path(store.info().experts))
    asked = embed_queries(loaded, [Query("q1", text)], threads=threads)
    hits = find(store, asked, count, platform=Platform(platform) if platform else None)[0]
    if as_json:
        _print_json({"query": text, "index": uri, "hits": [asdict(hit) for hit in hits]})
    else:
        from saywhere.report import hits_table

        _print_table(hits_table(hits))


@commands.command()
@click.option("--queries", type=_PATH, help="q_00001<TAB>text, a line each.")
@click.option("--images", type=_PATH, help="Folder of nameless images.")
@click.option("--out", type=_PATH, default=Path("submission.txt"), show_default=True)
@click.option("--check", type=_PATH, help="Validate a submission .txt or .zip instead.")
@_experts_option
@click.option("--fusion", type=_MODES, help="Another fusion than the experts' own.")
@_threads_option
def submit(
    queries: Path | None,
    images: Path | None,
    out: Path,
    check: Path | None,
    experts: Path,
    fusion: str | None,
    threads: int,
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

    loaded = _load(experts, fusion)
    with _progress("views") as progress:
        zipped = run(loaded, asked, records, out, threads=threads, progress=progress)
    _say(f"{len(asked)} queries answered")
    click.echo(out)
    click.echo(zipped)


def _check_submission(path: Path, queries: list[str] | None, images: set[str] | None) -> None:
    from saywhere.submission import check_submission

    report = check_submission(path, queries=queries, images=images)
    click.echo(report.to_text())
    if not report.ok:
        sys.exit(2)


@commands.command()
@click.argument("out", type=_PATH)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--places", type=click.IntRange(2, 1000), default=120, show_default=True)
@click.option("--test-places", type=click.IntRange(1), default=30, show_default=True)
def world(out: Path, seed: int, places: int, test_places: int) -> None:
    """Render a small world into OUT: three views with coordinates, captions and queries."""
    from saywhere.world import WorldConfig, render_world

    made = render_world(out, WorldConfig(seed=seed, places=places, test_places=test_places))
    _say(f"{len(made.places)} places in {out}")


def _load(folder: Path, fusion: str | None) -> ExpertSet:
    from saywhere.bundle import load_experts

    experts = load_experts(folder)
    return experts.with_mode(fusion) if fusion else experts  # type: ignore[arg-type]


def _say(line: str) -> None:
    click.echo(line, err=True)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_table(table: Table) -> None:
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 200
    Console(width=wide).print(table)


class _progress:  # noqa: N801 - used like a function
    """A progress bar on stderr; a quiet line every ten seconds where stderr is no terminal."""

    def __init__(self, unit: str) -> None:
        self._unit = unit

    def __enter__(self) -> Progress:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn(self._unit),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._bar.start()
        task = self._bar.add_task(self._unit, total=None)

        def advance(done: int, total: int) -> None:
            self._bar.update(task, completed=done, total=total)

        return advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()
