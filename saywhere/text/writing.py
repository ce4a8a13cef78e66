"""What is written where a position was read: nothing, or the least that keeps the sentence whole.

A mark may leave a verb without its complement ("a lawn lies"), a clause without its order ("at the
left stands a tower") or a list without its members. The rules look at what stands around it, the
last one drops what is left.
"""

from __future__ import annotations

from saywhere.text.patterns import CENTRE_MARK, PATH_MARK, PLACE_MARK, Rule, rule

_ANY = f"[{PLACE_MARK}{CENTRE_MARK}{PATH_MARK}]"
_SIDE = f"[{PLACE_MARK}{PATH_MARK}]"

WRITING: tuple[Rule, ...] = (
    rule(
        rf"\b{{just}} (?=beside |near |{_ANY})",
        "",
        "A shed lies just to its left. => A shed lies beside it.",
    ),
    rule(
        rf"({_ANY})(?:,?(?: and| or| but)?,? ?{_ANY}){{1,4}}",
        r"\1",
        "A lawn lies to the left and at the bottom by a road. => A lawn lies by a road.",
    ),
    rule(
        rf"([,;:] (?:and |but |while |whereas )?| (?:and|while|whereas|but|where) ){_ANY}"
        r"(?= {inverted}\b)",
        r"\1there",
        "In the middle is a red barn. => There is a red barn.",
    ),
    rule(
        rf", {_ANY}, (?=(?:{{inverted}}|has|have|had)\b)",
        " ",
        "The tower, at the upper left, is tall. => The tower is tall.",
    ),
    rule(
        rf",? (?:and|or) {_ANY}(?=[.;!?]|$|,(?! (?:a|an|the|its|two|three|some|several)\b))",
        "",
        "Firs rise behind and on the left, and a bus halts. => Firs rise behind, and a bus halts.",
    ),
    rule(
        rf"([,;:] | (?:and|while|whereas|but|where),? ){_ANY},? ",
        r"\1",
        "On the left a quadrangle encloses two courts. => A quadrangle encloses two courts.",
    ),
    rule(
        rf"\b({{move}}(?: diagonally| straight| gently)?) {_SIDE}{{stop}}",
        r"\1 past",
        "A wide street runs down the left. => A wide street runs past.",
    ),
    rule(
        rf"\b(pass(?:es|ed|ing)?) {_SIDE}{{stop}}",
        r"\1 by",
        "A road passes along the bottom. => A road passes by.",
    ),
    rule(
        rf"\b({{reach}}) {_ANY}{{stop}}",
        r"\1 away",
        "A lower wing extends to the left, with shrubs. => A lower wing extends away, with shrubs.",
    ),
    rule(
        rf"\b({{jut}}) {_ANY}{{stop}}",
        r"\1 out",
        "A wing juts to the right. => A wing juts out.",
    ),
    rule(
        rf"\b({{stay}}(?: also| then| still| just)?) {_SIDE}{{stop}}",
        r"\1 nearby",
        "A low white annex is on the upper left. => A low white annex is nearby.",
    ),
    rule(
        rf"\b((?:is|are|was|were|lies?|lay|lying|sits?|sat|sitting"
        rf"|placed|located|situated|positioned)(?: also)?) {CENTRE_MARK}{{stop}}",
        r"\1 in view",
        "A park lies in the center, with a monument. => A park lies in view, with a monument.",
    ),
    rule(
        rf"\b(stands?) {CENTRE_MARK}(?=[.;!?]|$)",
        r"\1 in view",
        "A tower stands in the center. => A tower stands in view.",
    ),
    rule(
        rf"{_ANY}",
        "",
        "A tower stands in the center, with a lawn. => A tower stands, with a lawn.",
    ),
)
