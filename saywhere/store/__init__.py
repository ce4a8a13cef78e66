"""Where image vectors are kept: one small protocol, the engine behind it chosen by URI.

An index is bound to the experts that made its vectors and refuses vectors of others. Vectors are
folded, so they are not unit length: scores are dot products, never cosines.

    with build_store("index", expert_hash=h, dimension=d, experts="exp", root="photos") as store:
        store.add(rows, vectors)
    open_store("index", expert_hash=h).search(query_vectors, k=10)
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from saywhere.area import Area
from saywhere.data.sources import remembered_paths
from saywhere.errors import IndexMismatchError, InputError
from saywhere.period import Period
from saywhere.products import ScoreTotals
from saywhere.scored_images import ScoredImages
from saywhere.store.row import Row
from saywhere.types import FloatArray, Hit, Platform, Tiling

if TYPE_CHECKING:
    from saywhere.store.writer import IndexWriter

Platforms = Platform | Collection[Platform] | None  # None: of any, and of unknown platform

SCHEMA_VERSION = 3
MAX_K = 10_000
# Products of two components of this size, summed over any dimension we use, still fit a float32.
LARGEST_COMPONENT = 1e15
SCHEMES = ("lance",)


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What an index says about itself.

    Attributes:
        schema_version: layout of the index on disk.
        expert_hash: the experts that made the vectors.
        dimension: length of every vector.
        count: number of images.
        experts: path of the experts folder, as it was given to the build.
        root: the folder that was indexed, as it was given to the build.
        tiling: how large rasters were cut; None where nothing says so.
    """

    schema_version: int
    expert_hash: str
    dimension: int
    count: int
    experts: str
    root: str
    tiling: Tiling | None = None


class VectorStore(Protocol):
    """An index of images. One handle may be shared by threads, but not by forked processes."""

    def info(self) -> StoreInfo:
        """Says what the index holds now, other processes' writes included."""

    def add(self, rows: Sequence[Row], vectors: FloatArray) -> None:
        """Adds images, replacing those whose image_id is already there; all of them or none.

        Args:
            rows: n images, each image_id once.
            vectors: (n, d) float32, finite, row i belonging to ``rows[i]``.

        Raises:
            InputError: shapes that don't fit, a component that is not finite, an image_id twice,
                or storage that cannot be written.
        """

    def search(
        self,
        vectors: FloatArray,
        k: int,
        *,
        platform: Platforms = None,
        area: Area | None = None,
        period: Period | None = None,
    ) -> list[list[Hit]]:
        """Finds the images of highest dot product, exactly.

        Args:
            vectors: (q, d) float32 folded queries, finite.
            k: 1 to 10,000; fewer hits come back where fewer images qualify.
            platform: only images recorded as of this platform, or one of these.
            area: only images whose position lies in it.
            period: only images known to be taken in it.

        Returns:
            q lists of hits, best first, rank from 1; equal scores are in order of image_id.

        Raises:
            InputError: vectors, k or platform out of range, or an index that cannot be read.
            IndexMismatchError: other experts have rebuilt the index since it was opened.
        """

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
        """As ``search``, and what the scores of all images that qualify come to, in one pass.

        Args:
            temperature: of ``ScoreTotals``, above 0.

        Returns:
            (hits, totals); None for totals from an engine that doesn't see every score.
        """

    def scores(
        self,
        vectors: FloatArray,
        *,
        platform: Platforms = None,
        area: Area | None = None,
        period: Period | None = None,
    ) -> ScoredImages:
        """Scores every image that qualifies; arguments and errors as ``search``."""


def build_store(
    uri: str, *, expert_hash: str, dimension: int, experts: str, root: str
) -> AbstractContextManager[VectorStore]:
    """Builds an index; it takes the place of the one at ``uri`` when the ``with`` block succeeds.

    Until then, and for ever if the block raises or the process is killed, the index that was at
    ``uri`` stays as it was and goes on answering. A second build of it meanwhile is refused.

    Args:
        uri: a path, or ``lance://path``; missing parents are made.
        expert_hash: the experts that make the vectors.
        dimension: length of every vector.
        experts: path of the experts folder, kept for ``StoreInfo``.
        root: the folder being indexed, kept for ``StoreInfo``.

    Raises:
        InputError: an unknown scheme, a folder that holds something else, an index that is being
            built already, or storage that cannot be written.
    """
    from saywhere.store.generations import Manifest
    from saywhere.store.lance import build

    path = index_folder(uri)
    if not expert_hash or dimension < 1:
        raise InputError(
            f"index {uri!r}: expert hash {expert_hash!r} and dimension {dimension} describe no "
            "vectors; give those of the experts that embed the images"
        )
    return build(path, Manifest(expert_hash, dimension, experts=str(experts), root=str(root)))


def open_store(uri: str, *, expert_hash: str | None = None) -> VectorStore:
    """Opens an index for searching and adding.

    Args:
        uri: a path, or ``lance://path``.
        expert_hash: the experts at hand; None to open whatever is there, as ``info`` needs.

    Raises:
        InputError: an unknown scheme, no index at ``uri``, or one that cannot be read.
        IndexMismatchError: other experts made the index, or its schema is another.
    """
    from saywhere.store.lance import LanceStore

    store = LanceStore(index_folder(uri))
    if expert_hash is not None:
        require_experts(store.info(), expert_hash)
    return store


def open_writer(uri: str) -> AbstractContextManager[IndexWriter]:
    """Takes an index for rewriting it; a second process that wants to is refused meanwhile.

    Whoever searches the index is not disturbed. The writer serves within the ``with`` block only.

    Args:
        uri: a path, or ``lance://path``, where an index is or will be; missing parents are made.

    Raises:
        InputError: an unknown scheme, a folder that holds something else, an index that is being
            built or added to already, or storage that cannot be written.
    """
    from saywhere.store.writer import writer

    return writer(index_folder(uri))


def require_experts(built: StoreInfo, given: str) -> None:
    """Refuses vectors that other experts made.

    Raises:
        IndexMismatchError: ``given`` is not the hash the index was built with.
    """
    if built.expert_hash != given:
        paths = remembered_paths(built.root) if built.root else ["DIR"]
        folder = shlex.join(paths)
        raise IndexMismatchError(
            f"index of {', '.join(paths)!r}: built by experts {built.expert_hash[:12]}, asked by "
            f"experts {given[:12]}, whose vectors don't compare; use the experts in "
            f"{built.experts!r}, or rebuild it with `saywhere index {folder} --rebuild`"
        )


def check_vectors(vectors: FloatArray, dimension: int, what: str) -> FloatArray:
    """Returns ``vectors`` as C-ordered float32, having checked that they are (n, dimension).

    Args:
        what: names the vectors in the message.

    Raises:
        InputError: another shape, or a component that is not finite or beyond 1e15.
    """
    array = np.asarray(vectors)
    if array.ndim != 2 or array.shape[1] != dimension:
        raise InputError(
            f"{what}: vectors of shape {array.shape} do not fit (n, {dimension}); "
            "embed them with the experts of the index"
        )
    bad = ~(np.abs(array) <= LARGEST_COMPONENT).all(axis=1)  # a NaN compares false
    if bad.any():
        raise InputError(
            f"{what}: vector {int(bad.argmax())} has a component that is not finite or beyond "
            f"{LARGEST_COMPONENT:g}; check the experts' weights and embed again"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def check_k(k: int) -> None:
    """Refuses a number of hits that is not in 1 to 10,000.

    Raises:
        InputError: it is not.
    """
    if not 1 <= k <= MAX_K:
        raise InputError(f"k = {k}: cannot return that many hits; give 1 to {MAX_K:,}")


def index_folder(uri: str) -> str:
    """The folder that an index URI names, as it was given.

    Raises:
        InputError: an unknown scheme, or no folder.
    """
    scheme, separator, rest = str(uri).partition("://")
    path = rest if separator else str(uri)
    if separator and scheme not in SCHEMES:
        known = ", ".join(f"{name}://path" for name in SCHEMES)
        raise InputError(f"index {uri!r}: unknown scheme {scheme!r}; give a path or {known}")
    if not path or "\0" in path:
        raise InputError(f"index {uri!r}: names no folder; give a path, as in `index`")
    return path
