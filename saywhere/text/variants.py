"""Rule-based operator-style variants of a caption: the baseline that a language model must beat.

An operator types a few clauses without articles and without positions, about the thing itself. So:
orientation words go, a sentence may be dropped, a few clauses are picked, verbs that only say that
something is there go, articles go. Nothing is added, hence nothing is invented. What is drawn is
drawn from the caption's own hash: the same caption gives the same variants, everywhere.
"""

from __future__ import annotations

import hashlib
import random
import re

from saywhere.text.orientation import remove_orientation

_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+")
# Where a clause may begin; the separator itself goes.
_CLAUSE_BREAK = re.compile(
    r"\s*[,;:]\s+(?:(?:and|while|whereas|but|with)\s+)?|\s+(?:while|whereas|and with)\s+"
)
_ARTICLE = re.compile(r"\b(?:an?|the|its|their)\s+", re.IGNORECASE)
_OPENING = re.compile(
    r"^(?:this|that|it|there|here"
    r"|(?:behind|beside|beyond|around|nearby|in front)(?:\s+(?:it|them))?"
    r"|the (?:\w+ )?building(?= is an? ))"
    r"\s+(?:is|are|was|were|stands?|lies?|sits?|rises?)\s+",
    re.IGNORECASE,
)
_PRESENCE = re.compile(
    r"\s+(?:(?:is|are)\s+)?(?:stands?|lies?|sits?|rises?|appears?|is|are|can be seen)"
    r"(?=\s+(?:in|on|at|by|beside|behind|before|near|next|among|amid|along|between|beyond|under"
    r"|above|below|around|inside|within|opposite|nearby)\b|$)"
)
_HAS = re.compile(r"\s+(?:has|have)\s+")
_MOST_WORDS = 25
_FEWEST_WORDS = 5
_TRIES = 4


def operator_variants(caption: str, count: int) -> list[str]:
    """Texts as an operator might type them for the image of ``caption``.

    Args:
        caption: English, any number of sentences.
        count: how many are wanted.

    Returns:
        Up to ``count`` distinct texts of mostly 5 to 25 words, without orientation words, without
        articles, without a full stop; fewer where the caption has too few clauses to differ by.
        The first n of a larger ``count`` are those of ``count`` n.
    """
    found: dict[str, None] = {}
    for attempt in range(_TRIES * count):
        if len(found) == count:
            break
        found[_variant(caption, attempt)] = None
    return list(found)


def operator_variant(caption: str, index: int) -> str:
    """One of them; where the caption has fewer, they come round again."""
    found = operator_variants(caption, index + 1)
    return found[index % len(found)]


def _variant(caption: str, attempt: int) -> str:
    seed = hashlib.sha256(f"{attempt}:{caption}".encode()).digest()[:8]
    draw = random.Random(int.from_bytes(seed, "little"))
    cleaned = remove_orientation(caption)
    sentences = [part for part in _SENTENCE_BREAK.split(cleaned.strip()) if part]
    sentences = _drop_sentence(sentences, draw)
    clauses = [_plain(clause) for part in sentences for clause in _clauses(part)]
    clauses = [clause for clause in clauses if clause]
    text = ", ".join(_pick(clauses, draw)) if clauses else cleaned
    # Clauses torn apart may read as a position where the sentence did not.
    return remove_orientation(text)


def _drop_sentence(sentences: list[str], draw: random.Random) -> list[str]:
    """All of them, or all but one; the first, which names the main thing, goes least often."""
    if len(sentences) < 2 or draw.random() < 0.5:
        return sentences
    weights = [1, *[3] * (len(sentences) - 1)]
    dropped = draw.choices(range(len(sentences)), weights)[0]
    return sentences[:dropped] + sentences[dropped + 1 :]


def _clauses(sentence: str) -> list[str]:
    """Pieces that can stand alone; a piece of one or two words ("arched windows, dormers and a
    chimney") stays with the one before it.
    """
    pieces: list[str] = []
    for piece in _CLAUSE_BREAK.split(sentence.rstrip(" .!?")):
        if pieces and len(piece.split()) < 3:
            pieces[-1] = f"{pieces[-1]}, {piece}"
        else:
            pieces.append(piece)
    return pieces


def _plain(clause: str) -> str:
    """A clause as a noun phrase, where the rules find one in it."""
    text = _OPENING.sub("", clause.strip()).removeprefix("Here ")
    text = _PRESENCE.sub("", text, count=1)
    text = _HAS.sub(" with ", text, count=1)
    text = text.removesuffix(" nearby")  # all that is left of a position
    text = " ".join(_ARTICLE.sub("", f"{text} ").split())
    # The first word lost its sentence; a word of capitals is a name or a sign.
    return text if text[:2].isupper() else text[:1].lower() + text[1:]


def _pick(clauses: list[str], draw: random.Random) -> list[str]:
    """One to three clauses in their order, the first usually among them, within the length."""
    wanted = draw.randint(1, 3)
    order = list(range(len(clauses)))
    draw.shuffle(order)
    if draw.random() < 0.8:
        order.sort(key=lambda place: place != 0)  # stable: only the first comes forward
    chosen: list[int] = []
    length = 0
    for place in order:
        words = len(clauses[place].split())
        full = len(chosen) >= wanted or length + words > _MOST_WORDS
        if full and length >= _FEWEST_WORDS:
            break
        chosen.append(place)
        length += words
    return [clauses[place] for place in sorted(chosen)]
