"""A whole index as some queries see it: what is located, mapped and calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from saywhere.types import FloatArray, Footprint, Hit, Platform, Window


@dataclass(frozen=True, slots=True)
class Details:
    """What few readers of many images want to know of one; as in ``Record``."""

    window: Window | None = None
    footprint: Footprint | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScoredImages:
    """Every image of an index with its score by each of q queries, in order of image_id.

    Attributes:
        image_ids, paths, platforms, place_ids: n each, as in ``Hit``.
        lat, lon: (n,) float64 WGS84 degrees, NaN where an image has no position.
        scores: (q, n) float32 fused scores.
        taken: (n,) datetime64[us] in UTC, NaT where unknown; None where it is unknown of all.
        details: n each, read when one is asked for; None where nothing more is known of any image.
    """

    image_ids: tuple[str, ...]
    paths: tuple[str, ...]
    platforms: tuple[Platform | None, ...]
    place_ids: tuple[str | None, ...]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    scores: FloatArray
    taken: NDArray[np.datetime64] | None = None
    details: Sequence[Details] | None = None

    def hit(self, row: int, rank: int, score: float) -> Hit:
        """One of the images as an answer."""
        located = bool(np.isfinite(self.lat[row]))
        more = self.details[row] if self.details is not None else Details()
        return Hit(
            rank=rank,
            image_id=self.image_ids[row],
            path=self.paths[row],
            score=score,
            platform=self.platforms[row],
            place_id=self.place_ids[row],
            lat=float(self.lat[row]) if located else None,
            lon=float(self.lon[row]) if located else None,
            window=more.window,
            footprint=more.footprint,
            taken=None if self.taken is None else _aware(self.taken[row]),
        )


def _aware(moment: np.datetime64) -> datetime | None:
    found = moment.astype("datetime64[us]").item()  # None of NaT
    return found.replace(tzinfo=UTC) if isinstance(found, datetime) else None
