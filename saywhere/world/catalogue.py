"""What places are made of: every attribute's values, their colours and how people word them.

``caption`` wordings are an annotator's; ``query`` wordings are an operator's: shorter, plainer,
with synonyms of their own. A query wording never says where in the picture something is.
"""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Wording:
    """How one value is named. ``near`` replaces ``caption`` in a photo taken from the ground."""

    caption: tuple[str, ...]
    query: tuple[str, ...]
    near: tuple[str, ...] = ()


def _w(caption: str, query: str, near: str = "") -> Wording:
    """Wordings separated by bars."""
    return Wording(
        tuple(caption.split("|")), tuple(query.split("|")), tuple(near.split("|")) if near else ()
    )


SHAPES: dict[str, Wording] = {
    "slab": _w(
        "long straight building|bar-shaped building", "long straight block|long narrow building"
    ),
    "l": _w("L-shaped building|building bent into an L", "L-shaped block|L shape building"),
    "u": _w("U-shaped building|building bent into a U", "U-shaped block|U shape building"),
    "t": _w("T-shaped building|building laid out as a T", "T-shaped block|T shape building"),
    "h": _w("H-shaped building|building laid out as an H", "H-shaped block|H shape building"),
    "cross": _w(
        "cross-shaped building|building in the form of a plus",
        "cross-shaped block|plus shape building",
    ),
    "court": _w(
        "square courtyard building|building closed around a courtyard",
        "square block with inner courtyard|building round a courtyard",
    ),
    "comb": _w(
        "comb-shaped building with three wings|building with three parallel teeth",
        "comb-shaped block|building with three wings",
    ),
    "stepped": _w(
        "staggered building of three blocks|building stepped like a diagonal stair",
        "stepped block|three staggered blocks",
    ),
    "twin": _w(
        "pair of equal square blocks|pair of matching cubes",
        "twin square blocks|two matching blocks",
    ),
    "ring": _w(
        "ring-shaped building|circular building with a hole",
        "ring-shaped block|round building with a hole",
    ),
    "round": _w("round building|circular building", "round hall|round block"),
    "tower": _w("tall square tower|high-rise tower", "tall tower|high-rise"),
}

ROOF_COLOURS: dict[str, RGB] = {
    "red": (176, 48, 38),
    "orange": (222, 122, 56),
    "dark grey": (66, 68, 74),
    "light grey": (172, 174, 174),
    "white": (240, 240, 236),
    "blue": (52, 96, 172),
    "green": (92, 166, 132),
    "brown": (112, 74, 50),
    "yellow": (222, 190, 84),
}
ROOF_COLOUR_WORDS: dict[str, Wording] = {
    "red": _w("red|deep red", "red|dark red"),
    "orange": _w("orange|bright orange", "orange|terracotta"),
    "dark grey": _w("dark grey|dark slate-grey", "dark grey|charcoal"),
    "light grey": _w("light grey|pale grey", "light grey|silver"),
    "white": _w("white|bright white", "white|bright white"),
    "blue": _w("blue|strong blue", "blue|bright blue"),
    "green": _w("green|copper-green", "green|pale green"),
    "brown": _w("brown|dark brown", "brown|dark brown"),
    "yellow": _w("yellow|sandy yellow", "yellow|mustard"),
}
ROOF_TYPES: dict[str, Wording] = {
    "flat": _w("flat roof", "flat roof"),
    "gable": _w("pitched roof", "pitched roof|gabled roof"),
    "hip": _w("hipped roof", "hip roof|hipped roof"),
}
# A roof over a round plan has other names for the same three types.
ROUND_ROOFS: dict[str, Wording] = {
    "flat": ROOF_TYPES["flat"],
    "gable": _w("conical roof", "cone roof|pointed roof"),
    "hip": _w("domed roof", "dome|domed roof"),
}
ROOF_EXTRAS: dict[str, Wording] = {
    "none": _w("", ""),
    "solar": _w("carrying solar panels", "solar panels"),
    "vents": _w("dotted with pale vents", "vents"),
    "helipad": _w("marked with a helipad", "helipad"),
}

FACADE_COLOURS: dict[str, RGB] = {
    "brick": (158, 70, 54),
    "white": (234, 232, 226),
    "ochre": (226, 178, 84),
    "concrete": (148, 149, 150),
    "glass": (92, 146, 188),
    "timber": (124, 80, 46),
    "stone": (206, 184, 146),
    "pink": (230, 158, 156),
    "metal": (58, 62, 70),
    "green": (104, 146, 108),
}
FACADES: dict[str, Wording] = {
    "brick": _w("red brick", "red brick|brick"),
    "white": _w("white plaster", "white|white plaster"),
    "ochre": _w("ochre plaster", "ochre yellow|yellow plaster"),
    "concrete": _w("grey concrete", "grey concrete|concrete"),
    "glass": _w("blue glass", "blue glass|glass"),
    "timber": _w("brown timber", "brown timber|wooden"),
    "stone": _w("beige stone", "beige stone|sandstone"),
    "pink": _w("pink plaster", "pink|pink plaster"),
    "metal": _w("black metal", "black metal|dark metal"),
    "green": _w("green tiled", "green tiled|green tile"),
}
WINDOWS: dict[str, Wording] = {
    "square": _w("square windows", "square windows"),
    "tall": _w("tall narrow windows", "tall narrow windows"),
    "ribbon": _w("continuous ribbon windows", "ribbon windows"),
    "arched": _w("arched windows", "arched windows"),
}
ACCENT_COLOURS: dict[str, RGB] = {
    "red": (206, 34, 36),
    "blue": (32, 82, 196),
    "yellow": (246, 204, 32),
    "green": (28, 140, 66),
    "white": (246, 246, 246),
    "purple": (124, 50, 156),
}
ACCENTS: dict[str, Wording] = {
    "red": _w("red", "red"),
    "blue": _w("blue", "blue"),
    "yellow": _w("yellow", "yellow"),
    "green": _w("green", "green"),
    "white": _w("white", "white"),
    "purple": _w("purple", "purple"),
}

COVER_COLOURS: dict[str, RGB] = {
    "lawn": (96, 138, 66),
    "dry grass": (184, 170, 108),
    "paving": (198, 194, 188),
    "gravel": (160, 146, 130),
}
COVERS: dict[str, Wording] = {
    "lawn": _w("green lawn", "green grass"),
    "dry grass": _w("dry yellowish grass", "dry grass"),
    "paving": _w("pale paving", "pale paved plaza"),
    "gravel": _w("brownish gravel", "gravel ground"),
}
TREE_COLOURS: dict[str, RGB] = {
    "leafy": (62, 112, 46),
    "conifer": (26, 66, 48),
    "autumn": (206, 110, 34),
    "blossom": (238, 164, 192),
}
TREES: dict[str, Wording] = {
    "leafy": _w("leafy green trees", "green trees"),
    "conifer": _w("dark conifers", "dark conifers"),
    "autumn": _w("orange autumn trees", "orange trees"),
    "blossom": _w("pink blossoming trees", "pink blossom trees"),
}
TREE: dict[str, str] = {
    "leafy": "a leafy green tree",
    "conifer": "a dark conifer",
    "autumn": "an orange autumn tree",
    "blossom": "a pink blossoming tree",
}
TREE_ROWS = ("few", "lined", "none")
FRONT_TREES = ("left", "right", "both", "none")
SKIES: dict[str, Wording] = {
    "clear": _w("a clear blue sky", "clear sky"),
    "clouds": _w("a blue sky with white clouds", "white clouds"),
    "overcast": _w("an overcast grey sky", "grey sky"),
    "evening": _w("an orange evening sky", "orange evening sky"),
}

FEATURES: dict[str, Wording] = {
    "pond": _w("a blue pond", "pond|small pond", "a blue pond"),
    "parking": _w("a parking lot full of cars", "car park|parked cars", "a row of parked cars"),
    "fountain": _w("a round paved fountain", "fountain", "a round stone fountain"),
    "playground": _w("a sandy playground", "playground", "a playground slide on sand"),
    "statue": _w("a statue on a round plaza", "statue", "a dark statue on a stone pedestal"),
    "flowers": _w("colourful flower beds", "flower beds", "colourful flower beds"),
    "tennis": _w("a blue tennis court", "tennis court", "a blue tennis court with its net"),
    "basketball": _w(
        "a red basketball court", "basketball court", "a red court with basketball hoops"
    ),
    "pool": _w("a turquoise swimming pool", "swimming pool", "a turquoise swimming pool"),
    "bus": _w("a yellow bus at a stop", "bus at a stop", "a yellow bus beside a red shelter"),
    "hedges": _w("a clipped hedge garden", "clipped hedges", "low clipped hedges"),
    "wood": _w("a dense wood", "dense trees"),
    "orchard": _w("trees planted in rows", "orchard in rows"),
    "containers": _w("stacked coloured containers", "shipping containers"),
    "railway": _w("a railway with a train", "railway with a train"),
    "solar": _w("a field of solar panels", "solar field"),
    "tank": _w("round white storage tanks", "round storage tanks"),
    "track": _w("a red oval running track", "running track"),
    "pitch": _w("a striped football pitch", "football pitch"),
    "greenhouse": _w("a row of glass greenhouses", "greenhouses"),
    "plots": _w("striped vegetable plots", "vegetable plots"),
    "sand": _w("sandy building-site heaps", "sand heaps"),
}
# What a ground photo can look across: low, or narrow enough to leave the facade visible.
FRONT_FEATURES = (
    *("pond", "parking", "fountain", "playground", "statue", "flowers"),
    *("tennis", "basketball", "pool", "bus", "hedges"),
)
SIDE_FEATURES = (
    *("pond", "parking", "playground", "tennis", "basketball", "pool", "wood", "orchard"),
    *("containers", "railway", "solar", "tank", "track", "pitch", "greenhouse", "plots", "sand"),
)
NOTHING = "none"
