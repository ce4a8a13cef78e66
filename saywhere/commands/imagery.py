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
    print_table,
    progress_bar,
    say,
    threads_option,
)
from saywhere.errors import InputError

if TYPE_CHECKING:
    pass


@click.group()
def data() -> None:
    """Look at datasets before training on them."""


@data.command("inspect")
@click.argument("path", type=PATH)
@json_option
def data_inspect(path: Path, as_json: bool) -> None:
    """Print what is recognised at PATH: a GeoText JSON, a Track 4 folder, a folder of images."""
    from saywhere.data.inspect import inspect

    found = inspect(path)
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
    labels = [f"{view.angle:.0f}° zoom {view.zoom:.2f}" for view in views]
    with atomic_path(out) as temporary:
        contact_sheet([picture, *seen], ["original", *labels]).save(temporary, "PNG")
    say(f"{len(views)} views of {image} drawn to {out}")


@click.command()
@click.argument("folder", type=PATH)
@experts_option
@click.option("--index", "uri", default="saywhere-index", show_default=True, help="Path or URI.")
@json_option
@threads_option
def index(folder: Path, experts: Path, uri: str, as_json: bool, threads: int) -> None:
    """Index the images of FOLDER for searching."""
    from saywhere.data import read
    from saywhere.index import build_index

    loaded = load(experts, None)
    dataset = read(folder)
    with progress_bar("views") as progress:
        info = build_index(loaded, dataset.records, folder, uri, threads=threads, progress=progress)
    placed = sum(record.lat is not None for record in dataset.records)
    if as_json:
        print_json({"index": uri, "images": info.count, "with_coordinates": placed,
                     "expert_hash": info.expert_hash})  # fmt: skip
    say(f"{info.count} images indexed in {uri}, {placed} with coordinates")


@click.command()
@click.argument("words", nargs=-1, required=True)
@click.option("-k", "count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--platform", type=PLATFORMS, help="Only images of this platform.")
@click.option("--index", "uri", default="saywhere-index", show_default=True, help="Path or URI.")
@click.option("--experts", type=PATH, help="Where the index's experts are now, if moved.")
@json_option
@threads_option
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
        print_json({"query": text, "index": uri, "hits": [asdict(hit) for hit in hits]})
    else:
        from saywhere.report import hits_table

        print_table(hits_table(hits))


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
