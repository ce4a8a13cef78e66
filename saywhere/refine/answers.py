"""What an endpoint answers, read without trust: bodies, JSON where there is some, texts.

The same functions read a live answer's body and a line of a batch result file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from saywhere.text.guards import Verdict, refuses

_FENCE = re.compile(r"^```\w*\s*|\s*```$")
_LABEL = re.compile(r"^(?:rewrite|rewritten caption|caption|query|output|answer)\s*:\s*", re.I)
_BLANK = re.compile(r"\s+")
_LONGEST = 4000  # characters; whatever is longer is no rewrite, and is not stored either
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One completion.

    Attributes:
        content: the message's text, as it came.
        finish: why the model stopped: ``stop``, ``length``, ….
        refused: the endpoint itself marked a refusal.
        tokens_in, tokens_out: as the endpoint counted them; 0 where it does not.
        seconds: from sending to the last byte; 0 for batches.
    """

    content: str
    finish: str = "stop"
    refused: bool = False
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0


def read_body(body: object) -> Answer | None:
    """The first completion in a parsed response body; None where there is none."""
    try:
        choice: dict[str, Any] = body["choices"][0]  # type: ignore[index]
        message: dict[str, Any] = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
        usage = body.get("usage")  # type: ignore[attr-defined]
    except (KeyError, IndexError, TypeError, AttributeError):
        return None
    if not isinstance(content, str) and not refusal:
        return None
    return Answer(
        content=content[: _LONGEST + 1] if isinstance(content, str) else "",
        finish=finish if isinstance(finish, str) else "stop",
        refused=bool(refusal),
        tokens_in=_count(usage, "prompt_tokens"),
        tokens_out=_count(usage, "completion_tokens"),
    )


def read_text(answer: Answer) -> tuple[str, Verdict | None]:
    """The rewrite in an answer, and why there is none that counts.

    Returns:
        (text on one line, None), or (what there was, the verdict).
    """
    if answer.refused:
        return _tidy(answer.content), Verdict.REFUSED
    if answer.finish == "length":
        return _tidy(answer.content), Verdict.CUT
    content = _FENCE.sub("", answer.content.strip())
    found = _from_json(content)
    if found is None and not _looks_like_json(content):
        found = _from_prose(content)
    if found is None or not found.strip() or len(found) > _LONGEST:
        refused = refuses(content)
        return _tidy(answer.content), Verdict.REFUSED if refused else Verdict.UNPARSABLE
    return _tidy(found), None


def _from_json(content: str) -> str | None:
    """``text`` of the first JSON object that has one, wherever it begins."""
    decoder = json.JSONDecoder()
    start = content.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(content, start)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict) and isinstance(value.get("text"), str):
            return str(value["text"])
        start = content.find("{", start + 1)
    return None


def _looks_like_json(content: str) -> bool:
    return "{" in content or '"text"' in content


def _from_prose(content: str) -> str | None:
    """A bare text of one paragraph, without label and quotes; None for anything longer."""
    text = _LABEL.sub("", content.strip()).strip()
    if "\n" in text:
        return None
    closing = _QUOTES.get(text[:1])
    return text[1:-1] if closing and text.endswith(closing) and len(text) > 1 else text


def _tidy(text: str) -> str:
    """On one line, without control characters or lone surrogates."""
    printable = "".join(c if c.isprintable() or c.isspace() else " " for c in text[:_LONGEST])
    return _BLANK.sub(" ", printable).strip()


def _count(usage: object, key: str) -> int:
    value = usage.get(key) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0
