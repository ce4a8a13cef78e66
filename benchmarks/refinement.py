"""The effect of caption refinement, as docs/refinement.md tables it.

    saywhere refine ../shared/data/geotext-mini/train.json --style operator --model NAME
    python benchmarks/refinement.py ../shared/data refined.jsonl [--seeds 3]

Trains a generalist of one member on the 900 captions for every way and seed, then asks the 300
operator queries of ``track4-mini`` and the 300 captions of ``test_mini``, platforms hidden. A value
is the mean of R@1/5/10 of one query, averaged over seeds; intervals and paired differences are
bootstrapped by place. Finished runs in ``--out`` are not run again: a new refined file needs a new
folder. Writes ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from small import KINDS, Ranks, compare, real_tasks

from saywhere.ablation.compare import ask
from saywhere.config import Config, load_config
from saywhere.data import read
from saywhere.files import write_text
from saywhere.fit import train_experts
from saywhere.refine.lines import RefinedLine, read_lines
from saywhere.refine.training import with_lines
from saywhere.task import Task
from saywhere.text.guards import Verdict
from saywhere.text.variants import operator_variant
from saywhere.towers import image_tower, text_tower
from saywhere.types import Dataset

BASELINE = "orientation rules"
# Name: overrides of the configuration, which lines of the refined file, how they enter.
WAYS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "nothing": (("text.remove_orientation=[]",), "", ""),
    BASELINE: ((), "", ""),
    "rule variants, 1 added": (("text.rule_variants=1",), "", ""),
    "rule variants, 3 added": (("text.rule_variants=3",), "", ""),
    "rule variant replaces": ((), "rule", "replace"),
    "rule variant added": ((), "rule", "add"),
    "LLM replaces": ((), "all", "replace"),
    "LLM added": ((), "all", "add"),
    "LLM added, accepted only": ((), "accepted", "add"),
}
# Without word vectors and closed form, as the figures of docs/refinement.md were measured.
BASE = (
    "train.layout=generalist",
    "train.members=1",
    'towers.text.words=""',
    "train.canonical.weight=0",
)


def main() -> None:
    """Train, ask, tabulate."""
    options = _options()
    tasks = real_tasks(options.data)
    train = read(options.data / "geotext-mini/train.json")
    found: dict[str, dict[str, list[Ranks]]] = {}
    for seed in range(options.seeds):
        for way in options.ways:
            name = f"{way.replace(' ', '-').replace(',', '')}-{seed}.json"
            path = options.out / name
            if not path.is_file():
                _run(path, way, seed, train, options, tasks)
            ranks = json.loads(path.read_text())
            for kind in KINDS:
                known = found.setdefault(way, {}).setdefault(kind, [])
                known.append(np.asarray(ranks[kind], np.int64))
    table = _table(found, tasks)
    write_text(options.out / "results.md", table)
    print(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini and track4-mini")
    parser.add_argument("refined", type=Path, help="lines of saywhere refine --style operator")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path("runs/refinement"))
    return parser.parse_args()


def _run(
    path: Path,
    way: str,
    seed: int,
    train: Dataset,
    options: argparse.Namespace,
    tasks: dict[str, Task],
) -> None:
    overrides, which, entering = WAYS[way]
    config: Config = load_config(overrides=[f"seed={seed}", "threads=1", *BASE, *overrides])
    data = train
    if which:
        lines = _lines(read_lines(options.refined), which)
        data = with_lines(
            train, lines, "add" if entering == "add" else "replace", str(options.refined)
        )
    towers = image_tower(config.towers.image), text_tower(config.towers.text)
    started = time.perf_counter()
    experts = train_experts(data, config, towers, lambda _: None)
    ranks = {kind: ask(experts, task).tolist() for kind, task in tasks.items()}
    seconds = round(time.perf_counter() - started)
    write_text(path, json.dumps({**ranks, "origins": experts.provenance["data"]["origins"]}))
    print(f"seed {seed}, {way}: {seconds} s", file=sys.stderr, flush=True)


def _lines(lines: Sequence[RefinedLine], which: str) -> list[RefinedLine]:
    """All lines, the accepted ones, or all with the rules' text in place of the model's."""
    if which == "accepted":
        return [line for line in lines if line.verdict is Verdict.ACCEPTED]
    if which == "rule":
        return [
            replace(line, text=operator_variant(line.original, line.variant), origin="rule")
            for line in lines
        ]
    return list(lines)


def _table(found: dict[str, dict[str, list[Ranks]]], tasks: dict[str, Task]) -> str:
    head = ["texts trained on"]
    for kind in KINDS:
        head += [kind, "R@1 / 5 / 10", "sd of seeds", f"against {BASELINE}"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, kinds in found.items():
        cells = [name]
        for kind in KINDS:
            cells += compare(kinds[kind], found.get(BASELINE, kinds)[kind], tasks[kind])
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
