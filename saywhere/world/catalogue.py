"""What places are made of: every attribute's values, their colours and how people word them.

``caption`` wordings are an annotator's; ``query`` wordings are an operator's and share few words
with them. A query wording never says where in the picture something is.
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
    "slab": _w("long straight building|bar-shaped building", "single long block|elongated hall"),
    "l": _w(
        "L-shaped building|building bent into an L", "elbow-shaped block|two-wing angled house"
    ),
    "u": _w(
        "U-shaped building|building bent into a U", "horseshoe-like block|three-wing open house"
    ),
    "t": _w("T-shaped building|building laid out as a T", "block with one stem wing|T plan hall"),
    "h": _w(
        "H-shaped building|building laid out as an H", "two bars joined by a link|H plan house"
    ),
    "cross": _w(
        "cross-shaped building|building in the form of a plus", "four-armed block|cross plan"
    ),
    "court": _w(
        "square courtyard building|building closed around a courtyard",
        "hollow square block|four-winged quadrangle",
    ),
    "comb": _w(
        "comb-shaped building with three wings|building with three parallel teeth",
        "E plan block|hall with three finger wings",
    ),
    "stepped": _w(
        "staggered building of three blocks|building stepped like a diagonal stair",
        "three offset cubes|zigzag cluster of blocks",
    ),
    "twin": _w("pair of equal square blocks|pair of matching cubes", "twin blocks|double house"),
    "ring": _w(
        "ring-shaped building|circular building with a hole", "doughnut-like block|annular hall"
    ),
    "round": _w("round building|circular building", "drum-like hall|cylinder-shaped house"),
    "tower": _w("tall square tower|high-rise tower", "skyscraper|lofty point block"),
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
    "red": _w("red|deep red", "crimson|brick-red"),
    "orange": _w("orange|bright orange", "terracotta|amber"),
    "dark grey": _w("dark grey|dark slate-grey", "charcoal|blackish"),
    "light grey": _w("light grey|pale grey", "silvery|ash-coloured"),
    "white": _w("white|bright white", "snow-white|whitish"),
    "blue": _w("blue|strong blue", "azure|cobalt"),
    "green": _w("green|copper-green", "verdigris|jade"),
    "brown": _w("brown|dark brown", "chocolate|umber"),
    "yellow": _w("yellow|sandy yellow", "mustard|straw-coloured"),
}
ROOF_TYPES: dict[str, Wording] = {
    "flat": _w("flat roof", "level roof|flat deck"),
    "gable": _w("pitched roof", "sloping ridge roof|saddle roof"),
    "hip": _w("hipped roof", "four-sided roof|hip roof"),
}
# A roof over a round plan has other names for the same three types.
ROUND_ROOFS: dict[str, Wording] = {
    "flat": ROOF_TYPES["flat"],
    "gable": _w("conical roof", "cone roof|pointed cap"),
    "hip": _w("domed roof", "dome|cupola"),
}
ROOF_EXTRAS: dict[str, Wording] = {
    "none": _w("", ""),
    "solar": _w("carrying solar panels", "photovoltaics"),
    "vents": _w("dotted with pale vents", "air units"),
    "helipad": _w("marked with a helipad", "landing pad"),
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
    "brick": _w("red brick", "brickwork|clinker"),
    "white": _w("white plaster", "whitewashed|chalk-white"),
    "ochre": _w("ochre plaster", "golden stucco|sunny yellow"),
    "concrete": _w("grey concrete", "raw cement|cement panels"),
    "glass": _w("blue glass", "mirrored glazing|curtain-wall glazing"),
    "timber": _w("brown timber", "wood-clad|wooden planks"),
    "stone": _w("beige stone", "limestone|sandy ashlar"),
    "pink": _w("pink plaster", "rose stucco|salmon-coloured"),
    "metal": _w("black metal", "dark steel panels|anthracite cladding"),
    "green": _w("green tiled", "sage ceramic|olive tiles"),
}
WINDOWS: dict[str, Wording] = {
    "square": _w("square windows", "boxy windows"),
    "tall": _w("tall narrow windows", "slit windows"),
    "ribbon": _w("continuous ribbon windows", "strip glazing"),
    "arched": _w("arched windows", "round-headed windows"),
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
    "red": _w("red", "scarlet"),
    "blue": _w("blue", "navy"),
    "yellow": _w("yellow", "lemon"),
    "green": _w("green", "emerald"),
    "white": _w("white", "ivory"),
    "purple": _w("purple", "violet"),
}

COVER_COLOURS: dict[str, RGB] = {
    "lawn": (96, 138, 66),
    "dry grass": (184, 170, 108),
    "paving": (198, 194, 188),
    "gravel": (160, 146, 130),
}
COVERS: dict[str, Wording] = {
    "lawn": _w("green lawn", "grassy plot"),
    "dry grass": _w("dry yellowish grass", "parched meadow"),
    "paving": _w("pale paving", "slab plaza"),
    "gravel": _w("brownish gravel", "pebble lot"),
}
TREE_COLOURS: dict[str, RGB] = {
    "leafy": (62, 112, 46),
    "conifer": (26, 66, 48),
    "autumn": (206, 110, 34),
    "blossom": (238, 164, 192),
}
TREES: dict[str, Wording] = {
    "leafy": _w("leafy green trees", "broadleaf greenery"),
    "conifer": _w("dark conifers", "firs"),
    "autumn": _w("orange autumn trees", "russet foliage"),
    "blossom": _w("pink blossoming trees", "cherry bloom"),
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
    "clear": _w("a clear blue sky", "cloudless day"),
    "clouds": _w("a blue sky with white clouds", "fluffy clouds"),
    "overcast": _w("an overcast grey sky", "dull weather"),
    "evening": _w("an orange evening sky", "dusk light"),
}

FEATURES: dict[str, Wording] = {
    "pond": _w("a blue pond", "water basin|small lake", "a blue pond"),
    "parking": _w("a parking lot full of cars", "parked vehicles|car park", "a row of parked cars"),
    "fountain": _w("a round paved fountain", "water jet basin", "a round stone fountain"),
    "playground": _w("a sandy playground", "kids play area", "a playground slide on sand"),
    "statue": _w("a statue on a round plaza", "monument", "a dark statue on a stone pedestal"),
    "flowers": _w("colourful flower beds", "blooming borders", "colourful flower beds"),
    "tennis": _w("a blue tennis court", "racket sports ground", "a blue tennis court with its net"),
    "basketball": _w("a red basketball court", "hoops", "a red court with basketball hoops"),
    "pool": _w("a turquoise swimming pool", "bathing pool", "a turquoise swimming pool"),
    "bus": _w("a yellow bus at a stop", "coach shelter", "a yellow bus beside a red shelter"),
    "hedges": _w("a clipped hedge garden", "box shrub parterre", "low clipped hedges"),
    "wood": _w("a dense wood", "thick forest"),
    "orchard": _w("trees planted in rows", "grove in a grid"),
    "containers": _w("stacked coloured containers", "freight boxes"),
    "railway": _w("a railway with a train", "rail tracks"),
    "solar": _w("a field of solar panels", "photovoltaic farm"),
    "tank": _w("round white storage tanks", "cylinder silos"),
    "track": _w("a red oval running track", "athletics ring"),
    "pitch": _w("a striped football pitch", "soccer ground"),
    "greenhouse": _w("a row of glass greenhouses", "glazed plant houses"),
    "plots": _w("striped vegetable plots", "allotment crops"),
    "sand": _w("sandy building-site heaps", "earthwork mounds"),
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
