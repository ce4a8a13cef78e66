"""Index a folder of images, and keep the index up to date: all or nothing, embedding what is new.

with the experts loaded:
update_index(embedder(experts), read(folder).records, folder, "index")
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from saywhere.data.raster import Tiled, TileOptions, tile_records
from saywhere.data.sources import Sources, name_sources, remembered_paths
from saywhere.embed import EmbeddedImages, embed_images
from saywhere.errors import (
    DatasetError,
    ExpertError,
    IndexMismatchError,
    InputError,
)
from saywhere.expert_set import ExpertSet
from saywhere.features import Progress
from saywhere.hardware import Runtime
from saywhere.store import SCHEMA_VERSION, StoreInfo, open_writer
from saywhere.store.changes import Changes, find_changes, known_files
from saywhere.store.row import Row
from saywhere.store.writer import IndexWriter
from saywhere.types import Record, Tiling

_CAUSE = re.compile(r"(?s)^.*?: (.*?)(?: \(.*|;.*)?$")
SKIP_REMEDY = "--skip-bad leaves out what is bad"


@dataclass(frozen=True, slots=True)
class Embedder:
    """What makes vectors of images, and the name it leaves in the index.

    Attributes:
        expert_hash: identifies the vectors; an index takes those of one hash only.
        experts: path of the experts folder, by which a search finds them again.
        embed: records to embeddings, one a record in their order, made by these experts; those of
            bad images are left out.
    """

    expert_hash: str
    experts: str
    embed: Callable[[Sequence[Record]], EmbeddedImages]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What an update did.

    Attributes:
        count: images in the index now.
        added, changed, deleted, unchanged: numbers of images; changed are those with other bytes,
            platform, position, place, footprint or time.
        embedded: images that were embedded: the added ones, and the changed ones whose bytes or
            platform are others.
        unreachable: kept images whose files are missing but not known to be deleted, or whose
            entries may be among those skipped; part of ``unchanged``.
        with_coordinates: images in the index that have a position.
        skipped: one line about each entry and image left out. Of an image that was in the index
            before, the row stays, as part of ``unchanged``.
        seconds: wall-clock time, reading the folder not included.
        expert_hash: who made the vectors.
        read: what the sources held, sound or not: ``images`` that are no georeferenced raster,
            ``whole_rasters`` kept as one image, ``rasters`` cut into ``tiles``.
        left_out: numbers by reason, of ``skipped`` and of tiles without data.
        tiling: how rasters were cut.
        notes: what the reader must know, a line each.
    """

    count: int
    added: int
    changed: int
    deleted: int
    unchanged: int
    embedded: int
    unreachable: int
    with_coordinates: int
    skipped: tuple[str, ...]
    seconds: float
    expert_hash: str
    read: Mapping[str, int]
    left_out: Mapping[str, int]
    tiling: Tiling
    notes: tuple[str, ...]


def embedder(
    experts: ExpertSet, *, runtime: Runtime | None = None, progress: Progress | None = None
) -> Embedder:
    """Embeds by ``experts``; features are cached, so what a kill interrupts costs nothing twice.

    Raises:
        ExpertError: ``experts`` were never saved, so the index could not name them.
    """
    if experts.folder is None:
        raise ExpertError("experts without a folder: save them before indexing with them")

    def embed(records: Sequence[Record]) -> EmbeddedImages:
        return embed_images(experts, records, runtime=runtime, progress=progress, skip_bad=True)

    return Embedder(experts.hash, str(experts.folder.resolve()), embed)


def update_index(
    by: Embedder,
    records: Sequence[Record],
    root: Path | Sources,
    uri: str,
    *,
    rebuild: bool = False,
    prune: bool = False,
    skipped: Sequence[str] | None = None,
    tiles: TileOptions | None = None,
) -> IndexReport:
    """Makes the index at ``uri`` hold exactly ``records``, building it where there is none.

    Large rasters among them are cut into tiles, see ``saywhere.data.raster``. Unchanged files are
    neither read nor embedded; see ``saywhere.store.changes``. Until the very end, and for ever if
    anything fails or the process is killed, the index stays as it was.

    Args:
        records: all images of ``root``, each image_id once, at least one.
        root: the indexed folder or dataset file, or several; an index stays with its root.
        rebuild: start anew, whatever experts, root or schema the index at ``uri`` has.
        prune: delete images whose files are missing, even if they are most of the index, or if
            their folder is empty as an unmounted disk would be; images that cannot be read, too.
        skipped: None refuses images that cannot be read or decoded. A sequence, of what reading the
            dataset left out, leaves them out as well, and adds a line about each to its own.
        tiles: how to cut large rasters, as far as it differs from how the index has them; an index
            remembers it until it is rebuilt.

    Raises:
        DatasetError: images that cannot be read or decoded, all of them listed; with ``skipped``
            only where no image is left without them. What was embedded stays cached.
        IndexMismatchError: the index is of other experts, another root or a later schema.
        InputError: more than half of the images would be deleted without ``prune``; no records;
            another process at work on the index; storage that cannot be read or written.
    """
    started = time.perf_counter()
    sources = name_sources([root]) if isinstance(root, Path) else root
    label = sources.named[0][1] if len(sources.named) == 1 else Path(str(sources))
    if not records:
        raise InputError(f"{label}: holds no image to index; check the path")
    with open_writer(uri) as writer:
        before = None if rebuild else writer.info()
        if before:
            _require_same(before, by, sources, uri)
        rows = writer.rows() if before else []
        remembered = before.tiling if before else None
        tiling = (tiles or TileOptions()).over(remembered or Tiling())
        tiled = tile_records(records, tiling, known_files(rows) if tiling == remembered else None)
        if tiled.problems and skipped is None:
            raise DatasetError(label, tiled.problems, SKIP_REMEDY)
        faults = (*(skipped or ()), *tiled.problems)
        changes = find_changes(rows, tiled.records, sources, prune=prune, incomplete=bool(faults))
        if not prune:
            _require_most(rows, changes, sources, uri)
        embedded = by.embed([p.record for p in changes.pending]) if changes.pending else None
        bad = embedded.bad if embedded else {}
        if bad and skipped is None:
            raise DatasetError(label, tuple(bad.values()), SKIP_REMEDY)
        left_out = (*faults, *bad.values())
        changes = changes.without(bad, prune=prune)
        if not changes.kept and not changes.pending:
            raise DatasetError(label, left_out)
        target = StoreInfo(SCHEMA_VERSION, by.expert_hash, 0, 0, by.experts, sources.text,
                           tiling)  # fmt: skip
        info = _apply(writer, before, changes, embedded, target)
    return _report(info, changes, (tiled, tiling, left_out), time.perf_counter() - started)


def _report(
    info: StoreInfo,
    changes: Changes,
    read: tuple[Tiled, Tiling, tuple[str, ...]],
    seconds: float,
) -> IndexReport:
    tiled, tiling, skipped = read
    return IndexReport(
        count=info.count,
        added=changes.added,
        changed=changes.changed,
        deleted=len(changes.deleted),
        unchanged=info.count - changes.added - changes.changed,
        embedded=len(changes.pending),
        unreachable=len(changes.unreachable),
        with_coordinates=changes.with_coordinates,
        skipped=skipped,
        seconds=seconds,
        expert_hash=info.expert_hash,
        read={
            "images": tiled.images,
            "whole_rasters": tiled.whole,
            "rasters": tiled.rasters,
            "tiles": tiled.tiles,
        },
        left_out=_reasons(skipped) | ({"tile without data": tiled.empty} if tiled.empty else {}),
        tiling=tiling,
        notes=tiled.notes,
    )


def _reasons(lines: Sequence[str]) -> dict[str, int]:
    """How many lines give which cause: what stands between the name and details or remedy."""
    causes = (re.sub(r"\d[\d,.]*", "N", _CAUSE.sub(r"\1", line)) for line in lines)
    return dict(Counter(causes).most_common())


def _require_most(rows: Sequence[Row], changes: Changes, sources: Sources, uri: str) -> None:
    """Refuse to delete more than half of any source: its disk may not be mounted."""
    held = Counter(sources.of(row.image_id) for row in rows)
    deleted = changes.deleted[changes.recut :]  # tiles that are cut otherwise come first
    for source, gone in Counter(sources.of(image_id) for image_id in deleted).items():
        if 2 * gone > held[source]:
            raise InputError(
                f"index {uri!r}: {gone} of its {held[source]} images are gone from "
                f"{str(source)!r}; mount or restore what is missing, or drop them with --prune"
            )


def _require_same(before: StoreInfo, by: Embedder, root: Sources, uri: str) -> None:
    if before.expert_hash != by.expert_hash:
        raise IndexMismatchError(
            f"index {uri!r}: built by experts {before.expert_hash[:12]}, not by "
            f"{by.expert_hash[:12]}; use those in {before.experts!r}, choose another --index, or "
            "build it anew with --rebuild"
        )
    if before.root != root.text:
        raise IndexMismatchError(
            f"index {uri!r}: is of {', '.join(remembered_paths(before.root))!r}, not of "
            f"{', '.join(remembered_paths(root.text))!r}; name the same, choose "
            "another --index, or build it anew with --rebuild (images embedded before stay cached)"
        )


def _apply(
    writer: IndexWriter,
    before: StoreInfo | None,
    changes: Changes,
    embedded: EmbeddedImages | None,
    target: StoreInfo,
) -> StoreInfo:
    current = before is not None and before.schema_version == SCHEMA_VERSION
    same = before and (before.experts, before.tiling) == (target.experts, target.tiling)
    if before and current and not changes.rewrites and same:
        return before
    if embedded is None or not changes.pending:
        dimension = before.dimension if before else 0
        return writer.write(replace(target, dimension=dimension), changes.kept)
    vectors = embedded.embeddings.vectors
    pairs = zip(changes.pending, embedded.content_hashes, strict=True)
    rows = [pending.row(content_hash) for pending, content_hash in pairs]
    return writer.write(replace(target, dimension=vectors.shape[1]), changes.kept, rows, vectors)
