"""Guards: every reason has captions that violate it and neighbours that do not."""

from __future__ import annotations

import builtins
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhere.errors import MissingExtraError
from saywhere.text import content
from saywhere.text.content import content_stems, scripts, tokens, words
from saywhere.text.guards import LIMITS, Verdict, check, refuses, repeats

SOURCE = (
    "A dark multi-storey tower block with a pale flat roof stands beside two small green roof "
    "gardens. A light grey complex lies around a courtyard, and a strip of greenish water shows."
)


@pytest.mark.parametrize(
    ("rewrite", "verdict"),
    [
        ("dark tower block with pale flat roof, light grey complex around courtyard",
         Verdict.ACCEPTED),
        ("dark multistorey tower block", Verdict.LENGTH),
        ("multi-story tower block with pale flat roofs and two green gardens", Verdict.ACCEPTED),
        ("I'm sorry, I can't describe a tower block with a pale flat roof", Verdict.REFUSED),
        ("dunkler Turm mit flachem Dach und grünen Gärten neben einem Hof", Verdict.LANGUAGE),
        ("dark tower block with pale flat roof, серый двор", Verdict.LANGUAGE),
        ("dark tower block with pale flat roof on the left", Verdict.ORIENTATION),
        ("dark tower block with pale flat roof, picture of a courtyard", Verdict.VIEWPOINT),
        ("dark tower block with pale flat roof and a swimming pool", Verdict.INVENTED),
        ("dark tower block with pale flat roof and no courtyard", Verdict.INVENTED),
        ("dark tower block with pale flat roof and three roof gardens", Verdict.INVENTED),
        ("pale flat roof, tower block, water strip around green complex courtyard",
         Verdict.RECOLOURED),
        ("tower block beside some roof gardens", Verdict.LOST),
        ("dark tower block pale roof, dark tower block pale roof", Verdict.REPEATED),
        (SOURCE, Verdict.LENGTH),
    ],
)  # fmt: skip
def test_every_reason(rewrite: str, verdict: Verdict) -> None:
    assert check(rewrite, SOURCE, "operator") is verdict


def test_platforms_keep_more_and_speak_from_where_they_are() -> None:
    source = "A brick hall with a green door stands behind a row of lime trees and a white sign."
    same = "Behind a row of lime trees and a white sign stands a brick hall with a green door."
    assert check(same, source, "ground") is Verdict.ACCEPTED
    assert check(source.upper(), source, "ground") is Verdict.UNCHANGED
    assert check("A brick hall with a green door behind trees.", source, "ground") is Verdict.LOST
    aerial = same.replace("stands a brick", "an aerial brick")
    assert check(aerial, source, "ground") is Verdict.VIEWPOINT
    assert check(aerial, source, "drone") is Verdict.ACCEPTED
    facade = same.replace("brick hall", "brick hall facade")
    assert check(facade, source, "satellite") is Verdict.VIEWPOINT
    assert check(facade, source, "ground") is Verdict.ACCEPTED
    wordy = same + " " + same
    assert check(wordy, source, "ground") is Verdict.LENGTH


@pytest.mark.parametrize(
    ("rewrite", "moved"),
    [
        ("white hall beside a road, red roof", True),
        ("hall with red roof, tall white road", True),
        ("white roof on a red hall near the road", False),
        ("red-brick hall, roof painted white, road", False),
        ("hall in red, roof in white, a road", False),
        ("red and white hall", True),
    ],
)
def test_colours_stay_with_their_things(rewrite: str, moved: bool) -> None:
    source = (
        "A red brick hall with many tall arched windows has a painted white roof. "
        "A road with grey cars and a kerb, a bench and a lamp runs past."
    )
    # Long sentences: the window of content words tells near from far.
    source = source.replace("has a", "and three wooden doors has a")
    found = check(rewrite, source, "query")
    assert (found is Verdict.RECOLOURED) == moved, found


def test_content_is_what_is_left_of_function_words() -> None:
    assert content_stems("There is a roof, which stands in front of them.") == {"roof"}
    assert content_stems("gray two-story roofs") == content_stems("greyish roof of two storeys")
    assert content_stems("roofed halls") == content_stems("a hall's roof") - {"hall'"} | {"hall"}
    assert [token.word for token in tokens("reddish roof") if token.colour] == ["reddish"]
    assert words("Red-brown, 3 roofs!") == ["red", "brown", "3", "roofs"]
    assert scripts("Dach двор 塔") == {"LATIN", "CYRILLIC", "CJK"}


@pytest.mark.parametrize("name", ["function", "colours", "forms", "satellite", "drone", "ground",
                                  "operator", "refusals"])  # fmt: skip
def test_word_lists_are_lower_case_and_without_repeats(name: str) -> None:
    lines = content.lines(name)
    assert lines
    assert all(line == line.lower() for line in lines)
    if name in {"function", "colours"}:
        found = [word for line in lines for word in line.split()]
        assert len(found) == len(set(found)), sorted(w for w in found if found.count(w) > 1)


def test_refusals_and_circles() -> None:
    assert refuses("“I cannot help with that")
    assert not refuses("icy cannery beside a road")
    assert repeats("grass and trees, green grass and trees, green grass")
    assert not repeats("red roof, white roof, grey roof")


@given(st.text(max_size=200), st.sampled_from(sorted(LIMITS)))
def test_no_text_breaks_the_guards(text: str, style: str) -> None:
    assert check(text, SOURCE, style) in Verdict
    assert check(SOURCE, text, style) in Verdict


def test_without_the_stemmer_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fake(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "snowballstemmer":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    content._stemmer.cache_clear()
    content.stem.cache_clear()
    content._token.cache_clear()
    monkeypatch.setattr(builtins, "__import__", fake)
    with pytest.raises(MissingExtraError, match=r"saywhere\[refine\]"):
        content_stems("a roof")
