"""Better experts from the small towers? The table of docs/better.md.

    python benchmarks/better.py ../shared/data [--seeds 3] [--only base,residual,…] [--json]

Everything is trained on the 900 images of ``geotext-mini`` by the recipe of the shipped generalist
(heads of 256 hidden units and 128 dimensions), and asked as in ``small.py``: 300 operator queries
and 300 captions over the same 300 images, platforms hidden where a row does not say so. What is
chosen is chosen on training places, five-fold by place, with rule-based variants of the captions in
the place of operator queries. Trained generalists are kept in the folder ``--out``. The table goes
to stdout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rows import base, depth, distill, fusing, recipe, rerank, residual
from rows.common import KINDS, Part, Pool, Row, Setting, load, say, table

from saywhere.ablation.compare import outcome
from saywhere.config import load_config
from saywhere.hardware import Runtime
from saywhere.towers import image_tower, text_tower

PARTS: dict[str, Part] = {
    "base": base.rows,
    "residual": residual.rows,
    "distill": distill.rows,
    "rerank": rerank.rows,
    "depth": depth.rows,
    "prior": fusing.prior_rows,
    "hubness": fusing.hubness_rows,
    "recipe": recipe.rows,
}
ROOT = Path(__file__).parents[1]
# Trained heads and closed form weigh alike, and no hubness: rows are to show what heads are worth.
PINNED = ("train.canonical.weight=1", "train.hubness=0", "threads=1")


def main() -> None:
    """Train, ask, tabulate."""
    options = _options()
    overrides = [*PINNED, *options.set]
    config = load_config(path=ROOT / "examples/shipped.toml", overrides=overrides)
    one = Runtime(1)
    towers = (
        image_tower(config.towers.image, runtime=one),
        text_tower(config.towers.text, runtime=one),
    )
    material = load(options.data, config, towers)
    setting = Setting(material, Pool(options.out), tuple(range(options.seeds)), options.data)
    parts: dict[str, list[Row]] = {}
    for name in options.only:
        started, cpu = time.perf_counter(), time.process_time()
        parts[name] = PARTS[name](setting)
        say(f"{name}: {time.perf_counter() - started:.0f} s, "
            f"{time.process_time() - cpu:.0f} s of processor time")  # fmt: skip
    found = [row for rows in parts.values() for row in rows]
    print(_json(found, setting) if options.json else _markdown(parts, setting), end="")


def _markdown(parts: Mapping[str, Sequence[Row]], setting: Setting) -> str:
    every = [row for rows in parts.values() for row in rows]
    return "\n".join(
        f"### {name.capitalize()}\n\n{table(rows, every, setting.material.questions)}"
        for name, rows in parts.items()
    )


def _json(rows: Sequence[Row], setting: Setting) -> str:
    by_name = {row.name: row for row in rows}
    described = []
    for row in rows:
        other = by_name.get(row.against)
        tasks = {
            kind: outcome(
                row.answers[kind],
                other.answers[kind] if other else None,
                setting.material.questions[kind].places,
            ).to_dict()
            for kind in KINDS
        }
        described.append(
            {"name": row.name, "against": row.against, "heads": row.heads, "seconds": row.seconds}
            | {"tasks": tasks}
        )
    return json.dumps({"seeds": setting.seeds, "rows": described}, indent=1) + "\n"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with geotext-mini and track4-mini")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/better"))
    parser.add_argument("--json", action="store_true", help="JSON instead of Markdown")
    options = parser.parse_args()
    options.only = options.only.split(",")
    unknown = [name for name in options.only if name not in PARTS]
    if unknown:
        parser.error(f"--only: {unknown[0]!r} is none of {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    main()
