"""What ``search`` and ``locate`` share: filters, forms of output, what is asked of which index."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import PATH, PLATFORMS, runtime_options, uri_option
from saywhere.errors import InputError, printable

if TYPE_CHECKING:
    from saywhere.area import Area
    from saywhere.coordinates import Notation
    from saywhere.export import Mark
    from saywhere.hardware import Runtime
    from saywhere.period import Period
    from saywhere.types import Platform

_NOTATIONS = click.Choice(["decimal", "dms", "utm", "mgrs"])  # spelled out: help must be quick


@dataclass(frozen=True, slots=True)
class Filters:
    """``--platform``, the spatial ones, ``--after`` and ``--before``, as given."""

    platforms: tuple[str, ...]
    box: str | None
    polygon: Path | None
    around: str | None
    after: str | None
    before: str | None

    def chosen(self) -> frozenset[Platform] | None:
        """The platforms, None for all."""
        from saywhere.types import Platform

        return frozenset(Platform(name) for name in self.platforms) or None

    def area(self) -> Area | None:
        """What all spatial filters have in common; InputError where one is malformed."""
        from saywhere.area import Area, Box, Circle, Polygon, parse_box, read_polygon
        from saywhere.coordinates import parse_numbers

        parts: list[Box | Circle | Polygon] = []
        if self.box is not None:
            parts.append(parse_box(self.box))
        if self.polygon is not None:
            parts.append(read_polygon(self.polygon))
        if self.around is not None:
            lat, lon, metres = parse_numbers(self.around, "LAT,LON,METRES")
            parts.append(Circle(lat, lon, metres))
        return Area(tuple(parts)) if parts else None

    def period(self) -> Period | None:
        """When, None for any time; InputError where a date is malformed."""
        from saywhere.period import parse_period

        return parse_period(self.after, self.before)


@dataclass(frozen=True, slots=True)
class Output:
    """How results are printed: ``form`` is table, json, geojson, csv, kml, gpx or paths."""

    form: str
    nul: bool
    notation: Notation


def filter_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Which images and places qualify; they reach the verb as one ``filters``."""

    @click.option("--platform", "platforms", type=PLATFORMS, multiple=True,
                  help="Only of this platform; repeatable.")  # fmt: skip
    @click.option("--box", metavar="W,S,E,N", help="Only inside, degrees; W > E crosses 180°.")
    @click.option("--polygon", type=PATH, help="Only inside the polygons of a GeoJSON file.")
    @click.option("--around", metavar="LAT,LON,METRES", help="Only inside this circle.")
    @click.option("--after", metavar="DATE",
                  help="Only taken then or later (ISO 8601, UTC), date known.")  # fmt: skip
    @click.option("--before", metavar="DATE",
                  help="Only taken before; images without a date are left out.")  # fmt: skip
    @wraps(verb)
    def composed(
        *args: object,
        platforms: tuple[str, ...],
        box: str | None,
        polygon: Path | None,
        around: str | None,
        after: str | None,
        before: str | None,
        **others: object,
    ) -> None:
        filters = Filters(platforms, box, polygon, around, after, before)
        verb(*args, filters=filters, **others)

    return composed


def output_options(verb: Callable[..., None]) -> Callable[..., None]:
    """How results are printed; it reaches the verb as one ``output``."""

    @click.option("--json", "form", flag_value="json", help="Print JSON.")
    @click.option("--geojson", "form", flag_value="geojson", help="Print GeoJSON.")
    @click.option("--csv", "form", flag_value="csv", help="Print CSV.")
    @click.option("--kml", "form", flag_value="kml", help="Print KML.")
    @click.option("--gpx", "form", flag_value="gpx", help="Print GPX waypoints.")
    @click.option("--paths", "form", flag_value="paths", help="Print bare paths, a line each.")
    @click.option("-0", "nul", is_flag=True, help="Paths end in NUL instead, for xargs -0.")
    @click.option("--coords", "notation", type=_NOTATIONS, default="decimal", show_default=True,
                  help="How positions are written for people.")  # fmt: skip
    @wraps(verb)
    def composed(
        *args: object, form: str | None, nul: bool, notation: Notation, **others: object
    ) -> None:
        chosen = Output(form or ("paths" if nul else "table"), nul, notation)
        verb(*args, output=chosen, **others)

    return composed


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of which index, by whom, and how words are reworded first."""

    photos: tuple[Path, ...]
    uri: str
    experts: Path | None
    model: str | None
    endpoint: str | None
    budget: float | None
    as_typed: bool
    runtime: Runtime


def asked_options(verb: Callable[..., None]) -> Callable[..., None]:
    """``--image``, ``--index``, ``--experts`` and refinement; they reach the verb as ``asked``."""

    @click.option("--image", "photos", type=PATH, multiple=True,
                  help="Ask with a photo, alone or with words; repeatable.")  # fmt: skip
    @uri_option
    @click.option("--experts", type=PATH, help="Where the index's experts are now, if moved.")
    @click.option("--as-typed", is_flag=True, help="Leave mistyped words as they are.")
    @click.option("--refine-with", "model", metavar="MODEL",
                  help="Let a language model reword the words first.")  # fmt: skip
    @click.option("--endpoint", metavar="URL", help="Where that model is served, on this machine.")
    @click.option("--budget", type=click.FloatRange(0.05, 60), help="Seconds it may take.")
    @runtime_options
    @wraps(verb)
    def composed(
        *args: object,
        photos: tuple[Path, ...],
        uri: str,
        experts: Path | None,
        model: str | None,
        endpoint: str | None,
        budget: float | None,
        as_typed: bool,
        runtime: Runtime,
        **others: object,
    ) -> None:
        asked = Asked(photos, uri, experts, model, endpoint, budget, as_typed, runtime)
        verb(*args, asked=asked, **others)

    return composed


def print_marks(output: Output, marks: Sequence[Mark], paths: Sequence[str]) -> None:
    """Print an export, or the bare paths, each file once however many of its tiles were found."""
    from saywhere.export import export

    if output.form != "paths":
        click.echo(export(marks, output.form, output.notation), nl=False)  # type: ignore[arg-type]
        return
    end = "\0" if output.nul else "\n"
    paths = list(dict.fromkeys(paths))
    broken = [path for path in paths if "\n" in path]
    if broken and not output.nul:
        raise InputError(f"path {broken[0]!r}: holds a line end; use -0")
    shown = [printable(path) for path in paths] if sys.stdout.isatty() else paths
    # Bytes as the file system has them, or the path would name no file.
    sys.stdout.buffer.write(
        "".join(path + end for path in shown).encode("utf-8", "surrogateescape")
    )
