"""Tables for people: Markdown for files, rich tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from saywhere.caches import CacheFile
from saywhere.coordinates import Notation, format_position
from saywhere.doctor import Check
from saywhere.errors import printable
from saywhere.evaluate import Evaluation, Row
from saywhere.location_metrics import match_in_words, scores_in_words
from saywhere.search import Answer
from saywhere.types import Hit, Location

if TYPE_CHECKING:
    from rich.table import Table

_ASKED = {"t2i": "text → image", "i2t": "image → text"}
_CUTS = (1, 5, 10)


def evaluation_cells(row: Row) -> list[str]:
    """One row of the report as texts, in the order of ``EVALUATION_COLUMNS``."""
    found = row.retrieval
    cells = [_ASKED[row.direction], row.positives, row.platform, row.gallery, str(found.count)]
    for k in _CUTS:
        name = f"recall_at_{k}"
        value = f"{getattr(found, name):.1f}"
        if name in row.intervals:
            low, high = row.intervals[name]
            value += f" [{low:.0f}–{high:.0f}]"
        cells.append(value)
    chance = " / ".join(f"{row.chance[f'recall_at_{k}']:.1f}" for k in _CUTS)
    return [*cells, f"{found.r_mean:.1f}", f"{found.mrr:.3f}", f"{found.median_rank:g}", chance]


EVALUATION_COLUMNS = (
    "asked", "by", "platform", "gallery", "n", "R@1", "R@5", "R@10", "mean", "MRR", "median",
    "chance R@1/5/10",
)  # fmt: skip


def evaluation_markdown(evaluation: Evaluation) -> str:
    """The whole report as a Markdown table, with what it was made of above it."""
    context = evaluation.context
    lines = [
        f"{context['queries']} queries, {context['images']} images, {context['places']} places; "
        f"platforms known for {context['platforms_known']} images; experts "
        f"{', '.join(context['experts'])} (`{context['expert_hash'][:12]}`), "
        f"fusion `{context['fusion']}`. Recalls in percent with 95 % intervals by place.",
        "",
        "| " + " | ".join(EVALUATION_COLUMNS) + " |",
        "|---|---|---|---|" + "--:|" * (len(EVALUATION_COLUMNS) - 4),
    ]
    lines += ["| " + " | ".join(evaluation_cells(row)) + " |" for row in evaluation.rows]
    if context.get("location"):
        lines += ["", "Position, probabilities cross-fitted by place:"]
        lines += ["", *(f"- {line}" for line in scores_in_words(context["location"]))]
    for name in ("match", "match_as_searched"):
        if context.get(name):
            lines += ["", *(f"- {line}" for line in match_in_words(context[name]))]
    if evaluation.official:
        lines += ["", *_official_lines(evaluation.official)]
    return "\n".join(lines) + "\n"


def evaluation_table(evaluation: Evaluation, *, every_row: bool = False) -> Table:
    """For a terminal: by default only the mixed gallery, by image."""
    table = _table(EVALUATION_COLUMNS, right_from=4)
    for row in evaluation.rows:
        if every_row or (row.positives == "image" and row.gallery == "mixed"):
            table.add_row(*evaluation_cells(row), style="bold" if row.platform == "all" else "")
    return table


def hits_table(hits: Sequence[Hit], notation: Notation = "decimal") -> Table:
    """Ranked answers: match probability, score, platform, position where known, path."""
    from rich.text import Text

    columns = ("#", "probability", "score", "platform", "position", "image")
    table = _table(columns, right_from=6)
    for hit in hits:
        known = hit.lat is not None and hit.lon is not None
        table.add_row(
            str(hit.rank),
            "–" if hit.probability is None else f"{100 * hit.probability:.1f} %",
            f"{hit.score:.3f}",
            hit.platform.value if hit.platform else "–",
            format_position(hit.lat, hit.lon, notation) if known else "–",  # type: ignore[arg-type]
            Text(_image(hit)),  # a Text, because rich would obey [brackets] in a name
        )
    return table


def match_lines(found: Answer) -> tuple[list[str], list[str]]:
    """What belongs to the hits, and what is worth a remark."""
    if found.first is None or found.none is None:
        return [], []
    told = [f"none of these: {100 * found.none:.1f} %"]
    if found.confident:
        return told, []
    return told, [
        f"no confident match: the best hit is {100 * found.first:.1f} % probable"
        + (", less than none of these" if found.first < found.none else "")
    ]


def _image(hit: Hit) -> str:
    """The path, and of a tile the pixel it begins at."""
    part = f"#c{hit.window.column},r{hit.window.row}" if hit.window else ""
    return printable(f"{hit.path}{part}")


def places_table(found: Location, notation: Notation = "decimal") -> Table:
    """Places that may be meant: probability, position, radii if it is the place, evidence."""
    from rich.text import Text

    columns = ("#", "probability", "position", "50 %", "95 %", "place", "evidence")
    table = _table(columns, right_from=7)
    for place in found.places:
        seen = {hit.platform.value if hit.platform else "unknown" for hit in place.evidence}
        table.add_row(
            str(place.rank),
            f"{100 * place.probability:.1f} %",
            format_position(place.lat, place.lon, notation),
            f"{place.radius_50_m:.0f} m",
            f"{place.radius_95_m:.0f} m",
            Text(printable(place.place_id or "–")),
            Text(printable(f"{', '.join(sorted(seen))}: {_image(place.evidence[0])}")),
        )
    return table


def location_lines(found: Location) -> list[str]:
    """The answer in words, for people."""
    lines = []
    if found.places and found.radius_50_m is not None and found.radius_95_m is not None:
        lines.append(
            f"all places considered: 50 % within {found.radius_50_m:.0f} m of the first, "
            f"95 % within {found.radius_95_m:.0f} m"
        )
    rest = f"elsewhere in the index {100 * found.elsewhere_probability:.1f} %"
    if found.none_probability is not None:
        rest += f"; not in the index {100 * found.none_probability:.1f} %"
    lines.append(rest)
    if not found.confident:
        lines.insert(0, "no confident match: no place is more probable than all else together")
    return [*lines, *found.notes]


def checks_table(checks: Sequence[Check]) -> Table:
    """What doctor found; what is broken in red, what is worth knowing in yellow."""
    from rich.markup import escape

    table = _table(("part", "what", "", "found", "remedy"), right_from=5)
    colours = {"ok": "green", "note": "yellow", "problem": "bold red"}
    for before, check in zip([None, *checks], checks, strict=False):
        section = "" if before and before.section == check.section else check.section
        status = f"[{colours[check.status]}]{check.status}[/]"
        table.add_row(
            section, escape(check.name), status, escape(check.found), escape(check.remedy)
        )
    return table


def caches_table(files: Sequence[CacheFile]) -> Table:
    """Caches with size and last use."""
    from rich.markup import escape

    table = _table(("kind", "tower", "rows", "MB", "last used", "file"), right_from=6)
    for file in files:
        used = datetime.fromtimestamp(file.used).astimezone().strftime("%Y-%m-%d %H:%M")
        rows = "–" if file.rows is None else f"{file.rows:,}"
        size = f"{file.bytes / 1e6:.1f}"
        table.add_row(
            file.kind, escape(file.tower or "–"), rows, size, used, escape(str(file.path))
        )
    return table


def _table(columns: Sequence[str], *, right_from: int) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index >= right_from else "left", overflow="fold")
    return table


def _official_lines(official: Mapping[str, Any]) -> list[str]:
    recalls = ", ".join(f"{name} {value:.2f}" for name, value in official.items() if name != "gap")
    gap = ", ".join(f"{name} {value:g}" for name, value in official["gap"].items())
    return [
        f"Official script (there `txt_*` is image → text, `img_*` text → image): {recalls}.",
        "",
        f"Its building numbers against the places: {gap}.",
    ]
