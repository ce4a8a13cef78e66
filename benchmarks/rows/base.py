"""What the other rows are compared with: generalists, one and several averaged."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rows.common import Row, Setting, parameters, similarity

COUNTS = (1, 2, 3, 6, 12)


def name_of(count: int) -> str:
    """The row of so many members."""
    return "one generalist" if count == 1 else f"{count} generalists averaged"


def rows(setting: Setting, counts: Sequence[int] = COUNTS) -> list[Row]:
    """A row for each count, compared with three."""
    return [
        row
        for count in counts
        for row in setting.kept(name_of(count), partial(_make, setting, count))
    ]


def _make(setting: Setting, count: int) -> list[Row]:
    material = setting.material
    row = Row(name_of(count), "" if count == 3 else name_of(3))
    for seed in setting.seeds:
        expert, seconds = setting.pool.ensemble(material.config, material.data.train, seed, count)
        row.heads, row.seconds = parameters([expert]), row.seconds + seconds / len(setting.seeds)
        for kind, question in material.questions.items():
            row.add(kind, question.ranks(similarity(expert, question)))
    return [row]
