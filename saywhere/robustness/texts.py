"""What people do to words: mistype them, leave some out, use others, spell them otherwise.

Drawn from the text's own hash: the same query is corrupted the same way in every run. A higher
severity touches more words, and every text that can be touched is touched.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping

from saywhere.errors import InputError

# Share of words, by severity 1 to 5.
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4)
_SHORTEST = 4  # letters; nobody mistypes "by" beyond recognition
_WORD = re.compile(r"[^\W\d_]+")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# Each pair both ways. Whole words; the longest first, so that a pair is found before its parts.
_SYNONYMS: tuple[tuple[str, str], ...] = (
    ("car park", "parking lot"), ("multi-storey car park", "parking garage"),
    ("apartment block", "block of flats"), ("apartment building", "residential block"),
    ("football pitch", "soccer field"), ("running track", "athletics track"),
    ("swimming pool", "pool of water"), ("high-rise", "tower block"), ("pavement", "sidewalk"),
    ("lorry", "truck"), ("pickup", "utility truck"), ("crossroads", "intersection"),
    ("roundabout", "traffic circle"), ("motorway", "highway"), ("railway", "railroad"),
    ("zebra crossing", "crosswalk"), ("shop", "store"), ("terraced houses", "row houses"),
    ("garden", "yard"), ("lawn", "grass"), ("woods", "trees"), ("forest", "woodland"),
    ("street", "road"), ("path", "walkway"), ("big", "large"), ("small", "little"),
    ("tall", "high"), ("building", "structure"), ("house", "home"), ("pond", "small lake"),
    ("car", "vehicle"), ("bush", "shrub"), ("fence", "railing"), ("entrance", "doorway"),
    ("courtyard", "inner yard"), ("hall", "large building"), ("tan", "beige"),
)  # fmt: skip
# British, American.
_SPELLINGS: tuple[tuple[str, str], ...] = (
    ("grey", "gray"), ("greyish", "grayish"), ("colour", "color"), ("coloured", "colored"),
    ("colours", "colors"), ("centre", "center"), ("centres", "centers"), ("storey", "story"),
    ("storeyed", "storied"), ("storeys", "stories"), ("metre", "meter"), ("metres", "meters"),
    ("theatre", "theater"), ("kerb", "curb"), ("tyre", "tire"), ("tyres", "tires"),
    ("neighbouring", "neighboring"), ("neighbour", "neighbor"), ("harbour", "harbor"),
    ("aluminium", "aluminum"), ("panelled", "paneled"), ("panelling", "paneling"),
    ("sceptre", "scepter"), ("plough", "plow"), ("mould", "mold"), ("grilles", "grills"),
    ("cheque", "check"), ("programme", "program"), ("parlour", "parlor"), ("jewellery", "jewelry"),
    ("car park", "parking lot"), ("car parks", "parking lots"), ("flats", "apartments"),
    ("pavement", "sidewalk"), ("lorry", "truck"), ("lorries", "trucks"), ("motorway", "freeway"),
    ("railway", "railroad"), ("football", "soccer"), ("lift", "elevator"), ("petrol", "gas"),
    ("terraced", "row"), ("garden", "yard"), ("autumn", "fall"), ("shop", "store"),
    ("shops", "stores"), ("caravan", "trailer"), ("bonnet", "hood"), ("tap", "faucet"),
)  # fmt: skip
# Those whose strength grows with the severity; the others replace whatever they know.
GRADED = ("typos", "dropped_words")
WORDINGS = ("synonyms", "british", "american")
NAMES = (*GRADED, *WORDINGS)


def corrupt_text(text: str, name: str, severity: int) -> str:
    """One corrupted copy; unchanged where nothing in it can be.

    Args:
        name: one of ``NAMES``.
        severity: 1 to 5; nothing to synonyms and spellings, which replace all that they know.

    Raises:
        InputError: no such corruption or severity.
    """
    if name not in NAMES or severity not in range(1, len(_SHARES) + 1):
        raise InputError(
            f"{name} at severity {severity}: is no corruption of words; choose from "
            f"{', '.join(NAMES)}, at 1 to 5"
        )
    if name in WORDINGS:
        return _replaced(text, _TABLES[name])
    digest = hashlib.sha256(f"{name}:{text}".encode()).digest()[:8]
    draw = random.Random(int.from_bytes(digest, "little"))
    return _GRADED[name](text, _SHARES[severity - 1], draw)


def _typos(text: str, share: float, draw: random.Random) -> str:
    words = list(_WORD.finditer(text))
    long = [word for word in words if len(word[0]) >= _SHORTEST]
    draw.shuffle(long)
    touched = {word.start() for word in long[: math.ceil(share * len(words))]}
    return _WORD.sub(
        lambda word: _mistyped(word[0], draw) if word.start() in touched else word[0], text
    )


def _mistyped(word: str, draw: random.Random) -> str:
    """Two letters exchanged, one left out, one twice, or the key beside one. Not the first."""
    at = draw.randrange(1, len(word) - 1)
    kind = draw.randrange(4)
    if kind == 0 and word[at] != word[at + 1]:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[: at + 1] + word[at:]
    return word[:at] + _beside(word[at], draw) + word[at + 1 :]


def _beside(letter: str, draw: random.Random) -> str:
    for row in _ROWS:
        at = row.find(letter.lower())
        if at >= 0:
            return draw.choice(row[max(0, at - 1) : at] + row[at + 1 : at + 2])
    return letter + letter


def _dropped(text: str, share: float, draw: random.Random) -> str:
    words = text.split()
    count = min(len(words) - 1, math.ceil(share * len(words)))
    gone = set(draw.sample(range(len(words)), max(0, count)))
    return " ".join(word for at, word in enumerate(words) if at not in gone)


def _replaced(text: str, table: tuple[re.Pattern[str], Mapping[str, str]]) -> str:
    pattern, other = table
    return pattern.sub(lambda found: _as_cased(found[0], other[found[0].lower()]), text)


def _as_cased(model: str, word: str) -> str:
    return word[:1].upper() + word[1:] if model[:1].isupper() else word


def _table(pairs: Mapping[str, str]) -> tuple[re.Pattern[str], Mapping[str, str]]:
    longest_first = sorted(pairs, key=len, reverse=True)
    words = "|".join(map(re.escape, longest_first))
    return re.compile(rf"(?<!\w)(?:{words})(?!\w)", re.IGNORECASE), pairs


_BOTH_WAYS = dict(_SYNONYMS) | {other: one for one, other in _SYNONYMS}
_TABLES = {
    "synonyms": _table(_BOTH_WAYS),
    "british": _table({american: british for british, american in _SPELLINGS}),
    "american": _table(dict(_SPELLINGS)),
}
_GRADED: Mapping[str, Callable[[str, float, random.Random], str]] = {
    "typos": _typos,
    "dropped_words": _dropped,
}
