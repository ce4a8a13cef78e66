"""Rule-based variants: deterministic, in the operator's manner, and nothing invented."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saywhere.data import read
from saywhere.text.content import content_stems
from saywhere.text.guards import Verdict, check
from saywhere.text.orientation import has_orientation, remove_orientation
from saywhere.text.variants import operator_variant, operator_variants

CAPTION = (
    "This is a long grey hall with a white roof and a row of round vents. "
    "Behind it lie a lawn, two ponds and a gravel path, while a car park fills the lower left. "
    "There is a red shed next to the path, and tall trees stand on the right."
)


def test_variants_read_like_queries() -> None:
    found = operator_variants(CAPTION, 6)
    assert len(found) == len(set(found)) == 6
    for text in found:
        assert not re.search(r"\b(a|an|the|this|there)\b|\.$", text, re.IGNORECASE), text
        assert not has_orientation(text)
        assert 5 <= len(text.split()) <= 25
        assert text[0].islower()
    assert sum(text.startswith("long grey hall with white roof") for text in found) >= 3


def test_the_caption_alone_decides() -> None:
    found = operator_variants(CAPTION, 6)
    assert operator_variants(CAPTION, 6) == found
    assert operator_variants(CAPTION, 3) == found[:3]
    assert [operator_variant(CAPTION, k) for k in range(6)] == found
    assert operator_variants(CAPTION + " A bench.", 6) != found


def test_short_captions_have_few_variants_that_come_round_again() -> None:
    assert operator_variants("A red roof.", 4) == ["red roof"]
    assert operator_variant("A red roof.", 3) == "red roof"
    assert operator_variants("A red roof.", 0) == []
    assert operator_variants("STOP sign on a pole", 1) == ["STOP sign on pole"]


@given(st.text(max_size=300), st.integers(1, 4))
def test_any_text_has_at_least_one_variant(text: str, count: int) -> None:
    found = operator_variants(text, count)
    assert 1 <= len(found) <= count
    assert found == operator_variants(text, count)


@pytest.mark.real
def test_real_captions_pass_the_guards(data_root: Path) -> None:
    captions = read(data_root / "geotext-mini/train.json").captions
    passed = total = 0
    for caption in captions[::5]:
        source = remove_orientation(caption.original)
        for text in operator_variants(caption.original, 3):
            assert content_stems(text) <= content_stems(source)
            assert not has_orientation(text)
            total += 1
            passed += check(text, source, "operator") is Verdict.ACCEPTED
    assert total > 400
    assert passed > 0.8 * total
