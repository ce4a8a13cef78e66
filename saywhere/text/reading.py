"""What is read as a position in the image, in the order the rules apply.

Relations to another object ("left of the lawn") keep a relation without an axis ("beside the
lawn"), sides used as nouns become "one side", and every other phrase that places something in the
image becomes one of three marks, which :mod:`saywhere.text.writing` resolves.

Names in braces are the word lists of :mod:`saywhere.text.patterns`. Each rule carries an example
of what all rules together make of a sentence; the tests run them.
"""

from __future__ import annotations

from saywhere.text.patterns import ARTICLE_MARK, CENTRE_MARK, PATH_MARK, PLACE_MARK, Rule, rule

READING: tuple[Rule, ...] = (
    rule(
        r"\b(?:{any}|{centre})(?:[- ]{any})? (?=(?:fore|back)ground\b)",
        ARTICLE_MARK,
        "A car stands in the left foreground. => A car stands in the foreground.",
    ),
    rule(
        r"\b(?:aligned )?from (?:the )?(?:{any} {part}|{side}|{centre})(?: of {image})?"
        r" (?:to|towards?|into) (?:the )?(?:{any} {part}|{side}|{centre})(?: of {image})?{end}",
        PATH_MARK,
        "A lane runs diagonally from lower left to upper right. => A lane runs diagonally past.",
    ),
    rule(
        r"\b(?:left to right|right to left|top to bottom|bottom to top){stop}",
        PATH_MARK,
        "A river runs top to bottom. => A river runs past.",
    ),
    rule(
        r"\b(?:between|from|of|towards?|to|on|along) (?:both )?the (?:{side}|{centre}) and the"
        r" (?:{side}|{centre})(?: {part})?{end}",
        PLACE_MARK,
        "A path between the center and the left edge is pale. => A path is pale.",
    ),
    rule(
        r"\b(?:(?:(?:on|at|to|in|toward) the )?{loose}(?:{flank}) of|off|nearest(?: to)?)[- ]"
        r"(?:the )?(?:very )?{centre}{alone}",
        CENTRE_MARK,
        "A tower stands right of the center, among trees. => A tower stands, among trees.",
    ),
    rule(
        r"\b(?:to the |on the )?{compass}(?: side)? of (?!{image})(?=[a-z])",
        "near ",
        "A pond lies just north of the hall. => A pond lies near the hall.",
    ),
    rule(
        r"\b(?:on|to|at|in|along) (?:both )?(?:the )?{flank} and (?:the )?{flank}(?: sides?)?"
        r" of (?!{image})",
        "on two sides of ",
        "Wings lie to the left and right of the porch. => Wings lie on two sides of the porch.",
    ),
    rule(
        r"\bthe {side} and (?:the )?{side} of (?!{image})",
        "two sides of ",
        "Houses line the top and bottom of the yard. => Houses line two sides of the yard.",
    ),
    rule(
        r"\b(?<! on )(?<! to )(?<! at )the {loose}{flank} ({part}) of (?!{image})",
        r"one \1 of ",
        "Cars line the left side of the road. => Cars line one side of the road.",
    ),
    rule(
        r"\b(?<! on )(?<! to )(?<! at )the {loose}{flank}(?:(?: {part})? and (?:the )?{side})? of"
        r" (?!{image})",
        "one side of ",
        "Ivy covers the left of the wall. => Ivy covers one side of the wall.",
    ),
    rule(
        r"\b(?<!hat is )(?<!hat's )(?:(?:on|to|at) (?:the|its) )?{loose}{flank}"
        r"(?: (?:hand )?side)? of (?!{image})(?=(?:the|a|an|it|its|them|this|that|these|another|two"
        r"|three|some|several)\b)",
        "beside ",
        "A shed stands to the left of the barn. => A shed stands beside the barn.",
    ),
    rule(
        r"\b(?:on|to|at|along|down|up|by|near|past|towards?|beyond) its {loose}{flank}"
        r"(?:(?:,| and| or) (?:{side}|front|back)){0,2}(?: (?:hand )?(?:side|flank)s?)?"
        r"(?:{end}|(?! {thing}s?\b)(?= [a-z]{3,16}s\b))",
        "beside it",
        "A lawn lies to its left. => A lawn lies beside it.",
    ),
    rule(
        r"\b(?:on|to|at|along|down|up|by|near|past|towards?|beyond) their {loose}{flank}"
        r"(?:(?:,| and| or) (?:{side}|front|back)){0,2}(?: (?:hand )?(?:side|flank)s?)?"
        r"(?:{end}|(?! {thing}s?\b)(?= [a-z]{3,16}s\b))",
        "beside them",
        "A lawn lies on their right side. => A lawn lies beside them.",
    ),
    rule(
        r"\b(?:both )?(?:its|their|the) {any},? and {any} (?={thing}s\b)",
        "two ",
        "White strips run along its top and bottom edges. => White strips run along two edges.",
    ),
    rule(
        r"\bthe {flank} one\b",
        "one",
        "Two towers rise, the left one taller. => Two towers rise, one taller.",
    ),
    rule(
        r"\b(?:its|their) {any} (edge|side|corner|rim|border|end)\b",
        r"one \1",
        "A strip lies along its southern edge. => A strip lies along one edge.",
    ),
    rule(
        r"\b(?:its|their) {any} (?=(?:edges|sides|corners|ends)\b)",
        "two ",
        "It has turrets at its upper corners. => It has turrets at two corners.",
    ),
    rule(
        r"\b(?:its|their) {flank}"
        r" (wing|wall|end|half|part|portion|section|tower|gable|flank|bay|window|slope|tip|arm)\b",
        r"one \1",
        "A porch is built against its left wall. => A porch is built against one wall.",
    ),
    rule(
        r"\b(?:its|their) (?:{flank}|{any} {centre}){end}",
        "one side",
        "A hedge closes its right. => A hedge closes one side.",
    ),
    rule(
        r"\bfacing (?:towards? |to )?(?:the )?{flank}{stop}",
        "facing outward",
        "Its entrance, facing southeast, is plain. => Its entrance, facing outward, is plain.",
    ),
    rule(
        r"\bfacing (?:towards? |to )?(?:the )?{flank}(?! {thing}s?\b)(?: side)?"
        r"(?= [a-z]|[,.;:!?)]|$)",
        "",
        "A hall with a porch facing north stands there. => A hall with a porch stands there.",
    ),
    rule(
        r"\b(faces?|looks?) (?:towards? |to )?(?:the )?{flank}{stop}",
        r"\1 outward",
        "The porch faces north. => The porch faces outward.",
    ),
    rule(
        r"\b(?:north(?:-| to |-to-)south|south-north|east(?:-| to |-to-)west|west-east) (?=[a-z])",
        ARTICLE_MARK,
        "An east-west street passes. => A street passes.",
    ),
    rule(
        r"\b{compass}-facing ",
        ARTICLE_MARK,
        "It has a south-facing terrace. => It has a terrace.",
    ),
    rule(
        r"\b(?:along|down|up|across|over|through|throughout|around|past|under) {much}the "
        r"(?:{position}|{centre}{alone})",
        PATH_MARK,
        "Narrow streets cross down the left and over most of the top. => Narrow streets cross.",
    ),
    rule(
        r"\b(?:in|on|at|to|towards?|near|by|from|beyond|off|into|outside|close to|next to)"
        r" {much}(?:both )?the {position}",
        PLACE_MARK,
        "Trees grow at the lower left corner by a pond. => Trees grow by a pond.",
    ),
    rule(
        r"\b(?:at|in|near|towards?|around|about|close to|by|on|from|above|below|beneath|to"
        r"|into|across) (?:the |dead )?{centre}{alone}",
        CENTRE_MARK,
        "A hut stands in the middle of the picture beside a lake. => A hut stands beside a lake.",
    ),
    rule(
        r"([,;:]| while| and) (?:in|on|at|to) the {flank}(?=(?! {thing}s?\b| bank| track| way| time"
        r"| moment| angle| foot| hand| of | \w+ of )(?: [a-z]))",
        rf"\1 {PLACE_MARK}",
        "On the left tall trees stand. => Tall trees stand.",
    ),
    rule(
        r"\b(?:in|on|at|to|towards?) (?:{flank}|far (?:left|right)|(?<=at )(?:top|bottom))"
        r"(?:(?:, {side}){0,2},? and {side})?(?: {part})?(?: of {image})?(?! of ){end}",
        PLACE_MARK,
        "Red house with a lawn at left. => Red house with a lawn.",
    ),
    rule(
        r"\b({move}|{reach}|{jut}|stands?|lies?|lying|sits?|turns?|turning)"
        r"((?: diagonally| far| off| farther| further| away| straight)?) {flank}{stop}",
        rf"\1\2 {PLACE_MARK}",
        "A wing extends left. => A wing extends away.",
    ),
    rule(
        r"\b(?:{compass}|left|right)wards?{end}",
        PLACE_MARK,
        "It casts a wide shadow westward. => It casts a wide shadow.",
    ),
    rule(
        r"\b({hold}) {much}the (?:{side} and (?:the )?{centre}|{centre},? and (?:the )?{side})"
        r"(?! of )(?: of {image})?{end}",
        r"\1 the scene",
        "Dense blocks fill the left and center. => Dense blocks fill the scene.",
    ),
    rule(
        r"\b({hold}) {much}(?:both )?the {pair}",
        r"\1 two sides",
        "Trees frame the left and the top. => Trees frame two sides.",
    ),
    rule(
        r"\b({hold}) {much}the {position}(?:,? and (?:the )?{side}(?: {part})?{end})?",
        r"\1 one side",
        "Large roofs fill the bottom. => Large roofs fill one side.",
    ),
    rule(
        r"\b({hold}) {much}the {loose}{centre}{alone}",
        r"\1 the scene",
        "A hall occupies the center. => A hall occupies the scene.",
    ),
    rule(
        r"\bthe (?:{any} {part}|{side}) of {image}\b",
        "one side",
        "The lower part of the image is water. => One side is water.",
    ),
    rule(
        r"\b(?:both )?the (?:{flank}(?: {part})? and (?:the )?{flank}|{any} and {any} {part})"
        r"(?: {part})?(?: of {image})?(?! of ){end}",
        "two sides",
        "The left and right are filled with trees. => Two sides are filled with trees.",
    ),
    rule(
        r"\bthe {flank} (part|half|portion|end|wing|wall|section)\b",
        r"one \1",
        "The southern part is packed with roofs. => One part is packed with roofs.",
    ),
    rule(
        r"\bthe {loose}(?:{flank}(?: {part})?|(?:top|bottom) {part})(?: of {image})?(?! of ){end}",
        "one side",
        "The upper right is filled with trees. => One side is filled with trees.",
    ),
    rule(
        r"\bthe {centre}(?= (?:is|holds?|shows?|has|contains?|features?)\b)",
        "the scene",
        "The center is occupied by a garage. => The scene is occupied by a garage.",
    ),
    rule(
        r"\bthe (upper|lower) (half|third|quarter)\b(?! of )",
        r"one \2",
        "The lower half is a sea of roofs. => One half is a sea of roofs.",
    ),
    rule(
        r"\b(?:left|right)-hand (?!drive)(?=[a-z])",
        ARTICLE_MARK,
        "An ivy-clad right-hand porch shelters the door. => An ivy-clad porch shelters the door.",
    ),
    rule(
        r"\b(?:{flank}|(?:top|bottom)(?= (?:street|road|path)\b)) "
        r"(?=(?:{thing}s?|one|street|road|path)\b)",
        ARTICLE_MARK,
        "A white left wing adjoins. => A white wing adjoins.",
    ),
    rule(
        r"\b{compass}ern(?:most)? (?=[a-z])",
        ARTICLE_MARK,
        "An L-shaped northern range has red roofs. => An L-shaped range has red roofs.",
    ),
    rule(
        r"\bthe central one\b",
        "one",
        "Two villas gleam, the central one with a pool. => Two villas gleam, one with a pool.",
    ),
    rule(
        r"\bthe central (?=(?:[\w-]+ ){0,2}(?:building|block|house|structure|complex)\b)",
        "the ",
        "The central building is a barn. => The building is a barn.",
    ),
)
