"""Static word vectors for any tokenizer's vocabulary: what each word means by itself.

A sentence tower blends its words into one meaning and forgets which they were; the sum of static
vectors keeps them. The vectors come in a PyPI package and belong to another vocabulary; a token of
ours gets the mean over the pieces of its text there, so that one tokenizer serves both.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from saywhere.config import TextTowerConfig
from saywhere.errors import TowerError
from saywhere.files import hash_file
from saywhere.text.content import is_function_word
from saywhere.towers.packages import package_folder
from saywhere.types import FloatArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# WordLlama's files by their SHA-256: the numbers of a tower depend on both.
_VECTORS = (
    "weights/l2_supercat_256.safetensors",
    "64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
)
_PIECES = (
    "tokenizers/l2_supercat_tokenizer_config.json",
    "93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
)
# How WordPiece, SentencePiece and byte-level BPE mark where in a word a token stands.
_MARKS = ("##", "\u2581", "\u0120")


def words_of(config: TextTowerConfig, tokenizer: str, rows: int) -> FloatArray | None:
    """The table that ``config.words`` asks for; ``tokenizer`` as JSON. None where it asks for none.

    Raises:
        TowerError, MissingExtraError: as ``word_table``.
    """
    from tokenizers import Tokenizer

    return word_table(Tokenizer.from_str(tokenizer), rows) if config.words else None


def word_table(tokenizer: Tokenizer, rows: int) -> FloatArray:
    """One vector a token: (rows, 256) float32.

    Zeros for special tokens, spare rows, marks and English function words: captions are sentences,
    queries are telegrams, and "the" would tell them apart where they mean the same.

    Args:
        tokenizer: of the sentence tower.
        rows: of that tower's own table of embeddings.

    Raises:
        TowerError: the package's files are missing or altered.
        MissingExtraError: the package is not installed.
    """
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = package_folder("wordllama")
    known = next(iter(load_file(_pinned(folder, *_VECTORS)).values())).astype(np.float32)
    pieces = Tokenizer.from_file(str(_pinned(folder, *_PIECES)))
    table = np.zeros((rows, known.shape[1]), np.float32)
    texts, places = zip(*_texts(tokenizer), strict=True)
    encodings = pieces.encode_batch(list(texts), add_special_tokens=False)
    for row, encoding in zip(places, encodings, strict=True):
        if encoding.ids:
            table[row] = known[encoding.ids].mean(0)
    return table


def _texts(tokenizer: Tokenizer) -> Iterator[tuple[str, int]]:
    """What each token with a content spells, and its row."""
    special = {row for row, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    for token, row in tokenizer.get_vocab(with_added_tokens=True).items():
        text = token
        for mark in _MARKS:
            text = text.removeprefix(mark)
        content = any(letter.isalnum() for letter in text) and not is_function_word(text.lower())
        if content and row not in special:
            yield text, row


def _pinned(folder: Path, name: str, expected: str) -> Path:
    path = folder / name
    found = hash_file(path) if path.is_file() else "missing"
    if found != expected:
        raise TowerError(
            f"{path}: SHA-256 is {found}, expected {expected}; install the pinned version of "
            'wordllama again, or set towers.text.words = ""'
        )
    return path
