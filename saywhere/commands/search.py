"""For people who look for something: search for images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from saywhere.commands.asking import (
    certainty_of,
    check_asked,
    embed_asked,
    open_asked,
    tell_spelling,
)
from saywhere.commands.console import print_json, print_table, say
from saywhere.commands.finding import (
    Asked,
    Filters,
    Output,
    asked_options,
    filter_options,
    output_options,
    print_marks,
)

if TYPE_CHECKING:
    from saywhere.certainty import Certainty, Kind
    from saywhere.expert_set import ExpertSet
    from saywhere.match import Belief


@click.command()
@click.argument("words", nargs=-1)
@click.option("-k", "count", type=click.IntRange(1, 10_000), default=10, show_default=True)
@click.option("--offset", type=click.IntRange(0), default=0, help="Leave out the first so many.")
@click.option("--min-score", type=float, help="Leave out hits below this score.")
@asked_options
@filter_options
@output_options
def search(
    words: tuple[str, ...],
    count: int,
    offset: int,
    min_score: float | None,
    asked: Asked,
    filters: Filters,
    output: Output,
) -> None:
    """Find the images that WORDS describe, or that look like a photo, best first.

    With each hit comes the probability that it is the image that was meant, among all images that
    the filters let through, and "none of these": that it is no image of them.
    """
    from saywhere.export import hit_json, hit_marks
    from saywhere.report import hits_table, match_lines
    from saywhere.search import Page, Scope, fused, search_matches

    text = " ".join(words).strip()
    texts = [text] if words else []
    check_asked(texts, asked.photos)
    page = Page(offset, min_score)
    scope = Scope(filters.chosen(), filters.area(), filters.period())
    store, loaded = open_asked(asked)
    queries, kinds = embed_asked(loaded, texts, asked.photos, asked.runtime, tell_spelling)
    certainty = certainty_of(asked.uri, loaded, store)
    belief = _belief(loaded, certainty, kinds)
    [found] = search_matches(store, fused(queries), belief, count, scope, page)
    calibrated = certainty is not None and all(kind in certainty.kinds for kind in kinds)
    if output.form == "json":
        print_json({
            "query": text, "images": list(map(str, asked.photos)), "index": asked.uri,
            "calibrated": calibrated, "none_probability": found.none,
            "confident": found.confident, "hits": [hit_json(hit) for hit in found.hits],
        })  # fmt: skip
    elif output.form == "table":
        print_table(hits_table(found.hits, output.notation))
    else:
        print_marks(output, hit_marks(found.hits), [hit.path for hit in found.hits])
    told, remarks = match_lines(found)
    for line in told:
        click.echo(line, err=output.form != "table")
    for line in remarks:
        say(line)


def _belief(
    experts: ExpertSet, certainty: Certainty | None, kinds: tuple[Kind, ...]
) -> Belief | None:
    """What probabilities are made with; None, and a remark, where nothing was fitted for it."""
    from saywhere.match import Belief
    from saywhere.sharpness import NONE_SHARE

    if "image" in kinds:
        say("no match probabilities: they are fitted for words, not for photos")
        return None
    sharpness = experts.sharpness.get(experts.config.fusion.mode)
    if sharpness is None:
        say(
            "no match probabilities: these experts have none fitted; train them again, with 20 "
            "texts of 5 places or more whose ids end in train.fit_places_ending_in"
        )
        return None
    return Belief(sharpness, certainty.none_share if certainty else NONE_SHARE)
