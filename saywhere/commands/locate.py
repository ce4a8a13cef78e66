"""For people who look for something: locate a place, calibrate how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.asking import (
    certainty_of,
    check_asked,
    embed_asked,
    open_asked,
    tell_spelling,
)
from saywhere.commands.console import (
    PATH,
    json_option,
    print_json,
    print_table,
    runtime_options,
    say,
    uri_option,
)
from saywhere.commands.finding import (
    Asked,
    Filters,
    Output,
    asked_options,
    filter_options,
    output_options,
    print_marks,
)
from saywhere.errors import InputError

if TYPE_CHECKING:
    from saywhere.area import Circle
    from saywhere.coordinates import Notation
    from saywhere.hardware import Runtime
    from saywhere.scored_images import ScoredImages
    from saywhere.types import Location


@click.command()
@click.argument("descriptions", nargs=-1)
@click.option("-k", "count", type=click.IntRange(1, 1000), default=5, show_default=True,
              help="Places to list.")  # fmt: skip
@click.option("--near", metavar="LAT,LON", help="The last known position; with --within.")
@click.option("--within", type=float, metavar="METRES",
              help="How far off it may be, with 95 % probability.")  # fmt: skip
@click.option("--html", "report", type=PATH, help="Write a report with a map, one file.")
@click.option("--map", "chart", type=PATH, help="GeoTIFF to draw the report's map on.")
@asked_options
@filter_options
@output_options
def locate(
    descriptions: tuple[str, ...],
    count: int,
    near: str | None,
    within: float | None,
    report: Path | None,
    chart: Path | None,
    asked: Asked,
    filters: Filters,
    output: Output,
) -> None:
    """Find the place that all DESCRIPTIONS are of, each in quotes, and how sure that is.

    Several descriptions along a flight narrow it down. Probabilities count every place of the
    index; they are honest once `saywhere calibrate` has run on known pairs of it.
    """
    from saywhere.certainty import uncalibrated
    from saywhere.export import place_marks
    from saywhere.locate import Where
    from saywhere.locate import locate as find
    from saywhere.report import location_lines, places_table

    check_asked(descriptions, asked.photos)
    where = Where(filters.chosen(), filters.area(), _near(near, within), filters.period())
    if len(descriptions) > 1 and not any(" " in text.strip() for text in descriptions):
        say(
            f"taken as {len(descriptions)} descriptions of a word each; quote what belongs together"
        )
    store, loaded = open_asked(asked)
    queries, kinds = embed_asked(loaded, descriptions, asked.photos, asked.runtime, tell_spelling)
    certainty = certainty_of(asked.uri, loaded, store) or uncalibrated(loaded)
    images = store.scores(queries.vectors)
    found = find(images, kinds, certainty, where, count)
    if report is not None:
        from saywhere.files import write_text
        from saywhere.mapreport import map_report

        write_text(report, map_report(found, descriptions, asked.photos, images, chart))
        say(f"report written to {report}")
    if output.form == "json":
        print_json(_location_json(found, descriptions, asked, output.notation))
    elif output.form == "table":
        print_table(places_table(found, output.notation))
        for line in location_lines(found):
            say(line)
    else:
        paths = [hit.path for place in found.places for hit in place.evidence]
        print_marks(output, place_marks(found), paths)
        for line in location_lines(found):
            say(line)


@click.command()
@click.argument("pairs", type=PATH)
@click.option("--none-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              default=0.1, show_default=True,
              help="How often what is described is expected not to be in the index.")  # fmt: skip
@click.option("--within", type=click.FloatRange(0, min_open=True), default=100, show_default=True,
              metavar="METRES", help="How near a place must be to be the right one.")  # fmt: skip
@uri_option
@click.option("--experts", type=PATH, help="Where the index's experts are now, if moved.")
@json_option
@runtime_options
def calibrate(
    pairs: Path,
    none_share: float,
    within: float,
    uri: str,
    experts: Path | None,
    as_json: bool,
    runtime: Runtime,
) -> None:
    """Fit how sure answers are, on the known PAIRS of an index.

    PAIRS is a CSV file with a column `query` (words) or `image` (the path of a photo that is not in
    the index, relative to the file), the columns `lat` and `lon` of what is described, and maybe
    `metres`, how near a place must be to be the right one. Hundreds of pairs serve best.
    """
    from dataclasses import replace

    from saywhere.calibrate import calibrate_pairs
    from saywhere.certainty import binding, save_certainty, uncalibrated
    from saywhere.pair_table import Pairing
    from saywhere.pairs import read_pairs

    known = read_pairs(pairs, within)
    store, loaded = open_asked(Asked((), uri, experts, None, None, None, False, runtime))
    words = [pair.query for pair in known if pair.query is not None]
    photos = [pair.image for pair in known if pair.image is not None]
    asked, _ = embed_asked(loaded, words, photos, runtime)
    # Embedded words first: pairs take the same order.
    ordered = [pair for pair in known if pair.query is not None]
    ordered += [pair for pair in known if pair.image is not None]
    images = store.scores(asked.vectors)
    _refuse_own(photos, images)
    start = replace(uncalibrated(loaded), none_share=none_share)
    fitted = calibrate_pairs(Pairing.of(ordered), images, start)
    path = save_certainty(uri, fitted.certainty, binding(loaded, store.info()), fitted.report)
    if as_json:
        print_json({"index": uri, "calibration": str(path), **fitted.report})
    else:
        for line in fitted.lines():
            click.echo(line)
    say(f"written to {path}")


def _refuse_own(photos: Sequence[Path], images: ScoredImages) -> None:
    """A photo finds itself with a certainty that no other photo will ever have."""
    indexed = set(images.paths)
    own = [photo for photo in photos if str(photo.resolve()) in indexed]
    if own:
        raise InputError(
            f"{own[0]}: and {len(own) - 1} more photos are in the index and would find themselves; "
            "calibrate with photos that aren't"
        )


def _near(near: str | None, within: float | None) -> Circle | None:
    from saywhere.area import Circle
    from saywhere.coordinates import parse_position

    if near is None and within is None:
        return None
    if near is None or within is None:
        raise InputError("--near LAT,LON and --within METRES belong together; give both")
    return Circle(*parse_position(near), within)


def _location_json(
    found: Location,
    descriptions: Sequence[str],
    asked: Asked,
    notation: Notation,
) -> dict[str, object]:
    from dataclasses import asdict

    from saywhere.coordinates import format_position
    from saywhere.export import hit_json

    value = asdict(found)
    for told, place in zip(value["places"], found.places, strict=True):
        told["position"] = format_position(place.lat, place.lon, notation)
        told["evidence"] = [hit_json(hit) for hit in place.evidence]
    return {
        "descriptions": list(descriptions),
        "images": list(map(str, asked.photos)),
        "index": asked.uri,
        "uncalibrated": not found.calibrated,
        **value,
    }
