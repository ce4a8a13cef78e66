"""The embedded store: a LanceDB table in a folder, no server.

    index/
      saywhere-index.json            what made the index, and which generation is current
      generation-6f0c…/images.lance  the table

A build fills a generation of its own and then replaces the JSON file, in one atomic step. So the
folder holds a whole index at every moment, and whatever a killed build left is nobody's current
generation: the next build sweeps it away.

Searches read every vector, in one pass for many queries. That is exact to the last tie, and needs
no index to train and no candidates to guess. LanceDB must not be forked: spawn workers.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from saywhere.errors import IndexMismatchError, InputError
from saywhere.store import (
    SCHEMA_VERSION,
    Row,
    StoreInfo,
    check_k,
    check_vectors,
    contenders,
    exact_scores,
    require_experts,
)
from saywhere.types import FloatArray, Hit, Platform

if TYPE_CHECKING:
    import lancedb
    import pyarrow as pa
    from lancedb.table import Table

MANIFEST = "saywhere-index.json"
TABLE = "images"
GENERATION = re.compile(r"generation-[0-9a-f]{12}")
HIT_COLUMNS = ("image_id", "path", "platform", "place_id", "lat", "lon")
# Scores held at once, queries x images: 64 MB of float32. More queries take another pass.
MAX_SCORES = 2**24
# What LanceDB and PyArrow raise for storage they cannot read or write.
STORAGE_ERRORS = (RuntimeError, OSError, ValueError)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What the JSON file says: who made the vectors, of what, and where the table lies."""

    expert_hash: str
    dimension: int
    experts: str
    root: str
    generation: str = ""
    schema_version: int = SCHEMA_VERSION


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
        manifest = pinned or _read_manifest(self._folder)
        # One attribute, replaced whole: threads never see a table with another's manifest.
        self._current = (manifest, self._open(manifest))

    def info(self) -> StoreInfo:
        manifest, count = self._read(lambda table: int(table.count_rows()))
        return _store_info(manifest, count)

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
                    raise _storage_error(self._folder, "read", error) from error

    def _write(self, job: Callable[[], object]) -> None:
        try:
            job()
        except STORAGE_ERRORS as error:
            raise _storage_error(self._folder, "write", error) from error

    def _follow(self) -> tuple[Manifest, Table]:
        opened, _ = self._current
        if self._pinned:
            return self._current
        manifest = _read_manifest(self._folder)
        if manifest != opened:
            require_experts(_store_info(manifest, 0), opened.expert_hash)
            self._current = (manifest, self._open(manifest))
        return self._current

    def _open(self, manifest: Manifest) -> Table:
        generation = self._folder / manifest.generation
        if not generation.is_dir():  # asked first, because LanceDB would create it
            raise _damaged(self._folder, "its table is missing")
        try:
            table = _connect(generation).open_table(TABLE)
            schema = table.schema
        except STORAGE_ERRORS as error:
            raise _storage_error(self._folder, "read", error) from error
        if schema != _arrow_schema(manifest.dimension):
            raise _damaged(self._folder, f"its table's columns don't fit {MANIFEST}")
        return table


@contextmanager
def build(path: str, manifest: Manifest) -> Iterator[LanceStore]:
    """Builds the index at ``path``; see ``saywhere.store.build_store``.

    Args:
        manifest: what made the vectors; its generation is chosen here.
    """
    folder = Path(path).absolute()
    manifest = replace(manifest, generation=f"generation-{secrets.token_hex(6)}")
    with _build_lock(folder):
        _require_nothing_else(folder)
        before = _current_generation(folder)
        if before is not None:
            _sweep(folder, keep=before)  # what killed builds left
        try:
            store = _create(folder, manifest)
            yield store
            store.compact()
            _commit(folder, manifest)
        finally:
            # Asks the disk: an interrupt may have come just after the commit.
            if _current_generation(folder) == manifest.generation:
                _sweep(folder, keep=manifest.generation)
            else:
                shutil.rmtree(folder / manifest.generation, ignore_errors=True)


def _create(folder: Path, manifest: Manifest) -> LanceStore:
    generation = folder / manifest.generation
    try:
        generation.mkdir()
        _connect(generation).create_table(TABLE, schema=_arrow_schema(manifest.dimension))
    except STORAGE_ERRORS as error:
        raise _storage_error(folder, "write", error) from error
    return LanceStore(str(folder), pinned=manifest)


def _commit(folder: Path, manifest: Manifest) -> None:
    # Written inside the generation, which a sweep removes whole if we die before the replace.
    draft = folder / manifest.generation / MANIFEST
    try:
        draft.write_text(json.dumps(asdict(manifest), indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / MANIFEST)
    except OSError as error:
        raise _storage_error(folder, "write", error) from error


@contextmanager
def _build_lock(folder: Path) -> Iterator[None]:
    """Holds the folder for one build; the lock dies with the process, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _storage_error(folder, "write", error) from error
    try:
        _lock(handle, folder)
        try:
            yield
        finally:
            with suppress(OSError):  # only an empty folder goes: one whose first build failed
                folder.rmdir()
    finally:
        os.close(handle)


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"index {str(folder)!r}: another process is building it; wait for that to finish"
        ) from error
    except OSError as error:
        raise _storage_error(folder, "lock", error) from error


def _require_nothing_else(folder: Path) -> None:
    names = [path.name for path in folder.iterdir()]
    strange = [name for name in names if name != MANIFEST and not GENERATION.fullmatch(name)]
    if strange:
        raise InputError(
            f"index {str(folder)!r}: holds {min(strange)!r}, which is no part of an index; "
            "choose a folder that is new or empty"
        )


def _current_generation(folder: Path) -> str | None:
    """The generation in use, "" where there is none, None where it may be any of them."""
    if not (folder / MANIFEST).exists():
        return ""
    try:
        return _read_manifest(folder).generation
    except (InputError, IndexMismatchError):
        return None


def _sweep(folder: Path, *, keep: str) -> None:
    for path in folder.iterdir():
        if GENERATION.fullmatch(path.name) and path.name != keep:
            shutil.rmtree(path, ignore_errors=True)


def _read_manifest(folder: Path) -> Manifest:
    try:
        found = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"no index at {str(folder)!r}; build one with `saywhere index DIR`"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(folder, f"{MANIFEST} cannot be read ({_one_line(error)})") from error
    version = found.get("schema_version") if isinstance(found, dict) else None
    if type(version) is not int:
        raise _damaged(folder, f"{MANIFEST} names no schema version")
    if version != SCHEMA_VERSION:
        raise IndexMismatchError(
            f"index {str(folder)!r}: written in schema {version}, this saywhere reads schema "
            f"{SCHEMA_VERSION}; rebuild it with `saywhere index DIR`"
        )
    return _checked_manifest(folder, found)


def _checked_manifest(folder: Path, found: dict[str, Any]) -> Manifest:
    kinds = {"expert_hash": str, "dimension": int, "experts": str, "root": str, "generation": str}
    wrong = [name for name, kind in kinds.items() if type(found.get(name)) is not kind]
    if wrong:
        raise _damaged(folder, f"{MANIFEST} has no proper {', '.join(wrong)}")
    # Checked because it becomes part of a path.
    if not GENERATION.fullmatch(found["generation"]) or found["dimension"] < 1:
        raise _damaged(folder, f"{MANIFEST} names no generation or no dimension")
    return Manifest(**{name: found[name] for name in kinds})


def _store_info(manifest: Manifest, count: int) -> StoreInfo:
    known = asdict(manifest)
    del known["generation"]
    return StoreInfo(count=count, **known)


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


def _damaged(folder: Path, cause: str) -> InputError:
    return InputError(
        f"index {str(folder)!r}: {cause}; it is damaged, rebuild it with `saywhere index DIR`"
    )


def _storage_error(folder: Path, verb: str, error: Exception) -> InputError:
    return InputError(
        f"index {str(folder)!r}: cannot {verb} it ({_one_line(error)}); check the disk and the "
        "permissions, or rebuild it with `saywhere index DIR`"
    )


def _one_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
