"""What annotators and operators say of a place, true to the picture of the platform at hand.

Captions have 35 … 60 words in two or three sentences and say where things are. Queries have
10 … 25 words in lower case, never say where anything is, and use other words for the same things.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from saywhere.types import Platform
from saywhere.world import catalogue as cat
from saywhere.world.model import Attributes

MOST_WORDS = 60  # of a caption; the wordings never give fewer than 35
DRAFTS = 12
NUMBERS = ("zero", "one", "two", "three", "four", "five")
ROUND_SHAPES = {"round"}
SPLIT_FRONTS = {"twin", "stepped"}  # their door is in the western block
# How each side of the tile is named in the pictures taken from above.
SATELLITE_SIDES = {
    "north": ("at the top", "to the north", "in the upper part"),
    "south": ("at the bottom", "to the south", "in the lower part"),
    "west": ("on the left", "to the west", "on its left"),
    "east": ("on the right", "to the east", "on its right"),
}
DRONE_SIDES = {
    "north": ("behind it", "at the back", "beyond it"),
    "south": ("in front of it", "in the foreground", "before its entrance"),
    "west": ("on its left", "on the left side", "to its left"),
    "east": ("on its right", "on the right side", "to its right"),
}


class _Speaker:
    """Picks wordings with a generator of its own, so texts don't depend on the rendering."""

    def __init__(self, rng: np.random.Generator, looks: Attributes) -> None:
        self.rng, self.looks = rng, looks

    def any(self, options: Sequence[str]) -> str:
        return options[int(self.rng.integers(len(options)))]

    def roof(self, style: str) -> str:
        """Say "red hipped roof" as a caption or a query has it."""
        table = cat.ROUND_ROOFS if self.looks.shape in ROUND_SHAPES else cat.ROOF_TYPES
        colour, kind = cat.ROOF_COLOUR_WORDS[self.looks.roof_colour], table[self.looks.roof_type]
        return f"{self.any(getattr(colour, style))} {self.any(getattr(kind, style))}"

    def shape(self, style: str) -> str:
        return self.any(getattr(cat.SHAPES[self.looks.shape], style))

    def facade(self, style: str) -> str:
        return self.any(getattr(cat.FACADES[self.looks.facade], style))

    def floors(self, style: str) -> str:
        """Say "four-storey" or "high-rise" as a caption, "four floors" as a query."""
        if self.looks.shape == "tower":
            return "many-storeyed" if style == "caption" else "a dozen floors"
        word = NUMBERS[self.looks.storeys]
        return f"{word}-storey" if style == "caption" else f"{word} floors"

    def sides(self) -> list[tuple[str, str]]:
        """(side, feature) of the sides that have one, in random order."""
        found = [
            (side, getattr(self.looks, side))
            for side in ("north", "east", "south", "west")
            if getattr(self.looks, side) != cat.NOTHING
        ]
        return [found[i] for i in self.rng.permutation(len(found))]


def _article(phrase: str) -> str:
    spelt = phrase[1] == "-"  # "an L-shaped", "a U-shaped": the letter's own name decides
    vowel = phrase[0] in ("FHLMNRSX" if spelt else "aeiou")
    return f"{'an' if vowel else 'a'} {phrase}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _is(phrase: str) -> str:
    """The verb after a feature's wording, whose head noun is singular where it starts with "a"."""
    return "is" if phrase.startswith(("a ", "an ")) else "are"


def _surroundings(speaker: _Speaker, names: Mapping[str, Sequence[str]]) -> str:
    """Where the features are, seen from above."""
    parts: list[str] = []
    for side, kind in speaker.sides():
        thing = speaker.any(cat.FEATURES[kind].caption)
        verb = "" if parts else f" {_is(thing)}"
        parts.append(f"{thing}{verb} {speaker.any(names[side])}")
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _trees_from_above(speaker: _Speaker) -> str:
    looks = speaker.looks
    cover, trees = cat.COVERS[looks.cover].caption[0], cat.TREES[looks.trees].caption[0]
    if looks.tree_rows == "lined":
        return f"{trees} line the outer edges of the {cover}"
    if looks.tree_rows == "few":
        return f"a few {trees} stand on the {cover} towards the corners"
    if looks.front_trees == "none":
        return f"the rest is {cover} with roads on all sides"
    return f"{cover} covers the rest, with {trees} near the entrance only"


def satellite_caption(speaker: _Speaker) -> list[str]:
    """Sentences on plan, roof and surroundings."""
    looks = speaker.looks
    extra = cat.ROOF_EXTRAS[looks.roof_extra].caption[0]
    shape = speaker.shape("caption")
    roof = f"{_article(speaker.roof('caption'))}{', ' + extra if extra else ''}"
    comma = "," if extra else ""
    first = speaker.any(
        (
            f"{_article(shape)} with {roof}{comma} stands in the center",
            f"in the center there is {_article(shape)} with {roof}",
        )
    )
    return [first, _surroundings(speaker, SATELLITE_SIDES), _trees_from_above(speaker)]


def drone_caption(speaker: _Speaker) -> list[str]:
    """Sentences on walls, storeys, roof and surroundings."""
    shape, roof = speaker.shape("caption"), _article(speaker.roof("caption"))
    walls = f"{speaker.facade('caption')} walls"
    first = speaker.any(
        (
            f"{_article(speaker.floors('caption'))} {shape} with {walls} and {roof} stands in "
            "the middle",
            f"in the middle rises {_article(speaker.floors('caption'))} {shape} that has {walls} "
            f"and {roof}",
        )
    )
    return [first, _surroundings(speaker, DRONE_SIDES), _trees_from_above(speaker)]


def ground_caption(speaker: _Speaker) -> list[str]:
    """Sentences on facade, entrance, foreground, trees beside it and sky."""
    looks = speaker.looks
    accent, door = cat.ACCENTS[looks.accent].caption[0], "in the middle"
    if looks.shape in SPLIT_FRONTS:
        door = "towards the left"
    windows = cat.WINDOWS[looks.windows].caption[0]
    if looks.facade == "glass":
        windows = "large panes between white bars"
    sky = cat.SKIES[looks.sky].caption[0]
    facade = f"{_article(speaker.floors('caption'))} {speaker.facade('caption')} facade"
    first = speaker.any(
        (
            f"{facade} with {windows} rises in the center under {sky}",
            f"under {sky}, {facade} with {windows} fills the center",
        )
    )
    thing = (cat.FEATURES[looks.south].near or cat.FEATURES[looks.south].caption)[0]
    second = (
        f"{thing} {_is(thing)} in the foreground, and {accent} banners hang beside the {accent}"
    )
    second += f" door {door}"
    trees = {
        "left": f"{cat.TREE[looks.trees]} grows on the left",
        "right": f"{cat.TREE[looks.trees]} grows on the right",
        "both": f"{cat.TREES[looks.trees].caption[0]} stand on the left and right",
        "none": "no tree hides the front",
    }[looks.front_trees]
    cover = cat.COVERS[looks.cover].caption[0]
    return [first, second, f"{trees}, and {cover} covers the bottom"]


def satellite_query(speaker: _Speaker) -> str:
    """Plan, roof, two or three features."""
    looks = speaker.looks
    words = f"{speaker.shape('query')}, {speaker.roof('query')}"
    if looks.roof_extra != "none":
        words += f" with {cat.ROOF_EXTRAS[looks.roof_extra].query[0]}"
    return f"{words}, {_things(speaker)}{_plot(speaker)}"


def drone_query(speaker: _Speaker) -> str:
    """Walls, plan, roof, features."""
    words = f"{speaker.facade('query')} {speaker.shape('query')}, {speaker.floors('query')}, "
    return f"{words}{speaker.roof('query')}, {_things(speaker)}"


def ground_query(speaker: _Speaker) -> str:
    """Facade, windows, entrance, what lies before it, weather."""
    looks = speaker.looks
    windows = cat.WINDOWS[looks.windows].query[0] if looks.facade != "glass" else "big panes"
    thing = speaker.any(cat.FEATURES[looks.south].query)
    words = f"{speaker.facade('query')} house with {speaker.floors('query')} and {windows}, "
    words += f"{cat.ACCENTS[looks.accent].query[0]} entrance flags, {thing}"
    if looks.front_trees != "none":
        words += f", {cat.TREES[looks.trees].query[0]}"
    return f"{words}, {cat.SKIES[looks.sky].query[0]}"


def _things(speaker: _Speaker) -> str:
    names = [speaker.any(cat.FEATURES[kind].query) for _, kind in speaker.sides()]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _plot(speaker: _Speaker) -> str:
    looks = speaker.looks
    if looks.tree_rows == "lined":
        return f", ringed by {cat.TREES[looks.trees].query[0]}"
    return f", {cat.COVERS[looks.cover].query[0]}"


CAPTIONS: dict[Platform, Callable[[_Speaker], list[str]]] = {
    Platform.SATELLITE: satellite_caption,
    Platform.DRONE: drone_caption,
    Platform.GROUND: ground_caption,
}
QUERIES: dict[Platform, Callable[[_Speaker], str]] = {
    Platform.SATELLITE: satellite_query,
    Platform.DRONE: drone_query,
    Platform.GROUND: ground_query,
}


def caption(looks: Attributes, platform: Platform, rng: np.random.Generator) -> tuple[str, ...]:
    """The three sentences of an annotator's caption of one image, 35 … 60 words in all."""
    speaker = _Speaker(rng, looks)
    drafts = [CAPTIONS[platform](speaker) for _ in range(DRAFTS)]
    # The first draft of a fitting length; where all are too long, the shortest.
    fits = [draft for draft in drafts if _length(draft) <= MOST_WORDS]
    chosen = fits[0] if fits else min(drafts, key=_length)
    return tuple(_sentence(text) for text in chosen)


def _length(sentences: Sequence[str]) -> int:
    return sum(len(sentence.split()) for sentence in sentences)


def query(looks: Attributes, platform: Platform, rng: np.random.Generator) -> str:
    """An operator's words for one image, lower case, without any position."""
    return QUERIES[platform](_Speaker(rng, looks)).lower()
