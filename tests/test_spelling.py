"""Mistyped words of a query: what is put right, what is left alone, and how the user is told."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhere.config import load_config
from saywhere.data import read
from saywhere.robustness.texts import corrupt_text
from saywhere.text.content import lines
from saywhere.text.spelling import corrected
from saywhere.towers import text_tower

WORD = re.compile(r"[^\W\d_]+")


def nothing(_word: str) -> bool:
    return False


def test_a_slip_becomes_the_word_that_was_meant() -> None:
    typed = "grey flat-rofed hall besde a parkng lot, treees and a wihte dome"
    assert corrected(typed, nothing) == (
        "grey flat-roofed hall beside a parking lot, trees and a white dome"
    )


def test_capitals_and_all_else_stay() -> None:
    assert corrected("Brigde over the RIVRE; 3 towers\n", nothing) == (
        "Bridge over the RIVER; 3 towers\n"
    )


def test_the_first_letter_counts_most_then_frequency() -> None:
    words = " ".join(lines("lexicon")).split()
    assert words.index("tall") < words.index("wall") < words.index("hall")
    assert corrected("the wal of a house", nothing) == "the wall of a house"
    assert corrected("the xall of a house", nothing) == "the tall of a house"


@pytest.mark.parametrize(
    "text",
    [
        "dorms beside a lawn",  # of "dorm", that the tower knows
        "a slatted roof on the hall",  # of "slat"
        "sloped roofs near the river",
        "Kaufhof at the road",  # a name, near nothing
        "dark green ga ro",  # too short
    ],
)
def test_right_words_stay(text: str) -> None:
    assert corrected(text, {"dorm", "slat"}.__contains__) == text


def test_a_word_the_tower_knows_is_no_slip() -> None:
    typed = "a hoof on the green lawn"
    assert corrected(typed, nothing) == "a roof on the green lawn"
    assert corrected(typed, {"hoof"}.__contains__) == typed


def test_other_languages_stay() -> None:
    text = "weisses Dach neben einem rotem Turm am Parkplaz"
    assert corrected(text, nothing) == text


@given(st.text(max_size=80))
def test_what_was_put_right_is_right(text: str) -> None:
    once = corrected(text, nothing)
    assert corrected(once, nothing) == once
    assert WORD.sub("", once) == WORD.sub("", text)


def test_the_lexicon_is_of_plain_words_the_frequent_first() -> None:
    words = " ".join(lines("lexicon")).split()
    assert len(words) == len(set(words))
    assert all(re.fullmatch(r"[a-zé]{3,}", word) for word in words)
    assert words.index("roof") < words.index("church")


def test_the_tower_knows_whole_words(tower_cache: Path) -> None:
    tower = text_tower(load_config("small").towers.text)
    assert all(map(tower.knows, ("roof", "herb", "the")))
    assert not any(map(tower.knows, ("wite", "roofd", "slatted", "")))


@pytest.mark.real
def test_queries_of_operators_gain_and_lose_nothing(data_root: Path, tower_cache: Path) -> None:
    """Words of 300 unseen queries: hardly one that is right is touched, most slips are mended."""
    knows = text_tower(load_config("small").towers.text).knows
    found: Counter[str] = Counter()
    for query in read(data_root / "track4-mini").queries:
        words = WORD.findall(query.text)
        found["words"] += len(words)
        clean = WORD.findall(corrected(query.text, knows))
        found["touched"] += sum(a != b for a, b in zip(words, clean, strict=True))
        typed = corrupt_text(query.text, "typos", 3)
        mended = WORD.findall(corrected(typed, knows))
        for word, slip, after in zip(words, WORD.findall(typed), mended, strict=True):
            if word != slip:
                found["slips"] += 1
                found["mended"] += after == word
                found["made worse"] += after not in {word, slip}
    assert found["touched"] <= 0.001 * found["words"]
    assert found["mended"] >= 0.8 * found["slips"]
    assert found["made worse"] <= 0.05 * found["slips"]
