"""What the other rows are compared with: generalists, one and several averaged."""

from __future__ import annotations

from functools import partial

from rows.common import KINDS, Row, Setting, parameters, similarity
from saywhere.config import Config, HeadConfig

COUNTS = (1, 2, 3, 6, 12)
WIDE = "one generalist, three times as wide"


def name_of(count: int) -> str:
    """The row of so many members."""
    return "one generalist" if count == 1 else f"{count} generalists averaged"


def rows(setting: Setting) -> list[Row]:
    """A row for each of ``COUNTS``, and one with heads as large as three; compared with three."""
    config = setting.material.config
    shapes = [(name_of(count), config, count) for count in COUNTS]
    shapes.append((WIDE, config.model_copy(update={"head": widened(config.head)}), 1))
    return [
        row for shape in shapes for row in setting.kept(shape[0], partial(_make, setting, *shape))
    ]


def widened(head: HeadConfig) -> HeadConfig:
    """Heads three times as wide: about the numbers of three members."""
    return head.model_copy(update={"hidden": 3 * head.hidden, "dimension": 3 * head.dimension})


def _make(setting: Setting, name: str, config: Config, count: int) -> list[Row]:
    material = setting.material
    row = Row(name, "" if count == 3 else name_of(3))
    for seed in setting.seeds:
        expert, seconds = setting.pool.ensemble(config, material.data.train, seed, count)
        row.heads, row.seconds = parameters([expert]), row.seconds + seconds / len(setting.seeds)
        for kind in KINDS:
            question = material.questions[kind]
            row.add(kind, question.ranks(similarity(expert, question)))
    return [row]
