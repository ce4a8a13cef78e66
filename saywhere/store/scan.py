"""One pass over a LanceDB table: the best images of many queries, or all images with their scores.

Exact to the last tie, with no index to train and no candidates to guess. Which images qualify is an
SQL condition made of enum values only; areas and periods are checked in NumPy.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from saywhere.area import Area
from saywhere.errors import InputError
from saywhere.period import Period
from saywhere.products import Best, ScoreTally, ScoreTotals, exact_scores
from saywhere.scored_images import Details, ScoredImages
from saywhere.store import Platforms
from saywhere.store.columns import DETAILS, TAKEN, VECTOR, details_from, moment
from saywhere.types import FloatArray, Hit, Platform

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.query import LanceQueryBuilder
    from lancedb.table import Table

Wide = NDArray[np.float64]

_FIELDS = ("image_id", "path", "platform", "place_id", "lat", "lon")  # of a Hit, by their names
HIT_COLUMNS = (*_FIELDS, *DETAILS, TAKEN)
# Scores held at once, queries x (a batch and the best): 64 MB of float32. More queries take another
# pass over the table.
MAX_SCORES = 2**24
_BATCH = 1024  # images; LanceDB takes twice as long to put larger batches together


def select(table: Table, columns: tuple[str, ...]) -> LanceQueryBuilder:
    return table.search().select(list(columns))


def platform_condition(platform: Platforms) -> str | None:
    """The only SQL there is: its values come out of the enum, never out of a user's text."""
    if platform is None:
        return None
    try:
        chosen = [platform] if isinstance(platform, str) else platform
        values = sorted({Platform(one).value for one in chosen})
    except ValueError as error:
        known = ", ".join(Platform)
        raise InputError(f"platform {platform!r}: unknown; give one of {known}") from error
    if not values:
        raise InputError("no platform: nothing can be found; give one, or None for all")
    return " OR ".join(f"platform = '{value}'" for value in values)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images of a table qualify: an SQL condition, an area and a period."""

    condition: str | None
    area: Area | None
    period: Period | None = None

    def batches(self, table: Table) -> Iterator[pa.RecordBatch]:
        """Those images with what a hit tells, as far as the table's schema has it, and vectors."""
        import pyarrow as pa

        scan = select(table, (*_known(HIT_COLUMNS, table.schema.names), VECTOR))
        scan = scan.where(self.condition) if self.condition else scan
        for batch in scan.to_batches(_BATCH):
            kept = np.ones(len(batch), bool)
            if self.area is not None:
                kept &= self.area.contains(*_positions(batch))
            if self.period is not None:
                kept &= self.period.contains(_taken(batch))
            yield batch if kept.all() else batch.filter(pa.array(kept))


def _known(columns: tuple[str, ...], names: Collection[str]) -> list[str]:
    return [name for name in columns if name in names]


def _taken(batch: pa.RecordBatch) -> NDArray[np.datetime64]:
    """(n,) datetime64[us] in UTC; NaT where unknown, as for all images of an earlier schema."""
    if TAKEN not in batch.schema.names:
        return np.full(len(batch), "NaT", "datetime64[us]")
    return np.asarray(batch[TAKEN].to_numpy(zero_copy_only=False), "datetime64[us]")


def _positions(columns: pa.RecordBatch | pa.Table) -> tuple[Wide, Wide]:
    """(lat, lon) of n images, (n,) float64 each; NaN where they have none."""
    lat, lon = (columns[name].to_numpy(zero_copy_only=False) for name in ("lat", "lon"))
    return np.asarray(lat, np.float64), np.asarray(lon, np.float64)


class _Details(Sequence[Details]):
    """Details of images in a given order; decoded one by one, since most are never asked for."""

    def __init__(self, batches: Sequence[pa.RecordBatch], order: Sequence[int]) -> None:
        self._batches, self._order = batches, order
        self._starts = np.cumsum([0, *map(len, batches)])

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Details: ...
    @overload
    def __getitem__(self, index: slice) -> list[Details]: ...
    def __getitem__(self, index: int | slice) -> Details | list[Details]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        row = self._order[index]
        which = int(np.searchsorted(self._starts, row, side="right")) - 1
        [values] = self._batches[which].slice(row - int(self._starts[which]), 1).to_pylist()
        return details_from(values)


def score_all(table: Table, queries: FloatArray, wanted: Wanted) -> ScoredImages:
    scores, kept = [np.empty((len(queries), 0), np.float32)], []
    taken, details = [np.empty(0, "datetime64[us]")], []
    for batch in wanted.batches(table):
        vectors = batch[VECTOR].flatten().to_numpy().reshape(-1, queries.shape[1])
        scores.append(exact_scores(queries, vectors))
        kept += batch.select(_FIELDS).to_pylist()
        taken.append(_taken(batch))
        details.append(batch.select(_known(DETAILS, batch.schema.names)))
    order = sorted(range(len(kept)), key=lambda at: str(kept[at]["image_id"]))
    rows = [kept[at] for at in order]
    positions = ([np.nan if row[name] is None else row[name] for row in rows]
                 for name in ("lat", "lon"))  # fmt: skip
    lat, lon = (np.asarray(column, np.float64) for column in positions)
    return ScoredImages(
        image_ids=tuple(row["image_id"] for row in rows),
        paths=tuple(row["path"] for row in rows),
        platforms=tuple(Platform(row["platform"]) if row["platform"] else None for row in rows),
        place_ids=tuple(row["place_id"] for row in rows),
        lat=lat,
        lon=lon,
        scores=np.concatenate(scores, 1)[:, order],
        taken=np.concatenate(taken)[order],
        details=_Details(details, order),
    )


def best_hits(
    table: Table, queries: FloatArray, k: int, wanted: Wanted, temperature: float | None = None
) -> tuple[list[list[Hit]], ScoreTotals | None]:
    """The k best images of each query, and with a temperature what all their scores come to."""
    hits: list[list[Hit]] = []
    totals = []
    for part in _parts(queries, k):
        tally = None if temperature is None else ScoreTally(len(part), temperature)
        hits.extend(_pass(table, part, wanted, Best(part, k, tally), k))
        if tally is not None:
            totals.append(tally.totals())
    return hits, None if temperature is None else _joined(totals, temperature)


def _joined(totals: list[ScoreTotals], temperature: float) -> ScoreTotals:
    """Totals of all queries from those of each part of them."""
    if not totals:
        return ScoreTally(0, temperature).totals()
    mean, log_mean_exp = (
        np.concatenate([getattr(part, name) for part in totals])
        for name in ("mean", "log_mean_exp")
    )
    return ScoreTotals(temperature, totals[0].count, mean, log_mean_exp)


def _parts(queries: FloatArray, k: int) -> Iterator[FloatArray]:
    """As many queries as one pass can take, then the next ones."""
    step = max(1, MAX_SCORES // (_BATCH + k))
    for start in range(0, len(queries), step):
        yield queries[start : start + step]


def _pass(table: Table, queries: FloatArray, wanted: Wanted, best: Best, k: int) -> list[list[Hit]]:
    """One pass over one version of the table; of its images only the best so far are kept."""
    images: dict[int, dict[str, Any]] = {}  # by position in the scan
    seen = 0
    for batch in wanted.batches(table):
        vectors = batch[VECTOR].flatten().to_numpy().reshape(-1, queries.shape[1])
        found = best.offer(vectors)
        values = batch.drop_columns([VECTOR]).take(found - seen).to_pylist()
        images.update(zip(found.tolist(), values, strict=True))
        seen += len(vectors)
    hits = []
    for first, end in pairwise(np.searchsorted(best.rows, np.arange(len(queries) + 1))):
        scores, positions = best.scores[first:end], best.positions[first:end].tolist()
        hits.append(_hits([images[at] for at in positions], scores.tolist(), k))
    return hits


def _hits(images: list[dict[str, Any]], scores: list[float], k: int) -> list[Hit]:
    """The k best of images that include all ties with the last; ties by image_id."""
    found = zip(images, scores, strict=True)
    best = sorted(found, key=lambda pair: (-pair[1], pair[0]["image_id"]))[:k]
    return [_hit(image, rank, score) for rank, (image, score) in enumerate(best, 1)]


def _hit(image: dict[str, Any], rank: int, score: float) -> Hit:
    fields = {name: image[name] for name in _FIELDS}
    platform = Platform(image["platform"]) if image["platform"] else None
    more = details_from(image)
    return Hit(
        rank=rank,
        score=score,
        **{**fields, "platform": platform},
        window=more.window,
        footprint=more.footprint,
        taken=moment(image.get(TAKEN)),
    )
