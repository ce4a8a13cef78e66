"""The tables of docs/results.md: one generalist against three experts on real imagery.

    python benchmarks/small.py ../shared/data [--seeds 3] [--out runs/small]

For every seed both layouts are trained by ``train_experts`` (places 0000-0299 and 2000-2299, fusion
fitted on places ending in 9), then asked the 300 captions of ``test_mini`` and the 300 operator
queries of ``track4-mini`` over the same 300 images, platforms hidden. A value is the mean of
R@1/5/10 of one query, averaged over seeds; intervals and paired differences are bootstrapped by
place. Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from saywhere.ablation.compare import ask, outcome
from saywhere.config import load_config
from saywhere.data import read
from saywhere.expert_set import ExpertSet
from saywhere.files import write_text
from saywhere.fit import MODES, train_experts
from saywhere.task import Task, make_task
from saywhere.towers import image_tower, text_tower
from saywhere.trials import asked_places

KINDS = ("operator queries", "captions")
Ranks = NDArray[np.int64]


def main() -> None:
    """Train, ask, tabulate."""
    options = _options()
    tasks = real_tasks(options.data)
    train = read(options.data / "geotext-mini/train.json")
    found: dict[str, dict[str, list[Ranks]]] = {}
    seconds: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for layout in options.layouts:
            config = load_config(overrides=[f"seed={seed}", f"train.layout={layout}", *options.set])
            towers = image_tower(config.towers.image), text_tower(config.towers.text)
            started = time.perf_counter()
            experts = train_experts(train, config, towers, _log)
            seconds.setdefault(layout, []).append(time.perf_counter() - started)
            _log(f"seed {seed}, {layout}: {seconds[layout][-1]:.0f} s {experts.calibrations}")
            for name, variant in _variants(layout, experts):
                for kind, task in tasks.items():
                    ranks = found.setdefault(name, {}).setdefault(kind, [])
                    ranks.append(ask(variant, task))
    table = _table(found, tasks)
    write_text(options.out / "results.md", table)
    raw = {n: {k: [r.tolist() for r in v] for k, v in kinds.items()} for n, kinds in found.items()}
    write_text(options.out / "results.json", json.dumps({"ranks": raw, "seconds": seconds}))
    print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini and track4-mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layouts", nargs="+", default=["generalist", "experts"])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/small"))
    return parser.parse_args()


def _variants(layout: str, experts: ExpertSet) -> list[tuple[str, ExpertSet]]:
    if layout == "generalist":
        return [("generalist", experts)]
    return [(f"{layout}, {mode}", experts.with_mode(mode)) for mode in MODES]


def real_tasks(data: Path) -> dict[str, Task]:
    """What is asked, by ``KINDS``; ``data`` holds geotext-mini and track4-mini."""
    paths = data / "track4-mini", data / "geotext-mini/test_mini.json"
    return {kind: make_task(read(path)) for kind, path in zip(KINDS, paths, strict=True)}


def _table(found: dict[str, dict[str, list[Ranks]]], tasks: dict[str, Task]) -> str:
    head = ["experts"]
    for kind in KINDS:
        head += [kind, "R@1 / 5 / 10", "sd of seeds", "against generalist"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, kinds in found.items():
        cells = [name]
        for kind in KINDS:
            cells += compare(kinds[kind], found.get("generalist", kinds)[kind], tasks[kind])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def compare(ranks: list[Ranks], baseline: list[Ranks], task: Task) -> list[str]:
    """Cells of one system on one task; the baseline itself has no difference."""
    other = None if ranks is baseline else baseline
    return outcome(ranks, other, asked_places(task)).cells()


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
