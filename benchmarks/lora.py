"""Adapters against frozen towers on the small preset: the LoRA table of docs/results.md.

    python benchmarks/lora.py ../shared/data [--seeds 2] [--set KEY=VALUE] [--out runs/lora]

For every seed a generalist is trained on frozen features of places 0000-0299 and 2000-2299 by
preset ``small``; from there ``tune_experts`` goes on by preset ``small-lora``. Both are asked the
300 captions of ``test_mini`` and the 300 operator queries of ``track4-mini`` over the same 300
images, platforms hidden. Values, intervals and paired differences as in ``small.py``. Settings were
chosen on training places ending in 7 and 8, by captions alone. Writes ``results.json`` and
``results.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from small import KINDS, Ranks, _log, compare, real_tasks

from saywhere.ablation.compare import ask, query_values
from saywhere.config import Config, load_config
from saywhere.data import read
from saywhere.expert_set import ExpertSet
from saywhere.files import write_text
from saywhere.fit import train_experts
from saywhere.hardware import Runtime
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.trainset import prepare
from saywhere.tune import Material, tune_experts
from saywhere.types import Dataset

FROZEN, TUNED = "frozen towers, heads only", "the same heads, then LoRA"


def main() -> None:
    """Train both, ask both, tabulate."""
    options = _options()
    tasks = real_tasks(options.data)
    train = read(options.data / "geotext-mini/train.json")
    found: dict[str, dict[str, list[Ranks]]] = {}
    seconds: dict[str, list[float]] = {FROZEN: [], TUNED: []}
    share = 0.0
    for seed in range(options.first, options.first + options.seeds):
        shared = [f"seed={seed}", "train.layout=generalist", 'train.fit_places_ending_in=""']
        config = load_config("small-lora", overrides=[*shared, *options.set])
        towers = (
            image_tower(
                config.towers.image, runtime=Runtime(config.threads), adapter=config.adapters.image
            ),
            text_tower(
                config.towers.text, runtime=Runtime(config.threads), adapter=config.adapters.text
            ),
        )
        started = time.perf_counter()
        frozen = train_experts(train, _without(config), towers, _log)
        seconds[FROZEN].append(time.perf_counter() - started)
        tuned = _tuned(frozen, train, config, towers)
        seconds[TUNED].append(time.perf_counter() - started)
        share = sum(a.size for e in tuned.experts for a in e.adapter_arrays().values())
        for name, experts in ((FROZEN, frozen), (TUNED, tuned)):
            for kind, task in tasks.items():
                ranks = ask(experts, task)
                found.setdefault(name, {}).setdefault(kind, []).append(ranks)
                _log(f"seed {seed}, {name}, {kind}: {query_values([ranks]).mean():.1f}")
    lines = ["| towers | " + " | ".join(_head()) + " |", "|---" * (len(_head()) + 1) + "|"]
    for name, kinds in found.items():
        cells = [name]
        for kind in KINDS:
            cells += compare(kinds[kind], found[FROZEN][kind], tasks[kind])
        lines.append("| " + " | ".join([*cells, f"{np.mean(seconds[name]) / 60:.1f}"]) + " |")
    table = "\n".join([*lines, "", f"{share:,} adapter parameters."]) + "\n"
    write_text(options.out / "results.md", table)
    raw = {n: {k: [r.tolist() for r in v] for k, v in kinds.items()} for n, kinds in found.items()}
    write_text(options.out / "results.json", json.dumps({"ranks": raw, "seconds": seconds}))
    print(table)


def _head() -> list[str]:
    columns = []
    for kind in KINDS:
        columns += [kind, "R@1 / 5 / 10", "sd of seeds", "against frozen"]
    return [*columns, "minutes of training"]


def _without(config: Config) -> Config:
    frozen = load_config("small").adapters
    return config.model_copy(update={"preset": "small", "adapters": frozen})


def _tuned(
    frozen: ExpertSet, train: Dataset, config: Config, towers: tuple[ImageTower, TextTower]
) -> ExpertSet:
    data = prepare(train, config, towers)
    material = Material(data, np.arange(len(data.train)), towers)
    return replace(
        frozen, config=config, experts=tune_experts(frozen.experts, material, config, _log)
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini and track4-mini")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/lora"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
