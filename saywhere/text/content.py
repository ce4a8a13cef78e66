"""What a caption says, as a set of stems: the measure that the guards of a rewrite use.

No tagger and no model. A text is cut into words at blanks, hyphens and punctuation. What is left
after taking out the function words (``words/function.txt``: articles, pronouns, prepositions,
auxiliaries, and verbs that only say that something is there) are its *content words*: nouns,
colours, materials, shapes, numbers and negations. Forms of one word are brought together by
``words/forms.txt`` (grey and gray, storey and story, red and reddish) and by the Snowball stemmer
of English (roof, roofs, roofed). A colour is a content word in ``words/colours.txt``.

Known limits: synonyms count as new words, adverbs count as content, and a relation turned round
("a lawn behind the hall", "a hall behind the lawn") is not seen.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Protocol, cast

from saywhere.errors import MissingExtraError

_TOKEN = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?|\d+|[,.;:!?()]")
_SENTENCE_END = frozenset(".!?")


class _Stemmer(Protocol):
    def stemWord(self, word: str) -> str: ...  # noqa: N802 - the library's name


@dataclass(frozen=True, slots=True)
class Token:
    """One word or mark.

    Attributes:
        word: as written, lower case.
        stem: what it is compared by; "" for function words and punctuation.
        colour: whether the stem is a colour's.
    """

    word: str
    stem: str = ""
    colour: bool = False

    @property
    def is_mark(self) -> bool:
        """True for punctuation."""
        return not self.word[0].isalnum()


def tokens(text: str) -> list[Token]:
    """Words and punctuation marks of a text, in order.

    Raises:
        MissingExtraError: the stemmer is not installed.
    """
    return [_token(word) for word in _TOKEN.findall(text.lower())]


def content_stems(text: str) -> frozenset[str]:
    """Stems of the content words of a text; errors as ``tokens``."""
    return frozenset(token.stem for token in tokens(text) if token.stem)


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return [word for word in _TOKEN.findall(text.lower()) if word[0].isalnum()]


def is_function_word(word: str) -> bool:
    """True for a lower-case word that carries no content."""
    return word in word_list("function")


def scripts(text: str) -> frozenset[str]:
    """Writing systems of the letters of a text: ``LATIN``, ``CYRILLIC``, ``CJK``."""
    return frozenset(
        unicodedata.name(letter, "?").split(" ", 1)[0] for letter in set(text) if letter.isalpha()
    )


def sentence_bounds(found: list[Token]) -> list[list[Token]]:
    """Tokens sentence by sentence, end marks left out."""
    sentences: list[list[Token]] = [[]]
    for token in found:
        if token.word in _SENTENCE_END:
            sentences.append([])
        else:
            sentences[-1].append(token)
    return [sentence for sentence in sentences if sentence]


@cache
def word_list(name: str) -> frozenset[str]:
    """Words of ``words/<name>.txt``, comments left out."""
    return frozenset(word for line in lines(name) for word in line.split())


@cache
def lines(name: str) -> tuple[str, ...]:
    """Lines of ``words/<name>.txt``, comments and blank ones left out."""
    text = files("saywhere.text").joinpath("words", f"{name}.txt").read_text("utf-8")
    stripped = (line.strip() for line in text.splitlines())
    return tuple(line for line in stripped if line and not line.startswith("#"))


@cache
def stem(word: str) -> str:
    """What a lower-case word is compared by."""
    base = _forms().get(word, word)
    return _stemmer().stemWord(base)


@cache
def _token(word: str) -> Token:
    if not word[0].isalnum() or is_function_word(word):
        return Token(word)
    found = stem(word)
    return Token(word, found, found in _colours())


@cache
def _forms() -> dict[str, str]:
    return {form: line.split()[0] for line in lines("forms") for form in line.split()}


@cache
def _colours() -> frozenset[str]:
    return frozenset(stem(word) for word in word_list("colours"))


@cache
def _stemmer() -> _Stemmer:
    try:
        import snowballstemmer
    except ImportError:
        raise MissingExtraError("refine", "refine", "snowballstemmer") from None
    return cast("_Stemmer", snowballstemmer.stemmer("english"))
