"""Write saywhere/text/words/lexicon.txt: the words that describe places, the most frequent first.

    python scripts/lexicon.py ../shared/data

Words of the training captions of ``geotext-mini`` and of RSICD, without its validation split: those
that stand there often enough not to be a slip of their own. They are what a mistyped word of a
query may have meant; which image a word stood by is not kept.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from saywhere.config import load_config
from saywhere.data import read
from saywhere.text.spelling import SHORTEST, WORD
from saywhere.towers import text_tower

OUT = Path(__file__).parents[1] / "saywhere/text/words/lexicon.txt"
HEAD = """\
# What a mistyped word of a query may have meant, the most frequent first: words that the training
# captions of geotext-mini and RSICD often use. Written by scripts/lexicon.py.
"""
# Of how many uses a word must be to belong, where the text tower's tokenizer knows it whole, and
# where it does not. RSICD has ten times as many captions, and many slips in them.
_USES = {"geotext-mini/train.json": (2, 3), "rsicd/train-without-valid": (20, 100)}
_WIDTH = 100


def main(data: Path) -> None:
    """Count, choose, write."""
    tower = text_tower(load_config("small").towers.text)
    shares: Counter[str] = Counter()
    chosen = set[str]()
    for name, (whole, other) in _USES.items():
        texts = [caption.text.lower() for caption in read(data / name).captions]
        counts = Counter(word for text in texts for word in WORD.findall(text))
        for word, count in counts.items():
            if len(word) >= SHORTEST and count >= (whole if tower.knows(word) else other):
                chosen.add(word)
            shares[word] += count / counts.total()
    words = sorted(chosen, key=lambda word: (-shares[word], word))
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) >= _WIDTH:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    OUT.write_text(HEAD + "\n".join(lines) + "\n", "utf-8")
    print(f"{len(words)} words in {OUT}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
