"""What ``search`` and ``locate`` share: filters, forms of output, what is asked of which index."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saywhere.commands.console import PATH, PLATFORMS, runtime_options, uri_option
from saywhere.errors import InputError

if TYPE_CHECKING:
    from saywhere.area import Area
    from saywhere.bundle import ExpertSet
    from saywhere.coordinates import Notation
    from saywhere.export import Mark
    from saywhere.types import Platform

_NOTATIONS = click.Choice(["decimal", "dms", "utm", "mgrs"])  # spelled out: help must be quick


@dataclass(frozen=True, slots=True)
class Filters:
    """``--platform``, ``--box``, ``--polygon`` and ``--around``, as given."""

    platforms: tuple[str, ...]
    box: str | None
    polygon: Path | None
    around: str | None

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
    @wraps(verb)
    def composed(
        *args: object,
        platforms: tuple[str, ...],
        box: str | None,
        polygon: Path | None,
        around: str | None,
        **others: object,
    ) -> None:
        verb(*args, filters=Filters(platforms, box, polygon, around), **others)

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
class Rewording:
    """``--refine-with``, ``--endpoint`` and ``--budget``, over the experts' own configuration."""

    model: str | None
    endpoint: str | None
    budget: float | None

    def of(self, experts: ExpertSet) -> ExpertSet:
        """The experts, refining queries as asked for.

        It changes what a query says, not what an image is: the index stays theirs.
        """
        from saywhere.config import QueryRefinementConfig

        given = {"model": self.model, "endpoint": self.endpoint, "budget_seconds": self.budget}
        over = {name: value for name, value in given.items() if value is not None}
        if not over:
            return experts
        text = experts.config.text
        known = text.query.model_dump() | over
        enabled = known["enabled"] or self.model is not None
        query = QueryRefinementConfig(**{**known, "enabled": enabled})
        text = text.model_copy(update={"query": query})
        return replace(experts, config=experts.config.model_copy(update={"text": text}))


def rewording_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Who rewords what was typed; it reaches the verb as one ``rewording``."""

    @click.option("--refine-with", metavar="MODEL", help="Let a language model reword WORDS first.")
    @click.option("--endpoint", metavar="URL", help="Where that model is served, on this machine.")
    @click.option("--budget", type=click.FloatRange(0.05, 60), help="Seconds it may take.")
    @wraps(verb)
    def composed(
        *args: object,
        refine_with: str | None,
        endpoint: str | None,
        budget: float | None,
        **others: object,
    ) -> None:
        verb(*args, rewording=Rewording(refine_with, endpoint, budget), **others)

    return composed


def asked_options(verb: Callable[..., None]) -> Callable[..., None]:
    """What is asked of which index, by whom."""
    for option in (
        runtime_options,
        click.option("--experts", type=PATH, help="Where the index's experts are now, if moved."),
        uri_option,
        click.option("--image", "photos", type=PATH, multiple=True,
                     help="Ask with a photo, alone or with words; repeatable."),
    ):  # fmt: skip
        verb = option(verb)
    return verb


def print_marks(output: Output, marks: Sequence[Mark], paths: Sequence[str]) -> None:
    """Print an export, or the bare paths."""
    from saywhere.export import export, visible

    if output.form != "paths":
        click.echo(export(marks, output.form, output.notation), nl=False)  # type: ignore[arg-type]
        return
    end = "\0" if output.nul else "\n"
    broken = [path for path in paths if "\n" in path]
    if broken and not output.nul:
        raise InputError(f"path {broken[0]!r}: holds a line end; use -0")
    shown = [visible(path) for path in paths] if sys.stdout.isatty() else paths
    # Bytes as the file system has them, or the path would name no file.
    sys.stdout.buffer.write(
        "".join(path + end for path in shown).encode("utf-8", "surrogateescape")
    )
