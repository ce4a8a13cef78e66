"""Images of an index grouped to places, and how well each place answers a query. Arrays only.

Images of one ``place_id`` are one place. The others are linked by distance: a loose image within
half the diameter of a known place joins the nearest such place; the rest are clustered by complete
linkage, cut at the diameter. Complete, because the diameter then bounds how far apart two images of
a place can lie; single linkage would join a whole street, one photo after the other. It takes all
pairs, so of a large index only the ``LINKED`` best-scoring loose images are clustered, and every
other one stands for itself: it weighs in a softmax, and is far from the top.

How well place h answers query q, at temperature T:

    L_h(q) = log sum_p mean_{i in h, of platform p} exp((s(q, i) - m(q)) / T)

The mean, because ten photos of one building are no more evidence than one. The sum over platforms,
because the words describe one view, and a place isn't less probable for being seen in others too.
m(q) is the mean score over the index: what a query gets from whatever it is compared with. A photo
is like all photos of its own platform, whatever they show, so for a photo m(q) is the mean over the
images of i's platform. Measured on rendered worlds, drone photo not in the index: the right place
is first in 60 % of cases with that, in 2 % without; for words it would cost 2 of 16 %.

Some descriptions fit nothing, or the wrong thing well. So a share of a query's evidence, ``stray``,
says nothing: its likelihood is (1 - stray) exp L_h + stray mean_h exp L_h, and one bad description
among several cannot rule the right place out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saywhere.geodesy import chord, positions, unit_vectors
from saywhere.scored_images import ScoredImages
from saywhere.types import PLATFORMS, FloatArray, IntArray, Platform

Floats = NDArray[np.float64]

LINKED = 2000  # loose images clustered: two million pairs
KINDS = len(PLATFORMS) + 1  # platforms, and unknown
_LEAST = 1e-300  # of a sum of exponentials: a logarithm of zero never comes up


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """U places and the m images that show them, images sorted by place and platform.

    Attributes:
        rows: (m,) which of the index's images.
        starts: (g,) where in ``rows`` each group, the images of one platform of one place, begins.
        sizes: (g,) images of each group.
        kinds: (g,) index into ``PLATFORMS``, 3 for unknown.
        first_group: (U,) the first group of each place.
        place: (g,) the place of each group.
        centres: (g, 3) mean direction of the group's positions; zero where none has one.
    """

    rows: IntArray
    starts: IntArray
    sizes: IntArray
    kinds: IntArray
    first_group: IntArray
    place: IntArray
    centres: Floats

    @property
    def count(self) -> int:
        """U."""
        return len(self.first_group)

    def images_of(self, place: int) -> IntArray:
        """Rows of the index's images that show a place."""
        groups = np.flatnonzero(self.place == place)
        last = groups[-1]
        return self.rows[self.starts[groups[0]] : self.starts[last] + self.sizes[last]]


def group_images(images: ScoredImages, diameter_m: float, linked: int = LINKED) -> Places:
    """Groups the images of an index to places.

    Images without a position count where their ``place_id`` has one, and are left out elsewhere.

    Args:
        diameter_m: the most two images of a place without id can lie apart.
        linked: how many loose images are clustered, the best by any query first.
    """
    label = _known_places(images)
    located = np.isfinite(images.lat)
    loose = np.flatnonzero((label < 0) & located)
    vectors = unit_vectors(images.lat, images.lon)
    if len(loose):
        _attach(label, loose, vectors, located, diameter_m / 2)
        loose = loose[label[loose] < 0]
    if len(loose):
        label[loose] = (
            label.max(initial=-1) + 1 + _linked(images, loose, vectors, diameter_m, linked)
        )
    return _places(label, images, vectors)


def answers(
    places: Places,
    scores: FloatArray,
    temperature: float,
    stray: float = 0.0,
    *,
    photos: bool = False,
) -> Floats:
    """Log-likelihoods: (q, U) from (q, n) scores of all images of the index.

    Args:
        temperature: scores are divided by it, above 0.
        stray: share of the evidence that says nothing, in [0, 1).
        photos: the queries are images, so scores are compared within each platform.
    """
    wide = scores.astype(np.float64)
    scaled = wide[:, places.rows]
    if photos:
        scaled -= _platform_means(places, scaled)
    else:
        scaled -= wide.mean(1, keepdims=True)
    scaled /= temperature
    top = scaled.max(1, keepdims=True)
    sums = np.add.reduceat(np.exp(scaled - top), places.starts, 1) / places.sizes
    shares = np.add.reduceat(sums, places.first_group, 1)
    shares = (1 - stray) * shares + stray * shares.mean(1, keepdims=True)
    return np.asarray(top + np.log(shares + _LEAST))


def points(places: Places, error_m: Floats) -> tuple[Floats, Floats, Floats]:
    """Where each place is: (lat, lon, error in metres), (U,) each.

    Platforms are averaged by their precision, one vote a platform: errors of photos of one platform
    are much alike, so more of them don't make the place any better known.

    Args:
        error_m: (4,) standard error, a horizontal axis, by platform; the last for unknown.
    """
    precision = np.where(np.any(places.centres != 0, 1), 1 / np.square(error_m[places.kinds]), 0)
    sums = np.add.reduceat(places.centres * precision[:, None], places.first_group, 0)
    lat, lon = positions(sums)
    return lat, lon, 1 / np.sqrt(np.add.reduceat(precision, places.first_group))


def kind_of(platform: Platform | None) -> int:
    """Index into ``PLATFORMS``, 3 for unknown."""
    return len(PLATFORMS) if platform is None else PLATFORMS.index(platform)


def _platform_means(places: Places, scores: Floats) -> Floats:
    """(q, m): for each image the mean score of all images of its platform."""
    kinds = np.repeat(places.kinds, places.sizes)
    counts = np.maximum(np.bincount(kinds, minlength=KINDS), 1)
    means = np.stack([scores[:, kinds == kind].sum(1) for kind in range(KINDS)], 1) / counts
    return np.asarray(means[:, kinds])


def _known_places(images: ScoredImages) -> IntArray:
    """(n,) number of each image's place_id, -1 for none or for one without any position."""
    placed = {
        name: None
        for name, finite in zip(images.place_ids, np.isfinite(images.lat), strict=True)
        if name is not None and finite
    }
    numbers = {name: number for number, name in enumerate(placed)}
    found = [-1 if name is None else numbers.get(name, -1) for name in images.place_ids]
    return np.asarray(found, np.int64)


def _attach(
    label: IntArray, loose: IntArray, vectors: Floats, located: NDArray[np.bool_], reach_m: float
) -> None:
    """Give loose images near a known place that place's number."""
    from scipy.spatial import cKDTree

    known = np.flatnonzero((label >= 0) & located)
    if not len(known):
        return
    sums = np.zeros((int(label.max()) + 1, 3))
    np.add.at(sums, label[known], vectors[known])
    centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    apart, nearest = cKDTree(centres).query(vectors[loose], distance_upper_bound=chord(reach_m))
    near = np.isfinite(apart)
    label[loose[near]] = nearest[near]


def _linked(
    images: ScoredImages, loose: IntArray, vectors: Floats, diameter_m: float, linked: int
) -> IntArray:
    """(loose,) numbers from 0 of clusters; images beyond the best are clusters of one."""
    from scipy.cluster.hierarchy import fcluster, linkage

    if len(loose) > linked:
        below = images.scores - images.scores.max(1, keepdims=True)
        order = np.argsort(-below.max(0)[loose], kind="stable")
    else:
        order = np.arange(len(loose))
    best, rest = np.sort(order[:linked]), order[linked:]
    out = np.zeros(len(loose), np.int64)
    if len(best) > 1:
        tree = linkage(vectors[loose[best]], "complete")
        out[best] = fcluster(tree, chord(diameter_m), "distance") - 1
    out[rest] = out.max() + 1 + np.arange(len(rest))
    return out


def _places(label: IntArray, images: ScoredImages, vectors: Floats) -> Places:
    kinds = np.asarray([kind_of(platform) for platform in images.platforms], np.int64)
    rows = np.flatnonzero(label >= 0)
    key = label[rows] * KINDS + kinds[rows]
    order = np.argsort(key, kind="stable")
    rows, key = rows[order], key[order]
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    place = key[starts] // KINDS
    first = np.flatnonzero(np.diff(place, prepend=-1))
    located = np.where(np.isfinite(images.lat[rows])[:, None], vectors[rows], 0)
    sums = np.add.reduceat(located, starts, 0) if len(rows) else np.empty((0, 3))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return Places(
        rows=rows,
        starts=starts,
        sizes=np.diff(starts, append=len(rows)),
        kinds=key[starts] % KINDS,
        first_group=first,
        place=np.cumsum(np.diff(place, prepend=-1) > 0) - 1,
        centres=np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0),
    )
