"""Track 4 submissions: queries and a folder of nameless images in, ``submission.txt`` out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from saywhere.embed import embed_images, embed_queries
from saywhere.errors import DatasetError
from saywhere.expert_set import ExpertSet
from saywhere.features import Progress
from saywhere.hardware import Runtime
from saywhere.search import rank_exact
from saywhere.submission import write_submission
from saywhere.types import Query, Record

ANSWERS = 10


def submit(
    experts: ExpertSet,
    queries: Sequence[Query],
    records: Sequence[Record],
    out: Path,
    *,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> Path:
    """Rank a folder of images for each query and write the submission and its zip.

    Platforms are taken for unknown: neither names nor folders are believed.

    Returns:
        the zip, beside ``out``.

    Raises:
        DatasetError: two images of one name; a submission could not tell them apart.
        InputError, ImageError, ExpertError: see ``write_submission`` and ``embed``.
    """
    named = [replace(r, image_id=r.path.stem, platform=None, place_id=None) for r in records]
    _check_names(named)
    gallery = embed_images(experts, named, runtime=runtime, progress=progress).embeddings
    asked = embed_queries(experts, queries, runtime=runtime)
    order = rank_exact(asked, gallery, ANSWERS)
    ranked = {
        query.query_id: [gallery.ids[column] for column in row]
        for query, row in zip(queries, order, strict=True)
    }
    return write_submission(out, ranked, length=ANSWERS, gallery=len(gallery.ids))


def _check_names(records: Sequence[Record]) -> None:
    seen: dict[str, Path] = {}
    problems = []
    for record in records:
        if record.image_id in seen:
            problems.append(
                f"{record.path.name}: named like {seen[record.image_id]}; "
                "a submission names images without folder and suffix: rename one"
            )
        seen[record.image_id] = record.path
    if problems:
        raise DatasetError(records[0].path.parent, problems)
