"""For people with imagery: look at data, index it, search it, render a world."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import (
    PATH,
    PLATFORMS,
    experts_option,
    json_option,
    load,
    print_json,
    progress_bar,
    runtime_options,
    say,
    uri_option,
)
from saywhere.errors import DatasetError, InputError

if TYPE_CHECKING:
    from saywhere.hardware import Runtime
    from saywhere.index import IndexReport


@click.group()
def data() -> None:
    """Look at datasets before training on them."""


@data.command("inspect")
@click.argument("path", type=PATH)
@click.option("--skip-bad", is_flag=True, help="Leave bad entries out and list them.")
@click.option("--decode", is_flag=True, help="Decode every image, which takes time.")
@click.option("--sheet", type=PATH, help="PNG to write: a contact sheet of up to 24 images.")
@json_option
def data_inspect(
    path: Path, skip_bad: bool, decode: bool, sheet: Path | None, as_json: bool
) -> None:
    """Print what is recognised at PATH.

    PATH is a GeoText JSON, a table (CSV, TSV, Parquet, GeoJSON), an RSICD folder or one of its
    lists, a Track 4 folder, STAC items, or a folder of images.
    """
    from contextlib import nullcontext

    from saywhere.data.inspect import inspect

    with progress_bar("images") if decode else nullcontext() as progress:
        found = inspect(path, skip_bad=skip_bad, decode=decode, sheet=sheet, progress=progress)
    for line in found.skipped:
        say(f"left out: {line}")
    for line in found.notes:
        say(f"note: {line}")
    for line in found.undecodable or ():
        say(f"undecodable: {line}")
    if sheet is not None:
        say(f"contact sheet drawn to {sheet}")
    print_json(found.to_dict()) if as_json else click.echo(found.to_text())


@data.command("views")
@click.argument("image", type=PATH)
@click.option("--out", type=PATH, required=True, help="PNG to write.")
@click.option("--platform", type=PLATFORMS, default="satellite", show_default=True)
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
    labels = [f"{round(view.angle)}° zoom {view.zoom:.2f}" for view in views]
    with atomic_path(out) as temporary:
        contact_sheet([picture, *seen], ["original", *labels]).save(temporary, "PNG")
    say(f"{len(views)} views of {image} drawn to {out}")


class _IndexGroup(click.Group):
    """`saywhere index DIR` is `saywhere index add DIR`; a folder called verify is ./verify."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["add", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_IndexGroup, subcommand_metavar="DIR | COMMAND [ARGS]...")
def index() -> None:
    """Index a folder of images for searching, and look after the index.

    `index DIR` is short for `index add DIR`, whose options are in `index add --help`.
    """


@index.command("add")
@click.argument("folders", type=PATH, nargs=-1, metavar="FOLDER...")
@experts_option
@uri_option
@click.option("--rebuild", is_flag=True, help="Start anew: other experts or another folder.")
@click.option("--prune", is_flag=True, help="Drop missing images even if they are most of them.")
@click.option("--skip-bad", is_flag=True, help="Leave out what cannot be read, and list it.")
@click.option("--tile-size", type=click.FloatRange(0, min_open=True), metavar="METRES",
              help="Edge of the tiles that large GeoTIFFs are cut into. Default: as before, else "
              "128.")  # fmt: skip
@click.option("--overlap", type=click.FloatRange(0, 1, max_open=True), metavar="SHARE",
              help="Least share that tiles overlap. Default: as before, else 0.25.")  # fmt: skip
@click.option(
    "--platform",
    "platforms",
    multiple=True,
    metavar="PLATFORM[=GLOB]",
    help="Satellite, drone or ground, whatever the files say: all, or 'drone=flights/*'. Repeat.",
)
@click.option(
    "--root",
    "roots",
    type=PATH,
    multiple=True,
    help="Folder that STAC hrefs may lead into. Repeat. Default: the file's own.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="NAME[:PORT]",
    help="Host that STAC assets may be fetched from. Repeat. Default: none.",
)
@json_option
@runtime_options
def index_add(
    folders: tuple[Path, ...],
    experts: Path,
    uri: str,
    rebuild: bool,
    prune: bool,
    skip_bad: bool,
    tile_size: float | None,
    overlap: float | None,
    platforms: tuple[str, ...],
    roots: tuple[Path, ...],
    hosts: tuple[str, ...],
    as_json: bool,
    runtime: Runtime,
) -> None:
    """Index the images of FOLDER, or bring their index up to date.

    FOLDER may also be a table (CSV, TSV, Parquet, GeoJSON) or STAC items: see docs/photos.md. Of
    several, image ids begin with the name of their source; name all of them at every update.

    Unchanged files are not read again, and deleted ones disappear from the index. With --skip-bad,
    an image that was indexed and can no longer be read stays as it was until it can, is deleted, or
    --prune drops it.

    A GeoTIFF of more than one and a half tiles is cut; tiles of which less than 5 % have data are
    left out. The index remembers how it was cut: with other numbers, tiles are replaced.
    """
    from dataclasses import asdict

    from saywhere.data.hrefs import Hrefs
    from saywhere.data.platforms import override_platforms, parse_platform_rule
    from saywhere.data.raster import TileOptions
    from saywhere.data.several import read_sources
    from saywhere.data.sources import name_sources
    from saywhere.index import SKIP_REMEDY, embedder, update_index
    from saywhere.towers import cache_folder

    sources = name_sources(folders)
    hrefs = Hrefs(roots, hosts, cache_folder() / "remote" if hosts else None)
    rules = [parse_platform_rule(text) for text in platforms]
    loaded = load(experts, None)
    try:
        dataset = read_sources(sources, skip_bad=skip_bad, hrefs=hrefs)
    except DatasetError as error:
        raise DatasetError(error.source, error.problems, "" if skip_bad else SKIP_REMEDY) from None
    records = override_platforms(dataset.records, rules)
    skipped = dataset.skipped if skip_bad else None
    with progress_bar("views", runtime.threads) as progress:
        by = embedder(loaded, runtime=runtime, progress=progress)
        done = update_index(
            by, records, sources, uri, rebuild=rebuild, prune=prune, skipped=skipped,
            tiles=TileOptions(tile_size, overlap),
        )  # fmt: skip
    for line in done.skipped:
        say(f"left out: {line}")
    for line in (*dataset.notes, *done.notes):
        say(f"note: {line}")
    if as_json:
        report = asdict(done) | {"skipped": len(done.skipped)}
        print_json({"index": uri, "images": report.pop("count"), **report})
    for line in _summary(done, uri):
        say(line)


def _summary(done: IndexReport, uri: str) -> list[str]:
    """What was read, by kind, what was left out, by cause, and what that did to the index."""
    read, lines = done.read, list[str]()
    if done.unreachable:
        lines.append(
            f"{done.unreachable} images kept although their files are missing: their folder is "
            "empty or out of reach, or their entry was left out; drop them with --prune if they "
            "are deleted"
        )
    kinds = [f"{read['images']} images"]
    if read["whole_rasters"]:
        kinds.append(f"{read['whole_rasters']} small GeoTIFFs")
    if read["rasters"]:
        size = f"{done.tiling.size_m:g} m"
        kinds.append(f"{read['tiles']} tiles of {size} from {read['rasters']} large GeoTIFFs")
    lines.append(f"read: {', '.join(kinds)}")
    if done.left_out:
        counts = (f"{count} × {cause}" for cause, count in done.left_out.items())
        lines.append(f"left out by cause: {', '.join(counts)}")
    return [
        *lines,
        f"{done.count} images indexed in {uri}, {done.with_coordinates} with coordinates: "
        f"{done.added} added, {done.changed} changed, {done.deleted} deleted, {done.unchanged} "
        f"unchanged, {len(done.skipped)} left out in {done.seconds:.1f} s",
    ]


@index.command("verify")
@uri_option
@click.option("--experts", type=PATH, help="Where the index's experts are now, if moved.")
@click.option("--content", is_flag=True, help="Read every file, not only those that look changed.")
@json_option
def index_verify(uri: str, experts: Path | None, content: bool, as_json: bool) -> None:
    """Check that an index is whole and still describes its files; exit code 2 if broken."""
    from dataclasses import asdict

    from saywhere.keeping import verify_index

    found = verify_index(uri, experts=experts, content=content)
    if as_json:
        print_json({"index": uri, "sound": not found.problems, **asdict(found)})
    else:
        for image_id in found.missing:
            click.echo(f"missing  {image_id}")
        for image_id in found.changed:
            click.echo(f"changed  {image_id}")
    for problem in found.problems:
        say(f"problem: {problem}")
    if found.problems:
        raise InputError(f"index {uri!r}: broken, problems: {len(found.problems)}; see above")
    count = found.info.count if found.info else 0
    say(
        f"{uri} is sound: {count} images, {len(found.missing)} missing and {len(found.changed)} "
        "changed on disk since"
    )


@index.command("compact")
@uri_option
@json_option
def index_compact(uri: str, as_json: bool) -> None:
    """Free the disk space an index no longer needs; searches go on meanwhile."""
    from dataclasses import asdict

    from saywhere.keeping import compact_index

    done = compact_index(uri)
    if as_json:
        print_json({"index": uri, **asdict(done)})
    freed = (done.bytes_before - done.bytes_after) / 1e6
    say(f"{uri}: {done.count} images, {freed:.1f} MB freed, {done.bytes_after / 1e6:.1f} MB left")


@click.command()
@click.argument("out", type=PATH)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--places", type=click.IntRange(2, 1000), default=120, show_default=True)
@click.option("--test-places", type=click.IntRange(1), default=30, show_default=True)
def world(out: Path, seed: int, places: int, test_places: int) -> None:
    """Render a small world into OUT: three views with coordinates, captions and queries."""
    from saywhere.world import WorldConfig, render_world

    made = render_world(out, WorldConfig(seed=seed, places=places, test_places=test_places))
    say(f"{len(made.places)} places in {out}")
