"""Build an index of a folder of images: read, embed, store, all or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saywhere.bundle import ExpertSet
from saywhere.embed import embed_images
from saywhere.errors import ExpertError
from saywhere.features import Progress
from saywhere.store import Row, StoreInfo, build_store, open_store
from saywhere.types import Record

_CHUNK = 4096


def build_index(
    experts: ExpertSet,
    records: Sequence[Record],
    root: Path,
    uri: str,
    *,
    threads: int = 2,
    progress: Progress | None = None,
) -> StoreInfo:
    """Embed ``records`` into a new index at ``uri``; an old one is replaced at the very end.

    Args:
        root: the indexed folder, kept for messages and rebuilds.

    Raises:
        ImageError: an image that cannot be decoded; the old index stays.
        ExpertError: ``experts`` were never saved, so the index could not name them.
        InputError: ``uri`` cannot be written.
    """
    if experts.folder is None:
        raise ExpertError("experts without a folder: save them before indexing with them")
    # Embedding first: features are cached, so a failure or a kill here costs nothing twice.
    embedded = embed_images(experts, records, threads=threads, progress=progress)
    rows = [
        Row(
            image_id=record.image_id,
            path=str(record.path.resolve()),
            content_hash=digest,
            platform=record.platform,
            place_id=record.place_id,
            lat=record.lat,
            lon=record.lon,
        )
        for record, digest in zip(records, embedded.content_hashes, strict=True)
    ]
    vectors = embedded.embeddings.vectors
    with build_store(
        uri,
        expert_hash=experts.hash,
        dimension=vectors.shape[1],
        experts=str(experts.folder.resolve()),
        root=str(root.resolve()),
    ) as store:
        for start in range(0, len(rows), _CHUNK):
            store.add(rows[start : start + _CHUNK], vectors[start : start + _CHUNK])
    return open_store(uri).info()
