"""Memory and time of three experts: adapters over one shared tower, merged towers, full models.

    python benchmarks/memory.py [--preset small] [--rank 8] [--experts 3]

Both small towers are opened as a search opens them, without torch, and each expert embeds one text
and one image. Each way runs in a process of its own; what it holds before is subtracted. *Merged*
towers have a different adapter each in their weights, exported here as ``saywhere expert export
--merged`` does (minutes). A *full model* is as large as the plain tower, which stands in for it.
Adapters are random numbers. MB are resident at the end, and at most while towers were opened.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from saywhere.adapters import Adapter
from saywhere.config import Config, load_config
from saywhere.hardware import Runtime
from saywhere.towers import ImageTower, TextTower, cache_folder, image_tower, text_tower
from saywhere.towers.cache import NO_ADAPTER

ON = ("adapters.image.rank=8", "adapters.text.rank=8")
WAYS = {
    "shared": "one tower, {n} adapters",
    "merged": "{n} merged towers",
    "full": "{n} full models",
}
Tower = ImageTower | TextTower


def main() -> None:
    """Measure every way and print a Markdown table."""
    options = _options()
    if options.measure == "export":
        export(options)
        return
    if options.measure:
        print(json.dumps(measure(options)))
        return
    with tempfile.TemporaryDirectory() as cache:
        _table(options, Path(cache))


def _table(options: argparse.Namespace, cache: Path) -> None:
    """Print it; merged towers go to ``cache``."""
    _write_sites(load_config(options.preset, overrides=ON), cache)
    print("| | MB | at most | ms a text | ms an image |\n|---|---|---|---|---|")
    for way, label in {"export": "", **WAYS}.items():
        command = [
            sys.executable, __file__, "--measure", way, "--preset", options.preset,
            "--rank", str(options.rank), "--experts", str(options.experts),
        ]  # fmt: skip
        env = os.environ | ({"SAYWHERE_CACHE": str(cache)} if way in ("export", "merged") else {})
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env)
        if way != "export":
            cells = " | ".join(f"{value:.1f}" for value in json.loads(found.stdout))
            print(f"| {label.format(n=options.experts)} | {cells} |", flush=True)


def export(options: argparse.Namespace) -> None:
    """Export the merged towers that ``measure`` opens; apart, since it takes torch and memory."""
    config = load_config(options.preset, overrides=ON)
    for make, sites in zip(_makers(config), _read_sites(), strict=True):
        for seed in range(options.experts):
            make(False, _adapter(sites, options.rank, seed))


def measure(options: argparse.Namespace) -> list[float]:
    """Megabytes added and at most, and milliseconds for each expert's text and image."""
    config = load_config(options.preset, overrides=ON)
    size = config.towers.image.size
    inputs = np.zeros((1, size, size, 3), np.uint8), ["a red brick church by a pond"]
    sites = _read_sites() if options.measure == "merged" else None
    before, spent = _resident(), []
    kept = []
    for side, (make, one) in enumerate(zip(_makers(config), inputs, strict=True)):
        pairs: list[tuple[Tower, Adapter | None]]
        if options.measure == "shared":
            tower = make(True, None)
            pairs = [
                (tower, _adapter(tower.sites, options.rank, n)) for n in range(options.experts)
            ]
        elif sites is not None:
            merged = [_adapter(sites[side], options.rank, n) for n in range(options.experts)]
            pairs = [(make(False, adapter), None) for adapter in merged]
        else:
            pairs = [(make(False, None), None) for _ in range(options.experts)]
        kept.append(pairs)
        for _ in range(6):  # the first one allocates
            started = time.perf_counter()
            for tower, adapter in pairs:
                tower.encode(one, adapter)  # type: ignore[arg-type]  # each its own
            seconds = time.perf_counter() - started
        spent.append(1000 * seconds / len(pairs))
    return [_resident() - before, _peak() - before, spent[1], spent[0]]


def _makers(config: Config) -> tuple[Callable[[bool, Adapter | None], Tower], ...]:
    """For each side what opens its tower: whether it takes adapters, what it has taken up."""

    def image(sites: bool, merged: Adapter | None) -> Tower:
        adapter = config.adapters.image if sites else NO_ADAPTER
        return image_tower(config.towers.image, runtime=Runtime(1), adapter=adapter, merged=merged)

    def text(sites: bool, merged: Adapter | None) -> Tower:
        adapter = config.adapters.text if sites else NO_ADAPTER
        return text_tower(config.towers.text, runtime=Runtime(1), adapter=adapter, merged=merged)

    return image, text


def _adapter(sites: Mapping[str, tuple[int, ...]], rank: int, seed: int) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter(
        {name: rng.random([n or rank for n in shape], "f4") / 100 for name, shape in sites.items()}
    )


def _write_sites(config: Config, cache: Path) -> None:
    """Where merged towers are measured: a process that opened the shared ones holds them, too."""
    sites = [make(True, None).sites for make in _makers(config)]
    (cache / "sites.json").write_text(json.dumps(sites), "utf-8")


def _read_sites() -> list[dict[str, tuple[int, ...]]]:
    found = json.loads((cache_folder() / "sites.json").read_text("utf-8"))
    return [{name: tuple(shape) for name, shape in side.items()} for side in found]


def _resident() -> float:
    """Resident memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * 4096 / 1e6


def _peak() -> float:
    """Peak of it, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="small")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--experts", type=int, default=3)
    parser.add_argument("--measure", choices=["export", *WAYS], help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
