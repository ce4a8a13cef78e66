"""An ablation's results as rows: JSON for programs, Markdown for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saywhere.ablation.compare import Outcome, outcome
from saywhere.ablation.config import AblationConfig
from saywhere.ablation.plan import Step
from saywhere.task import Task
from saywhere.trials import asked_places
from saywhere.types import IntArray


@dataclass(frozen=True, slots=True)
class Result:
    """One row and what each seed gave, as ``run`` keeps it."""

    step: Step
    seeds: tuple[Mapping[str, Any], ...]

    def ranks(self, task: str) -> list[IntArray]:
        """(q,) of each seed."""
        mode = self.step.mode
        return [np.asarray(seed["ranks"][mode][task], np.int64) for seed in self.seeds]

    @property
    def parameters(self) -> int:
        """Trained numbers of the heads that answer."""
        return int(self.seeds[0]["parameters"])

    @property
    def minutes(self) -> float:
        """Of training, mean of the seeds, on one thread of the machine it ran on."""
        return float(np.mean([seed["seconds"] for seed in self.seeds])) / 60


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the table.

    Attributes:
        outcomes: by task.
    """

    step: Step
    parameters: int
    minutes: float
    outcomes: Mapping[str, Outcome]


@dataclass(frozen=True, slots=True)
class Ablation:
    """What ``run_ablation`` found.

    Attributes:
        seconds: of this call; results that were there already took none.
    """

    config: AblationConfig
    tasks: Mapping[str, Task]
    results: tuple[Result, ...]
    seconds: float

    def lines(self) -> list[Line]:
        """The table, in the order of the rows."""
        by_name = {result.step.name: result for result in self.results}
        return [self._line(result, by_name) for result in self.results]

    def _line(self, result: Result, by_name: Mapping[str, Result]) -> Line:
        against = result.step.against
        outcomes = {}
        for name, task in self.tasks.items():
            other = by_name[against].ranks(name) if against else None
            outcomes[name] = outcome(result.ranks(name), other, asked_places(task))
        return Line(result.step, result.parameters, result.minutes, outcomes)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the resolved recipe, and each row."""
        commits = {str(seed["git_commit"]) for result in self.results for seed in result.seeds}
        return {
            "ablation": self.config.model_dump(mode="json"),
            "recipe": self.config.recipe().model_dump(mode="json"),
            "queries": {name: len(task.queries) for name, task in self.tasks.items()},
            "commits": sorted(commits),
            "seconds": round(self.seconds, 1),
            "rows": [
                {
                    "name": line.step.name,
                    "section": line.step.section,
                    "against": line.step.against,
                    "fusion": line.step.mode,
                    "overrides": list(line.step.overrides),
                    "parameters": line.parameters,
                    "minutes": line.minutes,
                    "tasks": {name: found.to_dict() for name, found in line.outcomes.items()},
                }
                for line in self.lines()
            ],
        }


def ablation_markdown(found: Ablation) -> str:
    """The table, a part for each section, with what a reader must know above it."""
    seeds = ", ".join(map(str, found.config.seeds))
    cut = "".join(f"; {p} cut to {n} places" for p, n in found.config.subset.items())
    asked = ", ".join(f"{len(task.queries)} {name}" for name, task in found.tasks.items())
    lines = [
        f"Seeds {seeds}{cut}. Asked: {asked}; platforms hidden. A value is the mean of R@1, R@5 "
        "and R@10 in percent, averaged over seeds, with its 95 % interval bootstrapped by place. "
        "Differences are paired by query, to the row named in the second column; “could show” "
        "is the smallest true difference this comparison would find with 80 % power.",
    ]
    table = found.lines()
    for section in dict.fromkeys(line.step.section for line in table):
        lines += ["", f"### {section.capitalize()}", "", *_head(list(found.tasks))]
        lines += [_row(line) for line in table if line.step.section == section]
    return "\n".join(lines) + "\n"


def _head(tasks: Sequence[str]) -> list[str]:
    columns = ["row", "against", "heads", "min"]
    for task in tasks:
        columns += [task, "R@1 / 5 / 10", "sd of seeds", "difference"]
    return ["| " + " | ".join(columns) + " |", "|---|---|--:|--:|" + "---|" * (4 * len(tasks))]


def _row(line: Line) -> str:
    cells = [line.step.name, line.step.against or "–"]
    cells += [f"{line.parameters / 1e6:.1f} M", f"{line.minutes:.1f}"]
    for found in line.outcomes.values():
        cells += found.cells()
    return "| " + " | ".join(cells) + " |"
