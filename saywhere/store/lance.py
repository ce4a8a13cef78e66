"""The embedded store: a LanceDB table in a folder, no server.

The table lies in ``generation-…/images.lance``; ``saywhere.store.generations`` says how a build
puts it in the place of the one before.

Searches read every vector, in one pass for many queries. That is exact to the last tie, and needs
no index to train and no candidates to guess. LanceDB must not be forked: spawn workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saywhere.errors import InputError
from saywhere.store import (
    Row,
    StoreInfo,
    check_k,
    check_vectors,
    contenders,
    exact_scores,
    require_experts,
)
from saywhere.store.generations import (
    MANIFEST,
    Manifest,
    damaged,
    new_generation,
    read_manifest,
    storage_error,
)
from saywhere.types import FloatArray, Hit, Platform

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa
    from lancedb.table import Table

TABLE = "images"
HIT_COLUMNS = ("image_id", "path", "platform", "place_id", "lat", "lon")
# Scores held at once, queries x images: 64 MB of float32. More queries take another pass.
MAX_SCORES = 2**24
# What LanceDB and PyArrow raise for storage they cannot read or write.
STORAGE_ERRORS = (RuntimeError, OSError, ValueError)

Answer = TypeVar("Answer")


class LanceStore:
    """A ``VectorStore`` over one folder.

    Args:
        path: the index folder.
        pinned: the generation of a build that isn't committed yet; by default the current
            generation is followed, so that a rebuild by another process is seen.

    Raises:
        InputError: no index there, or one that cannot be read.
        IndexMismatchError: an index of another schema.
    """

    def __init__(self, path: str, *, pinned: Manifest | None = None) -> None:
        self._folder = Path(path).absolute()
        self._pinned = pinned
        manifest = pinned or read_manifest(self._folder)
        # One attribute, replaced whole: threads never see a table with another's manifest.
        self._current = (manifest, self._open(manifest))

    def info(self) -> StoreInfo:
        manifest, count = self._read(lambda table: int(table.count_rows()))
        return manifest.info(count)

    def add(self, rows: Sequence[Row], vectors: FloatArray) -> None:
        manifest, table = self._follow()
        vectors = check_vectors(vectors, manifest.dimension, f"index {str(self._folder)!r}")
        _check_rows(rows, len(vectors))
        if not rows:
            return
        merge = table.merge_insert("image_id").when_matched_update_all()
        upsert = merge.when_not_matched_insert_all()
        self._write(lambda: upsert.execute(_arrow_rows(rows, vectors)))

    def search(
        self, vectors: FloatArray, k: int, *, platform: Platform | None = None
    ) -> list[list[Hit]]:
        check_k(k)
        condition = _platform_condition(platform)
        vectors = check_vectors(vectors, self._follow()[0].dimension, "queries")
        return self._read(lambda table: _scan(table, vectors, k, condition))[1]

    def compact(self) -> None:
        """Joins what many ``add`` calls wrote and frees what they replaced.

        Only for a table that no other process reads: older versions of it go at once.
        """
        # 1 ms: "older than now" but not 0, for which LanceDB warns of the readers we don't have.
        _, table = self._follow()
        self._write(lambda: table.optimize(cleanup_older_than=timedelta(milliseconds=1)))

    def _read(self, job: Callable[[Table], Answer]) -> tuple[Manifest, Answer]:
        """Runs ``job`` on the current table; again if a rebuild swept it away meanwhile."""
        manifest, table = self._follow()
        while True:
            try:
                return manifest, job(table)
            except STORAGE_ERRORS as error:
                failed = table
                manifest, table = self._follow()
                if table is failed:
                    raise storage_error(self._folder, "read", error) from error

    def _write(self, job: Callable[[], object]) -> None:
        try:
            job()
        except STORAGE_ERRORS as error:
            raise storage_error(self._folder, "write", error) from error

    def _follow(self) -> tuple[Manifest, Table]:
        opened, _ = self._current
        if self._pinned:
            return self._current
        manifest = read_manifest(self._folder)
        if manifest != opened:
            require_experts(manifest.info(0), opened.expert_hash)
            self._current = (manifest, self._open(manifest))
        return self._current

    def _open(self, manifest: Manifest) -> Table:
        generation = self._folder / manifest.generation
        if not generation.is_dir():  # asked first, because LanceDB would create it
            raise damaged(self._folder, "its table is missing")
        try:
            table = _connect(generation).open_table(TABLE)
            schema = table.schema
        except STORAGE_ERRORS as error:
            raise storage_error(self._folder, "read", error) from error
        if schema != _arrow_schema(manifest.dimension):
            raise damaged(self._folder, f"its table's columns don't fit {MANIFEST}")
        return table


@contextmanager
def build(path: str, manifest: Manifest) -> Iterator[LanceStore]:
    """Builds the index at ``path``; see ``saywhere.store.build_store``.

    Args:
        manifest: what made the vectors; its generation is chosen here.
    """
    folder = Path(path).absolute()
    with new_generation(folder, manifest) as made:
        store = _create(folder, made)
        yield store
        store.compact()


def _create(folder: Path, manifest: Manifest) -> LanceStore:
    try:
        database = _connect(folder / manifest.generation)
        database.create_table(TABLE, schema=_arrow_schema(manifest.dimension))
    except STORAGE_ERRORS as error:
        raise storage_error(folder, "write", error) from error
    return LanceStore(str(folder), pinned=manifest)


def _connect(generation: Path) -> lancedb.DBConnection:
    import lancedb

    # 0 s: every read looks for other processes' writes first, or a handle never sees them.
    return lancedb.connect(str(generation), read_consistency_interval=timedelta(0))


def _arrow_schema(dimension: int) -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("path", pa.string(), nullable=False),
            pa.field("content_hash", pa.string(), nullable=False),
            pa.field("platform", pa.string()),
            pa.field("place_id", pa.string()),
            pa.field("lat", pa.float64()),
            pa.field("lon", pa.float64()),
            pa.field("vector", pa.list_(pa.float32(), dimension), nullable=False),
        ]
    )


def _check_rows(rows: Sequence[Row], count: int) -> None:
    if len(rows) != count:
        raise InputError(f"{len(rows)} images but {count} vectors; give one vector an image")
    seen: set[str] = set()
    for row in rows:
        if row.image_id in seen:
            raise InputError(f"image {row.image_id!r}: given twice at once; give each image once")
        seen.add(row.image_id)


def _arrow_rows(rows: Sequence[Row], vectors: FloatArray) -> pa.Table:
    import pyarrow as pa

    schema = _arrow_schema(vectors.shape[1])
    columns: dict[str, Any] = {
        name: [getattr(row, name) for row in rows] for name in schema.names if name != "vector"
    }
    columns["vector"] = pa.FixedSizeListArray.from_arrays(vectors.ravel(), vectors.shape[1])
    return pa.table(columns, schema=schema)


def _platform_condition(platform: Platform | None) -> str | None:
    """The only SQL there is: its one value comes out of the enum, never out of a user's text."""
    if platform is None:
        return None
    try:
        return f"platform = '{Platform(platform).value}'"
    except ValueError as error:
        known = ", ".join(Platform)
        raise InputError(f"platform {platform!r}: unknown; give one of {known}") from error


def _scan(table: Table, queries: FloatArray, k: int, condition: str | None) -> list[list[Hit]]:
    step = max(1, MAX_SCORES // max(1, table.count_rows()))
    hits: list[list[Hit]] = []
    for start in range(0, len(queries), step):
        images, scores = _score(table, queries[start : start + step], condition)
        hits.extend(_top(images, row, k) for row in scores)
    return hits


def _score(table: Table, queries: FloatArray, condition: str | None) -> tuple[pa.Table, FloatArray]:
    """One pass over one version of the table: n images without vectors, and (q, n) scores."""
    import pyarrow as pa

    scan = table.search().select([*HIT_COLUMNS, "vector"])
    batches = (scan.where(condition) if condition else scan).to_batches()
    images, scores = [], [np.empty((len(queries), 0), dtype=np.float32)]
    for batch in batches:
        vectors = batch["vector"].flatten().to_numpy().reshape(-1, queries.shape[1])
        scores.append(exact_scores(queries, vectors))
        images.append(batch.select(HIT_COLUMNS))
    schema = pa.schema([table.schema.field(name) for name in HIT_COLUMNS])
    return pa.Table.from_batches(images, schema).combine_chunks(), np.concatenate(scores, axis=1)


def _top(images: pa.Table, scores: FloatArray, k: int) -> list[Hit]:
    positions = contenders(scores, k)
    found = zip(images.take(positions).to_pylist(), scores[positions].tolist(), strict=True)
    best = sorted(found, key=lambda pair: (-pair[1], pair[0]["image_id"]))[:k]
    hits = [Hit(rank=rank, score=score, **image) for rank, (image, score) in enumerate(best, 1)]
    return [replace(hit, platform=Platform(hit.platform)) if hit.platform else hit for hit in hits]
