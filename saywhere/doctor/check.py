"""What doctor finds, a line each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        section: which part of the report it belongs to.
        name: what was looked at.
        status: ``note`` is worth knowing and works; ``problem`` is broken.
        found: what is there.
        remedy: what to do about a note or a problem; empty where nothing needs to be done.
        slow: whether it costs time; ``found`` and ``remedy`` then say why.
    """

    section: str
    name: str
    status: Status
    found: str
    remedy: str = ""
    slow: bool = False


def failed(section: str, name: str, message: object) -> Check:
    """A problem from one of our own errors, whose last part is the remedy."""
    cause, _, remedy = str(message).rpartition("; ")
    return Check(section, name, "problem", cause or remedy, remedy if cause else "")
