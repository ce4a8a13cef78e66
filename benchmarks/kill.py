"""``kill -9`` at random moments over train and index, each followed by the same commands.

    python benchmarks/kill.py [--moments 30] [--seed 0] [--out runs/kill.md]

Renders a small world, runs the line through once, then once for every moment with a kill at it, and
prints a table: the moment in seconds of processor time, what was killed, members that went on from
a checkpoint, and whether experts, calibrations, rows and vectors are equal to those of the run that
nobody killed, bit for bit. Exit code 1 if any differs. See ``tests/kill.py``.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

from saywhere.config import load_config
from saywhere.files import write_text
from saywhere.towers import image_tower, text_tower
from saywhere.world import WorldConfig, render_world

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from kill import killed, leftovers, uninterrupted

HEAD = "| # | killed after, s | killed in | resumed members | experts | index | left behind |"


def main() -> None:
    """Kill, compare, tabulate."""
    options = _options()
    config = load_config()
    towers = image_tower(config.towers.image).path.parent
    text_tower(config.towers.text)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        world = render_world(root / "world", WorldConfig(seed=3, places=20, test_places=6)).root
        expected, seconds = uninterrupted(world, root / "whole", towers)
        moments = np.random.default_rng(options.seed).uniform(0, seconds, options.moments)
        lines, different = [HEAD, "|--:|--:|---|--:|---|---|--:|"], 0
        for number, moment in enumerate(sorted(moments), 1):
            folder = root / str(number)
            found = killed(world, folder, towers, [float(moment)])
            experts = (found.outcome.experts, found.outcome.calibrations) == (
                expected.experts,
                expected.calibrations,
            )
            index = found.outcome.index == expected.index
            left = len(leftovers(folder))
            different += not (experts and index and not left)
            stage = found.stages[0] if found.stages else "after the end"
            lines.append(
                f"| {number} | {moment:.1f} | {stage} | {found.resumed} | {_equal(experts)} "
                f"| {_equal(index)} | {left} |"
            )
            print(lines[-1], file=sys.stderr, flush=True)
    summary = (
        f"{options.moments} kills over a line of {seconds:.1f} s of processor time, seed "
        f"{options.seed}: {options.moments - different} ended with experts "
        f"`{expected.experts[:12]}` and an index of {len(expected.index)} images, bit for bit."
    )
    table = "\n".join([summary, "", *lines]) + "\n"
    print(table)
    if options.out:
        write_text(options.out, table)
    sys.exit(bool(different))


def _equal(same: bool) -> str:
    return "equal" if same else "**different**"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file to write, too.")
    return parser.parse_args()


if __name__ == "__main__":
    main()
