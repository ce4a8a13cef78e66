"""Systems asked the same queries: a value for each query, differences paired, intervals by place.

A query's value is the mean of R@1, R@5 and R@10 of it, percent, averaged over seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saywhere.bootstrap import Difference, Interval, interval, paired_difference
from saywhere.embed import embed_images, embed_queries
from saywhere.expert_set import ExpertSet
from saywhere.hardware import Runtime
from saywhere.task import Task
from saywhere.types import IntArray
from saywhere.vector_metrics import ranks_of_labels

_CUTS = (1, 5, 10)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one system answered one task, and how much better than another.

    Attributes:
        value: mean over queries, percent, with its 95 % interval by place.
        recalls: R@1, R@5 and R@10, percent, averaged over seeds.
        seed_spread: standard deviation of the seeds' values.
        difference: to the system it is compared with, on the same queries; None without one.
    """

    value: Interval
    recalls: tuple[float, ...]
    seed_spread: float
    difference: Difference | None

    def cells(self) -> list[str]:
        """Value, recalls, spread of seeds and difference, for a table."""
        own, gap = self.value, self.difference
        cells = [
            f"{own.value:.1f} [{own.low:.0f}–{own.high:.0f}]",
            " / ".join(f"{recall:.1f}" for recall in self.recalls),
            f"{self.seed_spread:.1f}",
        ]
        if gap is None:
            return [*cells, "–"]
        shown = f"{gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
        return [*cells, f"{shown}, could show {gap.minimum_detectable:.1f}"]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "value": self.value.to_dict(),
            **{f"recall_at_{k}": found for k, found in zip(_CUTS, self.recalls, strict=True)},
            "seed_spread": self.seed_spread,
            "difference": None if self.difference is None else self.difference.to_dict(),
        }


def ask(experts: ExpertSet, task: Task, *, runtime: Runtime | None = None) -> IntArray:
    """Rank of each query's image, platforms hidden: (q,) int64, 1 is best, ties against us."""
    records = [replace(record, platform=None) for record in task.records]
    images = embed_images(experts, records, runtime=runtime).embeddings.vectors
    queries = embed_queries(experts, task.queries, runtime=runtime).vectors
    return ranks_of_labels(queries, images, task.target, np.arange(len(images)))


def query_values(ranks: Sequence[IntArray]) -> NDArray[np.float64]:
    """(q,) value of each query, from (q,) ranks of each seed."""
    hits = [[seed <= k for k in _CUTS] for seed in ranks]
    return np.asarray(100 * np.mean(hits, axis=(0, 1)), np.float64)


def outcome(
    ranks: Sequence[IntArray], baseline: Sequence[IntArray] | None, places: NDArray[np.str_]
) -> Outcome:
    """Sum up one system on one task.

    Args:
        ranks: (q,) of each seed.
        baseline: of the system it is compared with; None: of none.
        places: (q,) place of each query's image.

    Raises:
        InputError: fewer than two places.
    """
    values = query_values(ranks)
    gap = None if baseline is None else paired_difference(values, query_values(baseline), places)
    return Outcome(
        value=interval(values, places),
        recalls=tuple(100 * float(np.mean([seed <= k for seed in ranks])) for k in _CUTS),
        seed_spread=float(np.std([query_values([seed]).mean() for seed in ranks])),
        difference=gap,
    )
