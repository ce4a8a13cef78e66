"""Guards: whether a rewrite may take a caption's place, and if not, why not.

A model that rewrites captions forgets, invents and chatters. ``check`` keeps a rewrite only if it
says nothing the source does not say and enough of what it does say; how that is measured stands in
:mod:`saywhere.text.content`. Whatever fails is replaced by rule-based text, and the reason counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from saywhere.text.content import (
    Token,
    content_stems,
    is_function_word,
    lines,
    scripts,
    sentence_bounds,
    stem,
    tokens,
    words,
)
from saywhere.text.orientation import has_orientation


class Verdict(StrEnum):
    """What became of one rewrite; the order is the order of the checks."""

    ACCEPTED = "accepted"
    RULE = "rule"  # nobody was asked: the rule-based text was wanted
    UNANSWERED = "unanswered"  # the endpoint failed, whatever was tried
    UNPARSABLE = "unparsable"  # an answer without a text in it
    CUT = "cut short"  # the token limit came before the end
    REFUSED = "refused"
    LANGUAGE = "other language"
    LENGTH = "length"
    ORIENTATION = "orientation words"
    VIEWPOINT = "wrong viewpoint"  # aerial terms from the ground, a horizon from above
    INVENTED = "new words"
    RECOLOURED = "colour moved"  # a colour of the source given to another thing
    LOST = "lost words"
    REPEATED = "repeats itself"
    UNCHANGED = "unchanged"
    DUPLICATE = "duplicate"  # of another variant of the same caption


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one style.

    Attributes:
        keep: least share of the source's content stems that a rewrite must have.
        shortest, longest: words of a rewrite.
        shortest_share, longest_share: the same as a share of the source's words.
    """

    keep: float
    shortest: int = 3
    longest: int = 120
    shortest_share: float = 0.0
    longest_share: float = 1.0


_PLATFORM = Limits(keep=0.6, shortest_share=0.4, longest_share=1.2)
LIMITS: Mapping[str, Limits] = {
    "satellite": _PLATFORM,
    "drone": _PLATFORM,
    "ground": _PLATFORM,
    "operator": Limits(keep=0.25, shortest=5, longest=25),
    # What a user typed is short already: little of it may go.
    "query": Limits(keep=0.6, shortest=2, longest=40, longest_share=1.5),
}
# Another language has few of the source's own words, and few English function words.
_KNOWN = 0.5
_FUNCTION = 0.15
# How far from a colour, in content words, the thing may stand that it describes.
_BEFORE, _AFTER = 2, 4
_HEADS = 2
_REPEATED_STEMS = 3


def check(rewrite: str, source: str, style: str) -> Verdict:
    """Judge a rewrite.

    Args:
        rewrite: what a model made of ``source``, one line of plain text.
        source: the caption, or query, without its orientation words.
        style: a key of ``LIMITS``.

    Returns:
        ``ACCEPTED``, or the first guard that it violates.

    Raises:
        MissingExtraError: the stemmer is not installed.
    """
    if refuses(rewrite):
        return Verdict.REFUSED
    if not _same_language(rewrite, source):
        return Verdict.LANGUAGE
    if not _fits(rewrite, source, LIMITS[style]):
        return Verdict.LENGTH
    if has_orientation(rewrite):
        return Verdict.ORIENTATION
    return _check_content(rewrite, source, style)


def _check_content(rewrite: str, source: str, style: str) -> Verdict:
    kept, wanted = content_stems(rewrite), content_stems(source)
    allowed, barred = _viewpoint(style)
    verdict = Verdict.ACCEPTED
    if kept & barred:
        verdict = Verdict.VIEWPOINT
    elif kept - wanted - allowed:
        verdict = Verdict.INVENTED
    elif _recoloured(rewrite, source):
        verdict = Verdict.RECOLOURED
    elif len(kept & wanted) < LIMITS[style].keep * len(wanted):
        verdict = Verdict.LOST
    elif repeats(rewrite):
        verdict = Verdict.REPEATED
    elif words(rewrite) == words(source):
        verdict = Verdict.UNCHANGED
    return verdict


def refuses(text: str) -> bool:
    """True if a text begins as models do that decline."""
    return text.lstrip(" \"'“").lower().startswith(lines("refusals"))


def repeats(text: str) -> bool:
    """True if three content words in a row come twice: small models run in circles."""
    stems = [token.stem for token in tokens(text) if token.stem]
    runs = list(zip(*(stems[k:] for k in range(_REPEATED_STEMS)), strict=False))
    return len(runs) != len(set(runs))


def _same_language(rewrite: str, source: str) -> bool:
    if not scripts(rewrite) <= scripts(source):
        return False
    found = words(rewrite)
    own = set(words(source)) | content_stems(source)
    function = [word for word in found if is_function_word(word)]
    known = [word for word in found if word in own or stem(word) in own]
    return len({*function, *known}) >= _KNOWN * len(set(found)) or len(function) >= _FUNCTION * len(
        found
    )


def _fits(rewrite: str, source: str, limits: Limits) -> bool:
    count, whole = len(words(rewrite)), len(words(source))
    least = max(min(limits.shortest, whole), limits.shortest_share * whole)
    return least <= count <= min(limits.longest, max(limits.longest_share * whole, 3))


def _recoloured(rewrite: str, source: str) -> bool:
    """True if a colour stands by a thing that it does not stand near in the source."""
    near = _surroundings(source)
    for sentence in sentence_bounds(tokens(rewrite)):
        for place, token in enumerate(sentence):
            if token.colour and not _heads(sentence, place) <= near.get(token.stem, set()):
                return True
    return False


def _surroundings(source: str) -> dict[str, set[str]]:
    """For each colour the content stems within a few content words of it, in its sentence."""
    near: dict[str, set[str]] = {}
    for sentence in sentence_bounds(tokens(source)):
        content = [token for token in sentence if token.stem]
        for place, token in enumerate(content):
            if token.colour:
                around = content[max(0, place - _BEFORE) : place + _AFTER + 1]
                near.setdefault(token.stem, set()).update(other.stem for other in around)
    return near


def _heads(sentence: list[Token], place: int) -> set[str]:
    """What a colour describes: one or two content words right behind it, else one before it."""
    behind: set[str] = set()
    for token in sentence[place + 1 :]:
        if len(behind) == _HEADS:
            break
        if token.stem and not token.colour:
            behind.add(token.stem)
        elif not (token.colour or (token.word in {"and", "or"} and not behind)):
            break
    if behind:
        return behind
    before = [token.stem for token in sentence[:place] if token.stem and not token.colour]
    return set(before[-1:])


@cache
def _viewpoint(style: str) -> tuple[frozenset[str], frozenset[str]]:
    """Stems that a style may add, and stems that it may not have."""
    if style == "query":
        style = "operator"
    signs: dict[str, set[str]] = {"+": set(), "-": set()}
    for line in lines(style):
        sign, _, rest = line.partition(" ")
        signs[sign].update(stem(word) for word in rest.split())
    return frozenset(signs["+"]), frozenset(signs["-"])
