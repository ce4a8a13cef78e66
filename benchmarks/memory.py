"""Memory and time of three experts: adapters over one shared tower, against a full model each.

    python benchmarks/memory.py [--preset small] [--rank 8] [--experts 3]

Both small towers are opened as a search opens them, without torch, and each expert embeds one text
and one image. Each way runs in a process of its own; what it holds before is subtracted. A full
model is a tower with the adapter merged into its weights: as large as the plain tower, which stands
in for it here. Adapters are random numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WAYS = {"shared": "one tower, {n} adapters", "full": "{n} full models"}


def main() -> None:
    """Measure both ways and print a Markdown table."""
    options = _options()
    if options.measure:
        print(json.dumps(measure(options)))
        return
    print("| | MB | ms a text | ms an image |\n|---|---|---|---|")
    for way, label in WAYS.items():
        command = [
            sys.executable, __file__, "--measure", way, "--preset", options.preset,
            "--rank", str(options.rank), "--experts", str(options.experts),
        ]  # fmt: skip
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        cells = " | ".join(f"{value:.1f}" for value in json.loads(found.stdout))
        print(f"| {label.format(n=options.experts)} | {cells} |", flush=True)


def measure(options: argparse.Namespace) -> list[float]:
    """Megabytes added, and milliseconds for each expert's text and image."""
    from saywhere.adapters import Adapter
    from saywhere.config import load_config
    from saywhere.hardware import Runtime
    from saywhere.towers import image_tower, text_tower

    on = ("adapters.image.rank=8", "adapters.text.rank=8")
    config = load_config(options.preset, overrides=on if options.measure == "shared" else ())
    makers = (
        lambda: image_tower(config.towers.image, runtime=Runtime(1), adapter=config.adapters.image),
        lambda: text_tower(config.towers.text, runtime=Runtime(1), adapter=config.adapters.text),
    )
    size = config.towers.image.size
    inputs = np.zeros((1, size, size, 3), np.uint8), ["a red brick church by a pond"]
    before, spent = _resident(), []
    kept = []
    for make, one in zip(makers, inputs, strict=True):
        if options.measure == "shared":
            tower = make()
            rng = np.random.default_rng(0)
            pairs = [
                (tower, Adapter({
                    name: rng.random([n or options.rank for n in shape], "f4") / 100
                    for name, shape in tower.sites.items()
                }))
                for _ in range(options.experts)
            ]  # fmt: skip
        else:
            pairs = [(make(), None) for _ in range(options.experts)]
        kept.append(pairs)
        for _ in range(6):  # the first one allocates
            started = time.perf_counter()
            for tower, adapter in pairs:
                tower.encode(one, adapter)
            seconds = time.perf_counter() - started
        spent.append(1000 * seconds / len(pairs))
    return [_resident() - before, spent[1], spent[0]]


def _resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
