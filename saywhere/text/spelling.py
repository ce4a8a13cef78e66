"""Mistyped words of a query put right, where it is plain what was meant.

A text tower takes a mistyped word to pieces that mean something else ("wite" is "wit" and "e"), so
a slip costs more than a word left out. What is put right is a word that neither the tower nor the
lexicon of place descriptions (``words/lexicon.txt``, most frequent first) knows, and that is one
slip away from a word of the lexicon: a letter too many, too few, exchanged or another. All else
stays as it was typed: names, other languages, words that are rare but right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache, lru_cache

from saywhere.text.content import lines, word_list

SHORTEST = 3  # letters: of two, too many words are one slip away
WORD = re.compile(r"[^\W\d_]+")
# What makes other forms of a word: "dorms" is right where "dorm" is. What stands before "es" or "d"
# is not just any letter: "treees" and "roofd" are slips.
_ENDINGS = {
    "s": "", "es": "osxzh", "d": "e", "ed": "", "ing": "", "er": "", "y": "", "ly": "", "ish": "",
    "less": "", "like": "",
}  # fmt: skip
_LONG = 4  # letters of a stem that only the tower knows: many shorter ones are no words
_KEPT = 4096  # slips remembered: a service may see any number of them
_ENGLISH = 0.5  # share of the words that must be known English for any to be put right


def corrected(text: str, is_known: Callable[[str], bool]) -> str:
    """The text, its mistyped words put right; capitals stay where they were.

    Args:
        is_known: whether the text tower knows a lower-case word as a whole.
    """
    found = [word.lower() for word in WORD.findall(text)]
    if sum(word in _known_english() for word in found) < _ENGLISH * len(found):
        return text
    return WORD.sub(lambda match: _right(match[0], is_known), text)


def _right(word: str, is_known: Callable[[str], bool]) -> str:
    lower = word.lower()
    if len(word) < SHORTEST or _is_word(lower, is_known):
        return word
    meant = _meant(lower)
    if meant is None:
        return word
    return meant.upper() if word.isupper() else meant.capitalize() if word[0].isupper() else meant


def _is_word(word: str, is_known: Callable[[str], bool]) -> bool:
    if word in _known_english() or is_known(word):
        return True
    return any(
        stem in _known_english() or (len(stem) >= _LONG and is_known(stem)) for stem in _stems(word)
    )


def _stems(word: str) -> Iterator[str]:
    """What the word may be an inflection of."""
    for ending, before in _ENDINGS.items():
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < SHORTEST or (before and stem[-1] not in before):
            continue
        yield stem
        if ending in ("ed", "ing", "er", "y"):
            if stem[-1] == stem[-2]:
                yield stem[:-1]  # "slatted"
            yield f"{stem}e"  # "hedging"


@lru_cache(_KEPT)
def _meant(word: str) -> str | None:
    """The most frequent word of the lexicon that is one slip away, with its first letter if can be.

    The first letter is seldom the wrong one (Yannakoudakis and Fawthrop 1983).
    """
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import extract

    near = extract(word, _lexicon(), scorer=OSA.distance, score_cutoff=1, limit=None)
    if not near:
        return None
    return min(near, key=lambda found: (found[0][0] != word[0], found[2]))[0]


@cache
def _lexicon() -> tuple[str, ...]:
    """Words, the most frequent first."""
    return tuple(word for line in lines("lexicon") for word in line.split())


@cache
def _known_english() -> frozenset[str]:
    return frozenset(_lexicon()) | word_list("function")
