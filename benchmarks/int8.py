"""What int8 towers cost in recall, on real imagery.

    python benchmarks/int8.py ../shared/data --experts runs/experts [--out runs/int8]

Trained experts are asked twice, with the text tower they were trained with and with the same tower
quantised to int8 (``towers.text.precision=int8``; images stay as they are, and so would an index):
the 300 operator queries of ``track4-mini`` and the 300 captions of ``test_mini``, over the same 300
images, platforms hidden. A value is the mean of R@1/5/10 of one query; intervals and the paired
difference are bootstrapped by place.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from small import real_tasks

from saywhere.bootstrap import interval, paired_difference
from saywhere.bundle import load_experts
from saywhere.embed import clean_texts, embed_images, fold_text_features
from saywhere.expert_set import ExpertSet
from saywhere.features import text_features
from saywhere.files import write_text
from saywhere.task import Task
from saywhere.towers import TextTower, text_tower
from saywhere.vector_metrics import ranks_of_labels

Ranks = NDArray[np.int64]


def main() -> None:
    """Quantise, ask, tabulate."""
    options = _options()
    tasks = real_tasks(options.data)
    experts = load_experts(options.experts)
    config = experts.config.towers.text
    int8 = text_tower(config.model_copy(update={"precision": "int8"}))
    towers = {"float32": text_tower(config, bundle=options.experts / "towers"), "int8": int8}
    found: dict[str, Any] = {"towers": {n: _cost(t, tasks) for n, t in towers.items()}}
    lines = [
        "| queries | text tower | mean of R@1/5/10 | R@1 / 5 / 10 | int8 against float32 |",
        "|---|---|---|---|---|",
    ]
    for kind, task in tasks.items():
        ranks = {name: _ask(experts, tower, task) for name, tower in towers.items()}
        found[kind] = {name: values.tolist() for name, values in ranks.items()}
        lines += _rows(kind, ranks, np.asarray(task.places)[task.target])
    lines += ["", "| text tower | file | texts/s | cosine to float32, least / mean |"]
    lines.append("|---|---|---|---|")
    for name, cost in found["towers"].items():
        lines.append(
            f"| {name} | {cost['megabytes']:.1f} MB | {cost['texts_per_second']:.0f} | "
            f"{_cosine(towers, name, tasks)} |"
        )
    table = "\n".join(lines) + "\n"
    write_text(options.out / "int8.md", table)
    write_text(options.out / "int8.json", json.dumps(found))
    print(table, end="")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini and track4-mini")
    parser.add_argument("--experts", type=Path, default=Path("runs/experts"), help="only read")
    parser.add_argument("--out", type=Path, default=Path("runs/int8"))
    return parser.parse_args()


def _texts(tasks: dict[str, Task]) -> list[str]:
    return [query.text for task in tasks.values() for query in task.queries]


def _cost(tower: TextTower, tasks: dict[str, Task]) -> dict[str, float]:
    texts = _texts(tasks)
    tower.encode(texts[:64])
    started = time.perf_counter()
    tower.encode(texts)
    rate = len(texts) / (time.perf_counter() - started)
    return {"megabytes": tower.path.stat().st_size / 1e6, "texts_per_second": rate}


def _cosine(towers: dict[str, TextTower], name: str, tasks: dict[str, Task]) -> str:
    texts = _texts(tasks)
    values = (towers[name].encode(texts) * towers["float32"].encode(texts)).sum(1)
    return f"{values.min():.4f} / {values.mean():.4f}"


def _ask(experts: ExpertSet, tower: TextTower, task: Task) -> Ranks:
    """Rank of each query's image, platforms hidden."""
    records = [replace(record, platform=None) for record in task.records]
    images = embed_images(experts, records).embeddings.vectors
    texts = clean_texts(experts, [query.text for query in task.queries])
    queries = fold_text_features(experts, {"": text_features(tower, texts)})
    return ranks_of_labels(queries, images, task.target, np.arange(len(images)))


def _rows(kind: str, ranks: dict[str, Ranks], places: NDArray[Any]) -> list[str]:
    values = {
        name: 100 * np.mean([found <= k for k in (1, 5, 10)], axis=0)
        for name, found in ranks.items()
    }
    gap = paired_difference(values["int8"], values["float32"], places)
    rows = []
    for name, found in ranks.items():
        own = interval(values[name], places)
        recalls = " / ".join(f"{100 * np.mean(found <= k):.1f}" for k in (1, 5, 10))
        said = "–"
        if name == "int8":
            said = f"{gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
            said += f", could show {gap.minimum_detectable:.1f}"
        cell = f"{own.value:.1f} [{own.low:.0f}–{own.high:.0f}]"
        rows.append(f"| {kind} | {name} | {cell} | {recalls} | {said} |")
    return rows


if __name__ == "__main__":
    main()
