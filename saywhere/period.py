"""When an image was taken: a span of time to search in.

As of places, a filter is values that were checked here; none ever becomes part of a query text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from saywhere.errors import InputError
from saywhere.types import BoolArray


@dataclass(frozen=True, slots=True)
class Period:
    """From ``after``, included, to ``before``, excluded; both with a time zone, None for no end.

    Raises:
        InputError: no end at all, or an end that isn't after the start.
    """

    after: datetime | None = None
    before: datetime | None = None

    def __post_init__(self) -> None:
        if self.after is None and self.before is None:
            raise InputError("a period without start and end: give one of them")
        if self.after is not None and self.before is not None and self.after >= self.before:
            raise InputError(
                f"period from {self.after.isoformat()} to {self.before.isoformat()}: holds no "
                "moment; give an end after its start"
            )

    def contains(self, taken: NDArray[np.datetime64]) -> BoolArray:
        """(n,) bool of n moments in UTC; NaT, an unknown one, is outside."""
        inside = np.ones(len(taken), bool)  # at first: no comparison holds for NaT
        if self.after is not None:
            inside = inside & (taken >= _utc(self.after))
        if self.before is not None:
            inside = inside & (taken < _utc(self.before))
        return np.asarray(inside)


def parse_period(after: str | None, before: str | None) -> Period | None:
    """ISO 8601 dates or moments; None for neither. A date is its first moment, UTC unless said.

    Raises:
        InputError: anything else, or as ``Period``.
    """
    if after is None and before is None:
        return None
    return Period(*(None if text is None else _moment(text) for text in (after, before)))


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError(
            f"date {text!r}: give it as 2025-06-01, or 2025-06-01T14:30+02:00 (ISO 8601)"
        ) from None


def _utc(moment: datetime) -> np.datetime64:
    return np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us")
