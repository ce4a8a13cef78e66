"""Retrieval metrics of labelled vectors: dot products, scored a block of queries at a time.

What ``saywhere.metrics`` says of ties, NaN and misses holds here too. No matrix of all queries and
all images is ever built.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from saywhere.errors import InputError
from saywhere.metrics import (
    average_precision,
    expected_hits,
    ranks,
    require_float,
    require_positives,
)
from saywhere.types import BoolArray, FloatArray, IntArray


def ranks_of_labels(
    queries: FloatArray,
    gallery: FloatArray,
    query_labels: IntArray,
    gallery_labels: IntArray,
    *,
    chunk: int = 1024,
    allow_missing: bool = False,
) -> IntArray:
    """``metrics.ranks`` of dot products, ``chunk`` queries at a time; equal labels are positives.

    Args:
        queries: (q, d) floating point; not necessarily unit length.
        gallery: (g, d) floating point. Rows that are equal bit by bit score equal bit by bit.
        query_labels: (q,) int64.
        gallery_labels: (g,) int64.
        chunk: queries scored together; memory is about 12 * chunk * g bytes.
        allow_missing: as in ``metrics.ranks``.

    Returns:
        (q,) int64, as ``metrics.ranks``.

    Raises:
        InputError: as in ``metrics.ranks``.
    """
    result = np.empty(queries.shape[:1], np.int64)
    labels = (query_labels, gallery_labels)
    for rows, block, mask in _label_blocks(queries, gallery, labels, chunk, allow_missing):
        result[rows] = ranks(block, mask, allow_missing=True)
    return result


def ranks_and_ap_of_labels(
    queries: FloatArray,
    gallery: FloatArray,
    query_labels: IntArray,
    gallery_labels: IntArray,
    *,
    chunk: int = 1024,
    allow_missing: bool = False,
) -> tuple[IntArray, FloatArray]:
    """Ranks and average precision of dot products, in one pass over the gallery.

    Arguments and errors are those of ``ranks_of_labels``. Returns (q,) int64 and (q,) float32,
    ready for ``metrics.summarise``.
    """
    best = np.empty(queries.shape[:1], np.int64)
    precision = np.empty(queries.shape[:1], np.float32)
    labels = (query_labels, gallery_labels)
    for rows, block, mask in _label_blocks(queries, gallery, labels, chunk, allow_missing):
        best[rows] = ranks(block, mask, allow_missing=True)
        precision[rows] = average_precision(block, mask, allow_missing=True)
    return best, precision


def expected_hits_of_labels(
    queries: FloatArray,
    gallery: FloatArray,
    query_labels: IntArray,
    gallery_labels: IntArray,
    cuts: Sequence[int],
    *,
    chunk: int = 1024,
) -> FloatArray:
    """``metrics.expected_hits`` of dot products at each of ``cuts``: (cuts, q) float32.

    Other arguments and errors are those of ``ranks_of_labels``.
    """
    result = np.empty((len(cuts), len(queries)), np.float32)
    labels = (query_labels, gallery_labels)
    for rows, block, mask in _label_blocks(queries, gallery, labels, chunk, allow_missing=False):
        result[:, rows] = [expected_hits(block, mask, k) for k in cuts]
    return result


def _label_blocks(
    queries: FloatArray,
    gallery: FloatArray,
    labels: tuple[IntArray, IntArray],
    chunk: int,
    allow_missing: bool,
) -> Iterator[tuple[slice, FloatArray, BoolArray]]:
    """Check vectors and (query, gallery) labels, then score them in blocks of queries."""
    query_labels, gallery_labels = labels
    _require_vectors("queries", queries, query_labels)
    _require_vectors("gallery", gallery, gallery_labels)
    if queries.shape[1] != gallery.shape[1]:
        raise InputError(
            f"queries {queries.shape}, gallery {gallery.shape}: widths differ; embed both with the "
            "same experts"
        )
    if chunk < 1:
        raise InputError(f"chunk {chunk}: must be at least 1")
    if not allow_missing:
        require_positives(np.isin(query_labels, gallery_labels))
    # A matrix product may round equal columns differently by where they stand, which would break
    # ties (captions repeat) at random. So each distinct vector is scored once, and the gallery is
    # taken in an order of its own that no shuffling changes.
    row_bytes = np.dtype((np.void, gallery.itemsize * gallery.shape[1]))
    keys = np.ascontiguousarray(gallery).view(row_bytes).ravel()
    _, first, copies = np.unique(keys, return_index=True, return_counts=True)
    distinct, owners = gallery[first].T, gallery_labels[np.argsort(keys, kind="stable")]
    source = np.repeat(np.arange(len(first)), copies)
    for start in range(0, len(queries), chunk):
        rows = slice(start, start + chunk)
        with np.errstate(all="ignore"):  # NaN scores have a meaning, see metrics
            scores = queries[rows] @ distinct
        every = scores if len(source) == len(first) else scores[:, source]
        yield rows, every, query_labels[rows, None] == owners


def _require_vectors(name: str, vectors: FloatArray, labels: IntArray) -> None:
    if vectors.ndim != 2 or not vectors.size or labels.shape != vectors.shape[:1]:
        raise InputError(
            f"{name} {vectors.shape} with labels {labels.shape}: pass (n, d), not empty, and (n,)"
        )
    require_float(name, vectors)
