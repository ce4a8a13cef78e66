"""Evaluation: both directions, by image and by place, overall and per platform, with intervals.

A row of the report is one question ("text to image, by image, drone queries, mixed gallery") with
its recalls, their 95 % intervals (bootstrapped by place) and what chance would give. Ranks break
ties against the system; see ``metrics``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from saywhere.bootstrap import interval
from saywhere.embed import embed_images, embed_queries
from saywhere.expert_set import ExpertSet
from saywhere.features import Progress
from saywhere.hardware import Runtime
from saywhere.metrics import Retrieval, chance_recall, summarise
from saywhere.protocol import official, official_gap
from saywhere.task import Task
from saywhere.trainset import codes
from saywhere.types import PLATFORMS, FloatArray, IntArray, Platform, Record
from saywhere.vector_metrics import expected_hits_of_labels, ranks_and_ap_of_labels

Direction = Literal["t2i", "i2t"]
_CUTS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Row:
    """One question and its answer.

    Attributes:
        direction: ``t2i`` or ``i2t``.
        positives: ``image`` (its own texts or image only) or ``place`` (any of the same place).
        platform: ``all``, or the platform of the image side of the pair.
        gallery: ``mixed``, or ``own`` (only that platform's images or their texts).
        intervals: (low, high) of each recall, percent, 95 %, bootstrapped by place.
        chance: recalls of a random order, percent.
        even_ties: recalls expected where equal scores are ordered at random, percent.
    """

    direction: Direction
    positives: str
    platform: str
    gallery: str
    retrieval: Retrieval
    intervals: Mapping[str, tuple[float, float]]
    chance: Mapping[str, float]
    even_ties: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, flat."""
        return {
            "direction": self.direction,
            "positives": self.positives,
            "platform": self.platform,
            "gallery": self.gallery,
            **self.retrieval.to_dict(),
            "intervals": {name: list(pair) for name, pair in self.intervals.items()},
            "chance": dict(self.chance),
            "even_ties": dict(self.even_ties),
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What ``evaluate`` found.

    Attributes:
        rows: the first is text to image, by image, all platforms, mixed gallery.
        official: recalls of the published script and the gap to the places, where asked for.
        context: what was evaluated with what, ``location``: how far off positions are, None
            without coordinates, and ``match``: what probabilities of hits are worth.
    """

    rows: tuple[Row, ...]
    context: Mapping[str, Any]
    official: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: headline numbers flat (``t2i_r1`` …, percent), then every row.

        ``r_mean`` is the mean of R@1, R@5 and R@10 both ways, the field's mean recall, with ties
        counted against the system; ``r_mean_even_ties`` expects them ordered at random.
        """
        flat: dict[str, Any] = {}
        for direction in ("t2i", "i2t"):
            row = self.headline(direction)
            found = row.retrieval
            flat |= {f"{direction}_r{k}": getattr(found, f"recall_at_{k}") for k in _CUTS}
            flat |= {
                f"{direction}_r_mean": found.r_mean,
                f"{direction}_mrr": found.mrr,
                f"{direction}_map": found.map,
                f"{direction}_median_rank": found.median_rank,
            }
        flat["r_mean"] = (flat["t2i_r_mean"] + flat["i2t_r_mean"]) / 2
        even = [v for way in ("t2i", "i2t") for v in self.headline(way).even_ties.values()]
        flat["r_mean_even_ties"] = sum(even) / len(even)
        out = {**flat, "context": dict(self.context), "rows": [row.to_dict() for row in self.rows]}
        return out if self.official is None else {**out, "official": dict(self.official)}

    def headline(self, direction: str) -> Row:
        """By image, all platforms, mixed gallery."""
        return next(row for row in self.rows if row.direction == direction)


def evaluate(
    experts: ExpertSet,
    task: Task,
    *,
    platforms_unknown: bool = False,
    protocol: Literal["saywhere", "official"] = "saywhere",
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Embed a task and score it.

    Args:
        platforms_unknown: hide the records' platforms from the system.
        protocol: ``official`` adds what the published GeoText script would print.

    Raises:
        ImageError, ExpertError: see ``embed``.
    """
    records: Sequence[Record] = task.records
    from saywhere.match_report import match_report, score_pairs
    from saywhere.task_location import task_location  # SciPy: `search` imports this module

    if platforms_unknown:
        records = [replace(record, platform=None) for record in records]
    images = embed_images(experts, records, runtime=runtime, progress=progress).embeddings.vectors
    texts = embed_queries(experts, task.queries, runtime=runtime).vectors
    fitted = experts.sharpness.get(experts.config.fusion.mode)
    pairs = score_pairs((images, texts), task.target, codes(task.places))
    known = sum(record.platform is not None for record in records)
    context = {
        "images": len(images),
        "queries": len(texts),
        "places": len(set(task.places)),
        "platforms_known": known,
        "fusion": experts.config.fusion.mode,
        "experts": [expert.name for expert in experts.experts],
        "expert_hash": experts.hash,
        "location": task_location(task.records, task.places, task.target, (images, texts)),
        "match": match_report(pairs),
        "match_as_searched": fitted and match_report(pairs, fitted),
    }
    found = _official(task, images, texts) if protocol == "official" else None
    return Evaluation(tuple(score(task, images, texts)), context, found)


def score(task: Task, images: FloatArray, texts: FloatArray) -> list[Row]:
    """Every row of the report.

    Args:
        images: (n, d) float32 folded image vectors.
        texts: (q, d) float32 folded query vectors.
    """
    scorer = _Scorer(task, images, texts)
    rows = []
    for direction in ("t2i", "i2t"):
        for positives in ("image", "place"):
            rows.append(scorer.row(direction, positives, None, "mixed"))
            for platform in PLATFORMS:
                if platform in task.platforms:
                    rows.append(scorer.row(direction, positives, platform, "mixed"))
                    rows.append(scorer.row(direction, positives, platform, "own"))
    return rows


class _Scorer:
    def __init__(self, task: Task, images: FloatArray, texts: FloatArray) -> None:
        self._images, self._texts = images, texts
        self._target = task.target
        self._places = np.asarray(task.places)
        self._place_codes = codes(task.places)
        self._platforms = np.asarray([PLATFORMS.index(platform) for platform in task.platforms])
        # Only images that some text describes can be asked for in the image-to-text direction.
        self._described = np.unique(task.target)

    def row(
        self, direction: Direction, positives: str, platform: Platform | None, gallery: str
    ) -> Row:
        image_labels = np.arange(len(self._images)) if positives == "image" else self._place_codes
        images, texts = np.arange(len(self._images)), np.arange(len(self._texts))
        own_images, own_texts = images, texts
        if platform is not None:
            code = PLATFORMS.index(platform)
            own_images = np.flatnonzero(self._platforms == code)
            own_texts = np.flatnonzero(self._platforms[self._target] == code)
        if direction == "t2i":
            asked, answers = own_texts, own_images if gallery == "own" else images
            asked_labels = image_labels[self._target[asked]]
            answer_labels = image_labels[answers]
            asked_places = self._places[self._target[asked]]
            vectors = self._texts[asked], self._images[answers]
        else:
            asked = np.intersect1d(own_images, self._described)
            answers = own_texts if gallery == "own" else texts
            asked_labels = image_labels[asked]
            answer_labels = image_labels[self._target[answers]]
            asked_places = self._places[asked]
            vectors = self._images[asked], self._texts[answers]
        return _row(
            direction,
            (positives, platform.value if platform else "all", gallery),
            vectors,
            (asked_labels, answer_labels),
            asked_places,
        )


def _row(
    direction: Direction,
    names: tuple[str, str, str],
    vectors: tuple[FloatArray, FloatArray],
    labels: tuple[IntArray, IntArray],
    places: NDArray[np.str_],
) -> Row:
    ranks, precision = ranks_and_ap_of_labels(*vectors, *labels)
    relevant = np.asarray([(labels[1] == label).sum() for label in labels[0]])
    intervals = {}
    for k in _CUTS:
        if len(np.unique(places)) > 1:
            found = interval(100.0 * (ranks <= k), places)
            intervals[f"recall_at_{k}"] = (found.low, found.high)
    even = zip(_CUTS, expected_hits_of_labels(*vectors, *labels, _CUTS), strict=True)
    return Row(
        direction=direction,
        positives=names[0],
        platform=names[1],
        gallery=names[2],
        retrieval=summarise(ranks, precision),
        intervals=intervals,
        chance={f"recall_at_{k}": chance_recall(len(vectors[1]), relevant, k) for k in _CUTS},
        even_ties={f"recall_at_{k}": 100.0 * float(hits.mean()) for k, hits in even},
    )


def _official(task: Task, images: FloatArray, texts: FloatArray) -> dict[str, Any]:
    """The published script's numbers: it knows an image by ``<building>/<file name>``."""
    names = [
        f"{place}/{record.path.name}"
        for place, record in zip(task.places, task.records, strict=True)
    ]
    scores = texts @ images.T
    found = official(np.ascontiguousarray(scores.T), scores, names, task.target)
    return {**found, "gap": official_gap(names, task.places).to_dict()}
