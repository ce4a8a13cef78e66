"""The one process that may rewrite an index: kept vectors are copied, new ones are added.

Every rewrite is a whole new generation. That costs a copy of the table, some seconds for 100,000
images and room for two of it, and buys three things: readers see the old index or the new one and
nothing between, a process may die at any moment, and no space is ever lost to deleted rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from saywhere.store import StoreInfo
from saywhere.store.generations import MANIFEST, Manifest, lock
from saywhere.store.lance import LanceStore, generation
from saywhere.store.row import Row
from saywhere.types import FloatArray


class IndexWriter:
    """Reads an index and replaces it, while it holds the lock.

    Args:
        folder: the index, absolute.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def info(self) -> StoreInfo | None:
        """What the index holds; None where there is none yet.

        Raises:
            InputError: an index that cannot be read.
            IndexMismatchError: an index of a later schema.
        """
        return self._open().info() if (self._folder / MANIFEST).exists() else None

    def rows(self) -> list[Row]:
        """All images of the index, in no particular order; errors as ``info``."""
        return self._open().rows()

    def write(
        self,
        made: StoreInfo,
        kept: Mapping[str, Row],
        rows: Sequence[Row] = (),
        vectors: FloatArray | None = None,
    ) -> StoreInfo:
        """Replaces the index, all or nothing, and frees the disk space of the old one.

        A search that the replacement interrupts starts again on the new index.

        Args:
            made: who made the vectors, of what; its count and schema version don't matter.
            kept: by image_id, images of the index whose vectors stay, as they are to be recorded.
            rows: n images that ``kept`` doesn't have.
            vectors: (n, d) float32, finite, row i belonging to ``rows[i]``.

        Raises:
            InputError: shapes that don't fit, a component that is not finite, or storage that
                cannot be read or written; the index stays as it was.
        """
        manifest = Manifest(made.expert_hash, made.dimension, made.experts, made.root, made.tiling)
        with generation(self._folder, manifest) as store:
            for part, block in self._copies(kept) if kept else ():
                store.append(part, block)
            if vectors is not None:
                store.append(rows, vectors)
            count = store.info().count
        return replace(made, count=count, schema_version=manifest.schema_version)

    def _copies(self, kept: Mapping[str, Row]) -> Iterator[tuple[list[Row], FloatArray]]:
        waiting = dict(kept)
        for ids, vectors in self._open().vectors():
            chosen = [place for place, image_id in enumerate(ids) if image_id in waiting]
            # Popped, so that a damaged index that holds an image twice is mended on the way.
            yield [waiting.pop(ids[place]) for place in chosen], vectors[chosen]

    def _open(self) -> LanceStore:
        return LanceStore(str(self._folder))


@contextmanager
def writer(path: str) -> Iterator[IndexWriter]:
    """Takes the index at ``path``; see ``saywhere.store.open_writer``."""
    folder = Path(path).absolute()
    with lock(folder):
        yield IndexWriter(folder)
