"""The embedded store: a LanceDB table in a folder, no server.

The table lies in ``generation-…/images.lance``; ``saywhere.store.generations`` says how a build
puts it in the place of the one before.

Searches read every vector, in one pass for many queries. That is exact to the last tie, and needs
no index to train and no candidates to guess. LanceDB must not be forked: spawn workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from saywhere.area import Area
from saywhere.errors import InputError
from saywhere.period import Period
from saywhere.products import ScoreTotals
from saywhere.scored_images import ScoredImages
from saywhere.store import Platforms, StoreInfo, check_k, check_vectors, require_experts
from saywhere.store.columns import (
    VECTOR,
    arrow_rows,
    arrow_schema,
    check_rows,
    row_from,
)
from saywhere.store.generations import (
    MANIFEST,
    Manifest,
    damaged,
    lock,
    new_generation,
    read_manifest,
    storage_error,
)
from saywhere.store.row import Row
from saywhere.store.scan import (
    Wanted,
    best_hits,
    platform_condition,
    score_all,
    select,
)
from saywhere.types import FloatArray, Hit

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa
    from lancedb.table import Table

TABLE = "images"
# Lance's file format for new tables. Later ones store vectors so that reading them all, as every
# search does, takes three times the CPU; existing tables are read in whatever format they have.
_STORAGE = {"new_table_data_storage_version": "2.0"}
# Bytes Lance reads ahead of a scan. Its own default, 2 GiB, is the whole of most galleries: reading
# 400,000 vectors of 772 numbers took 480 MB beside the imports, and takes 150 MB so, as 100,000 do.
_READ_AHEAD = str(8 << 20)
# What LanceDB and PyArrow raise for storage they cannot read or write.
STORAGE_ERRORS = (RuntimeError, OSError, ValueError)

Answer = TypeVar("Answer")
Wide = NDArray[np.float64]


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
        # One attribute, replaced whole: threads never see a table with another's manifest.
        self._current = (pinned, self._open(pinned)) if pinned else self._open_current()

    def info(self) -> StoreInfo:
        manifest, count = self._read(lambda table: int(table.count_rows()))
        return manifest.info(count)

    def add(self, rows: Sequence[Row], vectors: FloatArray) -> None:
        # A build that is going on has read the index already: it would drop what is added now.
        with nullcontext() if self._pinned else lock(self._folder, shared=True):
            table, columns = self._columns(rows, vectors)
            if columns.num_rows:
                merge = table.merge_insert("image_id").when_matched_update_all()
                self._write(lambda: merge.when_not_matched_insert_all().execute(columns))

    def append(self, rows: Sequence[Row], vectors: FloatArray) -> None:
        """As ``add``, without looking for images of the same ids: the caller knows of none."""
        table, columns = self._columns(rows, vectors)
        if columns.num_rows:
            self._write(lambda: table.add(columns))

    def rows(self) -> list[Row]:
        """All images of the index, in no particular order.

        Raises:
            InputError: an index that cannot be read, or that holds what no row can be.
        """
        found = self._read(lambda table: select(table, _row_columns(table)).to_arrow())[1]
        return [row_from(values) for values in found.to_pylist()]

    def vectors(self) -> Iterator[tuple[list[str], FloatArray]]:
        """All vectors, block by block: n image ids and (n, d) float32.

        A rebuild by others may cut it short: hold the lock of a build, or be ready to start again.

        Raises:
            InputError: an index that cannot be read.
        """
        manifest, table = self._follow()
        try:
            for batch in select(table, ("image_id", VECTOR)).to_batches():
                flat = batch[VECTOR].flatten().to_numpy()
                yield batch["image_id"].to_pylist(), flat.reshape(-1, manifest.dimension)
        except STORAGE_ERRORS as error:
            raise storage_error(self._folder, "read", error) from error

    def _asked(
        self, vectors: FloatArray, platform: Platforms, area: Area | None, period: Period | None
    ) -> tuple[FloatArray, Wanted]:
        """The queries, checked against the index as it is now, and what is asked of the images."""
        wanted = Wanted(platform_condition(platform), area, period)
        return check_vectors(vectors, self._follow()[0].dimension, "queries"), wanted

    def search(
        self,
        vectors: FloatArray,
        k: int,
        *,
        platform: Platforms = None,
        area: Area | None = None,
        period: Period | None = None,
    ) -> list[list[Hit]]:
        check_k(k)
        vectors, wanted = self._asked(vectors, platform, area, period)
        return self._read(lambda table: best_hits(table, vectors, k, wanted))[1][0]

    def search_and_total(
        self,
        vectors: FloatArray,
        k: int,
        temperature: float,
        *,
        platform: Platforms = None,
        area: Area | None = None,
        period: Period | None = None,
    ) -> tuple[list[list[Hit]], ScoreTotals | None]:
        check_k(k)
        vectors, wanted = self._asked(vectors, platform, area, period)
        return self._read(lambda table: best_hits(table, vectors, k, wanted, temperature))[1]

    def scores(
        self,
        vectors: FloatArray,
        *,
        platform: Platforms = None,
        area: Area | None = None,
        period: Period | None = None,
    ) -> ScoredImages:
        vectors, wanted = self._asked(vectors, platform, area, period)
        return self._read(lambda table: score_all(table, vectors, wanted))[1]

    def compact(self) -> None:
        """Joins what many ``add`` calls wrote and frees what they replaced.

        Only for a table that no other process reads: older versions of it go at once.
        """
        # 1 ms: "older than now" but not 0, for which LanceDB warns of the readers we don't have.
        _, table = self._follow()
        self._write(lambda: table.optimize(cleanup_older_than=timedelta(milliseconds=1)))

    def _columns(self, rows: Sequence[Row], vectors: FloatArray) -> tuple[Table, pa.Table]:
        manifest, table = self._follow()
        vectors = check_vectors(vectors, manifest.dimension, f"index {str(self._folder)!r}")
        check_rows(rows, len(vectors))
        return table, arrow_rows(rows, vectors, manifest.schema_version)

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
        if not self._pinned and read_manifest(self._folder) != opened:
            found = self._open_current()
            require_experts(found[0].info(0), opened.expert_hash)
            self._current = found
        return self._current

    def _open_current(self) -> tuple[Manifest, Table]:
        """Opens the current generation; the next one if a build swept it away meanwhile."""
        manifest = read_manifest(self._folder)
        while True:
            try:
                return manifest, self._open(manifest)
            except InputError:
                failed, manifest = manifest, read_manifest(self._folder)
                if manifest == failed:
                    raise

    def _open(self, manifest: Manifest) -> Table:
        generation = self._folder / manifest.generation
        if not generation.is_dir():  # asked first, because LanceDB would create it
            raise damaged(self._folder, "its table is missing")
        try:
            table = _connect(generation).open_table(TABLE)
            schema = table.schema
        except STORAGE_ERRORS as error:
            raise storage_error(self._folder, "read", error) from error
        if schema != arrow_schema(manifest.dimension, manifest.schema_version):
            raise damaged(self._folder, f"its table's columns don't fit {MANIFEST}")
        return table


@contextmanager
def build(path: str, manifest: Manifest) -> Iterator[LanceStore]:
    """Builds the index at ``path``; see ``saywhere.store.build_store``.

    Args:
        manifest: what made the vectors; its generation is chosen here.
    """
    folder = Path(path).absolute()
    with lock(folder), generation(folder, manifest) as store:
        yield store


@contextmanager
def generation(folder: Path, manifest: Manifest) -> Iterator[LanceStore]:
    """A new table that becomes the current one when the ``with`` block succeeds.

    Args:
        folder: the index, absolute, whose lock the caller holds.
        manifest: what made the vectors; its generation is chosen here.
    """
    with new_generation(folder, manifest) as made:
        store = _create(folder, made)
        yield store
        store.compact()


def _create(folder: Path, manifest: Manifest) -> LanceStore:
    try:
        database = _connect(folder / manifest.generation)
        database.create_table(TABLE, schema=arrow_schema(manifest.dimension))
    except STORAGE_ERRORS as error:
        raise storage_error(folder, "write", error) from error
    return LanceStore(str(folder), pinned=manifest)


def _connect(generation: Path) -> lancedb.DBConnection:
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", _READ_AHEAD)
    import lancedb

    # 0 s: every read looks for other processes' writes first, or a handle never sees them.
    return lancedb.connect(
        str(generation), read_consistency_interval=timedelta(0), storage_options=_STORAGE
    )


def _row_columns(table: Table) -> tuple[str, ...]:
    return tuple(name for name in table.schema.names if name != VECTOR)
