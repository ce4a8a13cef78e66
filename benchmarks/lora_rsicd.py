"""Text adapters against frozen towers on RSICD's validation split: a table of docs/adapters.md.

    python benchmarks/lora_rsicd.py ../shared/data [--seeds 2] [--set KEY=VALUE] [--out FOLDER]

Trained on ``rsicd/train-without-valid`` by ``examples/rsicd.toml`` and preset ``small-lora``, asked
the captions of ``valid``. Every seed gives four sets of one expert:

``frozen``          heads on cached features, as the example trains them;
``lora``            the same heads, then adapters in the text tower with the heads on top;
``equal steps``     the same heads, then as many further steps of the same stages, towers frozen;
``equal minutes``   heads trained from the start for as many epochs as take ``lora`` its time.

Values are mean recalls (R@1/5/10 both ways) of each image and its captions; intervals and paired
differences are bootstrapped by image. Minutes are processor time of training, of one thread.
Writes ``results.json`` and ``results.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from lora import _tuned, _without
from numpy.typing import NDArray
from small import _log

from saywhere.bootstrap import interval, paired_difference
from saywhere.config import Config, load_config
from saywhere.data import read
from saywhere.embed import embed_images, embed_queries
from saywhere.expert_set import ExpertSet
from saywhere.files import write_text
from saywhere.fit import train_experts
from saywhere.hardware import Runtime
from saywhere.task import Task, make_task
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.types import Dataset
from saywhere.vector_metrics import ranks_of_labels

EXAMPLE = Path(__file__).parents[1] / "examples/rsicd.toml"
ARMS = ("frozen", "lora", "equal steps", "equal minutes")
Values = NDArray[np.float64]
Towers = tuple[ImageTower, TextTower]


def main() -> None:
    """Train every arm for every seed, ask, tabulate; what is done so far is written each time."""
    options = _options()
    train = read(options.data / "rsicd/train-without-valid")
    task = make_task(read(options.data / "rsicd/valid_filename.txt"))
    found: dict[str, list[Values]] = {arm: [] for arm in (*ARMS[:2], *options.arms)}
    minutes: dict[str, list[float]] = {arm: [] for arm in found}
    for seed in range(options.first, options.first + options.seeds):
        config = load_config("small-lora", EXAMPLE, [f"seed={seed}", "threads=1", *options.set])
        for arm, experts, spent in train_arms(train, config, options.arms):
            found[arm].append(ask(experts, task))
            minutes[arm].append(spent / 60)
            _log(f"seed {seed}, {arm}: {found[arm][-1].mean(0)} {minutes[arm][-1]:.1f} min")
            raw = {name: [v.tolist() for v in values] for name, values in found.items()}
            write_text(options.out / "results.json", json.dumps({"values": raw, "min": minutes}))
    table = tabulate(found, minutes)
    write_text(options.out / "results.md", table)
    print(table)


def train_arms(
    train: Dataset, config: Config, wanted: Sequence[str]
) -> Iterator[tuple[str, ExpertSet, float]]:
    """Arm, its experts, and the processor seconds from nothing to them."""
    towers = (
        image_tower(config.towers.image, runtime=Runtime(1), adapter=config.adapters.image),
        text_tower(config.towers.text, runtime=Runtime(1), adapter=config.adapters.text),
    )
    plain = _without(config)
    train_experts(train, _epochs(plain, 0), towers, _log)  # features: they are nobody's minutes
    frozen, first = _timed(lambda: train_experts(train, plain, towers, _log))
    yield "frozen", frozen, first
    lora, more = _timed(lambda: _tuned(frozen, train, config, towers))
    yield "lora", lora, first + more
    if "equal steps" in wanted:
        steps, few = _timed(lambda: _tuned(frozen, train, plain, towers))
        yield "equal steps", steps, first + few
    if "equal minutes" in wanted:
        longer = _epochs(plain, round(plain.train.stage1.epochs * (first + more) / first))
        yield "equal minutes", *_timed(lambda: train_experts(train, longer, towers, _log))


def _epochs(config: Config, count: int) -> Config:
    stage1 = config.train.stage1.model_copy(update={"epochs": count})
    stage2 = config.train.stage2.model_copy(
        update={"epochs": config.train.stage2.epochs if count else 0}
    )
    return config.model_copy(
        update={"train": config.train.model_copy(update={"stage1": stage1, "stage2": stage2})}
    )


def _timed(run: Callable[[], ExpertSet]) -> tuple[ExpertSet, float]:
    started = time.process_time()
    return run(), time.process_time() - started


def ask(experts: ExpertSet, task: Task) -> Values:
    """(images, 7): mean recall, then R@1/5/10 of the captions and of the image, percent."""
    records = [replace(record, platform=None) for record in task.records]
    images = embed_images(experts, records, runtime=Runtime(1)).embeddings.vectors
    queries = embed_queries(experts, task.queries, runtime=Runtime(1)).vectors
    rows = np.arange(len(images))
    by_text = ranks_of_labels(queries, images, task.target, rows)
    by_image = ranks_of_labels(images, queries, rows, task.target)
    columns = []
    for k in (1, 5, 10):
        columns.append(np.bincount(task.target, by_text <= k) / np.bincount(task.target))
    columns += [(by_image <= k).astype(np.float64) for k in (1, 5, 10)]
    recalls = 100 * np.stack(columns, 1)
    return np.concatenate([recalls.mean(1, keepdims=True), recalls], 1)


def tabulate(found: dict[str, list[Values]], minutes: dict[str, list[float]]) -> str:
    """A Markdown table, differences against ``frozen`` and of ``lora`` against the controls."""
    lines = [
        "| arm | mean recall | seeds | text → image R@1 / 5 / 10 | image → text R@1 / 5 / 10 "
        "| against frozen | LoRA against it | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    means = {arm: np.mean(values, axis=0) for arm, values in found.items()}
    for arm, values in means.items():
        images = np.arange(len(values))
        own = interval(values[:, 0], images)
        recalls = values.mean(0)[1:]
        texts, others = (" / ".join(f"{r:.1f}" for r in part) for part in np.split(recalls, 2))
        seeds = ", ".join(f"{one[:, 0].mean():.1f}" for one in found[arm])
        cells = [f"{own.value:.1f} [{own.low:.1f}–{own.high:.1f}]", seeds, texts, others]
        cells.append("–" if arm == ARMS[0] else _gap(values, means[ARMS[0]]))
        cells.append("–" if arm == ARMS[1] else _gap(means[ARMS[1]], values))
        lines.append("| " + " | ".join([arm, *cells, f"{np.mean(minutes[arm]):.1f}"]) + " |")
    return "\n".join(lines) + "\n"


def _gap(values: Values, other: Values) -> str:
    gap = paired_difference(values[:, 0], other[:, 0], np.arange(len(values)))
    shown = f"{gap.value:+.1f} [{gap.low:+.1f}, {gap.high:+.1f}]"
    return f"{shown}, could show {gap.minimum_detectable:.1f}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with rsicd")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--arms", nargs="*", choices=ARMS[2:], default=ARMS[2:], help="controls")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/lora-rsicd"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
