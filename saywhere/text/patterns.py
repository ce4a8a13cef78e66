"""What the rules of orientation-word removal are written in: marks, word lists, the rule itself.

Every repeat is bounded and no alternative can match the same text twice over, so a rule costs time
linear in the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

PLACE_MARK = "\ue001"  # at a side of the image: "on the left"
CENTRE_MARK = "\ue002"  # in the middle of it: "in the center"
PATH_MARK = "\ue003"  # along a side, or through: "down the left", "from top to bottom"
ARTICLE_MARK = "\ue004"  # a word was taken out here: "an" may have to become "a"
MARKS = ARTICLE_MARK + PLACE_MARK + CENTRE_MARK + PATH_MARK

_COMPASS = r"(?:(?:north|south)(?:[- ]?(?:east|west))?|east|west)"
_CENTRE = r"(?:cent(?:er|re)|middle)"
_SIDEWAYS = rf"(?:(?:left|right)(?:-hand|-?most)?|{_COMPASS}(?:ern(?:most)?)?)"
_UPDOWN = r"(?:(?:top|bottom|upper|lower)(?:-?most)?)"
_LOOSE = r"(?:very|far|near|extreme|whole|entire|immediate|outer) "

# What a word list can say at once; {names} in the rules below are replaced from here.
FRAGMENTS: dict[str, str] = {
    # One direction that is a position on its own: left, upper right, top, top center, northwest.
    "side": (
        rf"(?:(?:{_UPDOWN}|{_CENTRE})[- ]{_SIDEWAYS}(?:[- ]{_CENTRE})?"
        rf"|(?:upper|lower)[- ]{_CENTRE}"
        rf"|{_SIDEWAYS}(?:[- ](?:{_CENTRE}|top|bottom|upper|lower))?"
        rf"|{_CENTRE}[- ](?:top|bottom)"
        rf"|(?:top|bottom)(?:-?most)?(?:[- ]{_CENTRE})?)"
    ),
    # The same without a bare top or bottom, which may be the top of a thing.
    "flank": (
        rf"(?:{_UPDOWN}[- ]{_SIDEWAYS}|{_CENTRE}[- ](?:left|right)"
        rf"|{_SIDEWAYS}(?:[- ](?:{_CENTRE}|top|bottom|upper|lower))?)"
    ),
    # One that needs a noun behind it: the upper edge, the lower half.
    "any": rf"(?:(?:{_UPDOWN}|{_CENTRE})[- ]{_SIDEWAYS}|{_UPDOWN}(?:[- ]{_CENTRE})?|{_SIDEWAYS})",
    "compass": _COMPASS,
    "centre": rf"(?:very |exact )?{_CENTRE}",
    "loose": rf"(?:{_LOOSE})?",
    "much": r"(?:(?:most|much|all|part|parts|some) of )?",
    "part": r"(?:(?:hand )?(?:corner|edge|side|half|part|portion|quarter|third|margin|border"
    r"|quadrant|section|area|end|flank|rim)s?|halves)",
    "image": r"(?:the|this|our) (?:whole |entire )?(?:image|picture|photo(?:graph)?|frame|scene"
    r"|view|tile|shot|crop)",
    # Parts of a building that left, right and the compass may describe.
    "thing": r"(?:wall|wing|end|gable|tower|section|block|building|bay|window|entrance|door|lane"
    r"|row|roof|slope|arm|leg|house|hall|front|facade|façade|face|tip|bank|court|courtyard"
    r"|annex|annexe|pavilion|terrace|lawn|lot|range|unit|deck|side|edge|corner|half|part|portion"
    r"|flank|structure|complex|pier|column|turret|chimney|dormer|tree|sideline)",
    "just": r"(?:just|slightly|farther|further|far|directly|immediately|mainly|mostly|partly|well"
    r"|a little|somewhat)",
    "stay": r"(?:is|are|was|were|be|being|lies?|lay|lying|sits?|sat|sitting|stands?|stood|standing"
    r"|remains?|located|situated|positioned|placed|nestles?|rests?|grows?|clusters?)",
    "inverted": r"(?:is|are|was|were|can be seen|stands?|stood|lies?|lay|sits?|rises?|rose|runs?"
    r"|appears?|grows?|spreads?|extends?|stretch(?:es)?|follows?|comes?|hangs?|towers?|looms?"
    r"|opens?|begins?)",
    "move": r"(?:runs?|running|ran|winds?|winding|curves?|curving|sweeps?|sweeping|bends?|bending"
    r"|snakes?|snaking|curls?|curling|arcs?|arcing|loops?|looping|swings?|swinging|flows?|flowing"
    r"|goes|go|going|cuts?|cutting)",
    "reach": r"(?:extend(?:s|ed|ing)?|stretch(?:es|ed|ing)?|leads?|leading|continu(?:es?|ing)"
    r"|reach(?:es|ing)?|sloping|recedes?|receding|heads?|heading)",
    "jut": r"(?:juts?|jutting|projects?|projecting|spreads?|spreading|sticks?|sticking"
    r"|pokes?|poking|opens?|opening)",
    "hold": r"(?:fill|cover|occup|dominat|lin|edg|border|fram|clos|crowd|hold|form|flank|fring|hug"
    r"|mark|bound|enclos|ring|skirt|screen|shad|hid|pack|cross|span|cut|travers|follow|surround"
    r"|overhang|overlook|trac|take|tak|mak|make|hem|dot|overgrow|clutter|bracket|wrap|outlin"
    r"|underlin|leav|defin|anchor)(?:y|ies|ying|e|es|s|ing)?(?: (?:off|up|in|out))?",
}
# What may follow a position: otherwise "left" describes the next noun ("the left wall").
FRAGMENTS["end"] = (
    r"(?= ?(?:[,.;:!?)\ue001-\ue003]|$|–|—)| (?:and|or|but|while|whereas|as|where|which|that|who"
    r"|so|plus|with|without|in|on|at|to|by|beside|besides|behind|before|beneath|below|above|beyond"
    r"|under|underneath|over|near|next|along|alongside|across|against|among|amid|around|from"
    r"|between|into|onto|through|toward|towards|opposite|off|past|up|down|inside|outside|after"
    r"|(?!building)\w{2,16}ing|(?!red\b)\w{1,16}ed|set|seen|built|has|have|can|meets?|climbs?"
    r"|encloses?|leads?|passes|pass|holds?|faces?|forms?|carries|shows?|looks?|surrounds?"
    r"|{inverted}|a|an|the|its|their|another|other|one|two|three|four|five|several|some|many|more"
    r"|few|both|rows|whose|almost|nearly|belongs?|consists?|combines?"
    r"|fills|covers|occupies|dominates|lines|closes|crosses|spans|follows|hides|borders|overlooks|this|these|there|it|you|only|just|partly|also|slightly|diagonally)\b)"
)
_ITEM = "(?:{side}|{centre})"
_LIST = (
    rf"{_ITEM}(?:(?:(?:, (?:the )?{_ITEM}){{1,2}},?)? (?:and|or) (?:the |at the |on the )?{_ITEM}"
    rf"(?: and (?:the )?{_ITEM})?)"
)
_PARTS = r"{any}(?:(?:(?:, (?:the )?{any}){1,2},?)?(?: {part})? (?:and|or) (?:the )?{any})"
# The center is a position unless it names a thing: the center line, the middle of the lawn.
FRAGMENTS["alone"] = (
    r"(?: of {image})?\b(?![-'’\w]| of )(?! (?:lane|line|strip|aisle|stage|field|circle|island"
    r"|median|school|age|ages|distance|ground|floor|storey|story|class|panel|piece|one|ridge|span|arch"
    r"|third|{thing}|left|right)s?\b)"
)
FRAGMENTS["stop"] = r"(?= ?(?:[,.;:!?)]|$|–|—)| (?:and|or|but|while|whereas|with|where)\b)"
FRAGMENTS["position"] = (
    rf"(?:{{loose}}(?:(?:{_PARTS}|{{any}}) {{part}}|(?:{_LIST}|{{side}})(?! {{thing}}s?\b))"
    r"(?: of {image})?(?! of ){end}|(?:(?:upper|lower|top|bottom)[- ](?:left|right)"
    r"|{any} (?:hand )?(?:corner|edge|side|half|third|quarter)s?)\b(?!-| of )(?! {thing}s?\b))"
)
FRAGMENTS["pair"] = rf"{{loose}}(?:{_PARTS} {{part}}|{_LIST})(?: of {{image}})?(?! of ){{end}}"


_NAME = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True)
class Rule:
    """One replacement; the tests check that all rules together turn ``before`` into ``after``."""

    pattern: re.Pattern[str]
    replacement: str
    before: str
    after: str


def rule(template: str, replacement: str, example: str) -> Rule:
    """Compiles a template after replacing {names} of ``FRAGMENTS``, which may hold names too.

    Args:
        template: a regular expression; a leading word boundary is read as a space.
        replacement: what ``re.sub`` puts instead.
        example: "a sentence => what all rules together make of it".
    """
    while (expanded := _NAME.sub(lambda m: FRAGMENTS[m.group(1)], template)) != template:
        template = expanded
    if template.startswith(r"\b"):
        # With a literal first character the engine skips from word to word: five times as fast.
        template, replacement = " " + template.removeprefix(r"\b"), " " + replacement
    before, _, after = example.partition(" => ")
    return Rule(re.compile(template), replacement, before, after)
