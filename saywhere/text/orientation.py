"""Orientation-word removal: a caption without "in the upper left", and still a sentence.

A nadir view has no "up": training rotates and flips satellite images, which makes position words
wrong, and operators' queries have none. Relations between objects ("next to", "behind", "between",
"in front of", "above") hold in any rotation and stay. The rules first read a position
(:mod:`saywhere.text.reading`), then write what must stand in its place
(:mod:`saywhere.text.writing`).
"""

from __future__ import annotations

import re

from saywhere.text.patterns import ARTICLE_MARK, MARKS, Rule
from saywhere.text.reading import READING
from saywhere.text.writing import WRITING

# A text without any of these has nothing to remove; most queries end here.
_DIRECTION = re.compile(
    r"left|right|upper|lower|\btop|bottom|cent(?:er|re|ral)|middle|north|south|east|west",
    re.IGNORECASE,
)
_SENTENCE_BREAK = re.compile(r"((?<=[.!?])\s+)")
# First words that rules look for; other first words keep their capital, as names do.
_OPENING = re.compile(
    r"(?:A|An|The|Its|Their|In|On|At|To|From|Near|Toward|Towards|Along|Across|Down|Up|Over|Through"
    r"|Around|Past|By|Between|Beyond|Just|Slightly|Directly|Farther|Further|Far|Off"
    r"|Fill\w*|Occup\w+|Dominat\w+|Cover\w*|Lin(?:e|es|ing)|Both|Above|Below"
    r"|(?:Left|Right|North|South|East|West|Northeast|Northwest|Southeast|Southwest)"
    r"(?= of\b|-facing\b)"
    r"|(?:Top|Bottom|Upper|Lower)(?=[- ](?:left|right)\b))\b"
)
_BLANK = re.compile(r"\s")
_WORD = re.compile(r"\w")
_PASSES = 6
# Rules look for a space before a word, and for punctuation where a clause starts.
_PAD = "; "
_TIDY: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(rf"\b([Aa])n {ARTICLE_MARK}(?=[^aeiouAEIOU])"), r"\1 "),
    (re.compile(rf"\b([Aa]) {ARTICLE_MARK}(?=[aeioAEIO]|un|up)(?!one\b|uni|eu)"), r"\1n "),
    (re.compile(ARTICLE_MARK), ""),
    (re.compile(r"\( "), "("),
    (re.compile(r"\( ?\)"), ""),
    (re.compile(r"\s{2,}"), " "),
    (re.compile(r" (?=[,.;:!?)])"), ""),
    (re.compile(r"([,;:])[,;:]{1,3}"), r"\1"),
    (re.compile(r"[,:;]?(?: (?:and|or|while|with|but))?[,:;]?(?=[.!?])"), ""),
    (re.compile(r"[,; ]{1,8}(?:(?:and|or|while|with|but) ?)?$"), ""),
    (re.compile(r"^[\s,;:]+"), ""),
)


def remove_orientation(text: str) -> str:
    """Takes out positions in the image, and compass points, and leaves grammatical English.

    Args:
        text: a caption or a query in English, of any length. Sentences without a position are
            returned to the letter; upper-case names ("North Hall") are never touched.

    Returns:
        The text without orientation words. ``remove_orientation`` of the result is the result.
        Where nothing but a position would be left, the input itself. Time is linear in the length.
    """
    if not _DIRECTION.search(text) or any(mark in text for mark in MARKS):
        return text
    pieces = _SENTENCE_BREAK.split(text)
    kept: list[str] = []
    for sentence, gap in zip(pieces[::2], [*pieces[1::2], ""], strict=True):
        cleared = _clear(sentence)
        if cleared or not sentence:
            kept += [cleared, gap]
    if len(kept) < 2 * len(pieces[::2]) and kept:
        kept[-1] = ""
    result = "".join(kept)
    return result if _WORD.search(result) else text


def has_orientation(text: str) -> bool:
    """True if the text places things in the image: ``remove_orientation`` would change it."""
    return remove_orientation(text) != text


def _clear(sentence: str) -> str:
    """One sentence without positions; empty if it says nothing else.

    A rule can bring together words that another rule reads, so passes go on until nothing changes.
    A sentence that doesn't settle is no English: it is returned as it came, which keeps the
    function idempotent and linear.
    """
    current = sentence
    for _ in range(_PASSES):
        if not _DIRECTION.search(current):
            return current
        following = _one_pass(current)
        if following == current:
            return current
        current = following
    return sentence


def _one_pass(sentence: str) -> str:
    opened = _OPENING.match(sentence)
    lowered = sentence[0].lower() + sentence[1:] if opened else sentence
    padded = _PAD + _BLANK.sub(" ", lowered).replace("(", "( ")
    changed = _apply(READING, padded)
    if changed == padded:
        return sentence
    changed = _apply(WRITING, changed)
    for pattern, replacement in _TIDY:
        changed = pattern.sub(replacement, changed)
    if not _WORD.search(changed):
        return ""
    return changed[0].upper() + changed[1:] if sentence[0].isupper() else changed


def _apply(rules: tuple[Rule, ...], text: str) -> str:
    for rule in rules:
        text = rule.pattern.sub(rule.replacement, text)
    return text
