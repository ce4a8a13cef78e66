"""The main job on a rendered world: train, evaluate on held-out places, index, ask three questions.

Run by ``make demo``. Every step is a saywhere command, shown before it runs, so each can be
repeated by hand. Everything lands in ``demo/``; a second run starts afresh.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path("demo")
WORLD, EXPERTS, INDEX = ROOT / "world", ROOT / "experts", ROOT / "index"
QUESTIONS = 3
EARTH_RADIUS_M = 6_371_000


def main() -> None:
    """Run the demo; stops at the first command that fails."""
    started = time.perf_counter()
    shutil.rmtree(ROOT, ignore_errors=True)
    saywhere("world", WORLD, "--seed", 7)
    saywhere("train", WORLD / "geotext/train.json", "--out", EXPERTS)
    saywhere("index", WORLD / "imagery", "--experts", EXPERTS, "--index", INDEX)
    for query, truth in questions():
        saywhere("search", query, "-k", 3, "--index", INDEX)
        report_distance(query, truth)
    print("\nHeld-out places, operators' queries, platforms unknown; chance in the last column:")
    saywhere("evaluate", WORLD / "track4", "--experts", EXPERTS, "--unknown-platforms")
    print(f"Done in {time.perf_counter() - started:.0f} s. Everything is in {ROOT}/.")


def saywhere(*arguments: object, quiet: bool = False) -> str:
    """Run one saywhere command as a user would; its output is shown and, if quiet, returned."""
    words = [str(argument) for argument in arguments]
    if not quiet:
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        print(f"\n$ saywhere {shown}", flush=True)
    command = [str(Path(sys.executable).with_name("saywhere")), *words]
    environment = os.environ | {"COLUMNS": os.environ.get("COLUMNS", "140")}
    done = subprocess.run(
        command, check=False, text=True, env=environment, stdout=subprocess.PIPE if quiet else None
    )
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def questions() -> list[tuple[str, dict[str, object]]]:
    """Queries about held-out places, one a platform, with the place each one means."""
    truth = json.loads((WORLD / "track4/ground_truth.json").read_text("utf-8"))["queries"]
    places = {p["place_id"]: p for p in json.loads((WORLD / "world.json").read_text())["places"]}
    chosen: dict[str, tuple[str, dict[str, object]]] = {}
    for line in (WORLD / "track4/test_queries.txt").read_text("utf-8").splitlines():
        name, text = line.split("\t")
        answer = truth[f"q{int(name.removeprefix('q_'))}"]
        chosen.setdefault(answer["platform"], (text, places[answer["place"]]))
    return list(chosen.values())[:QUESTIONS]


def report_distance(query: str, place: dict[str, object]) -> None:
    """Say how far the best answer lies from the place the query was written about."""
    found = json.loads(saywhere("search", query, "-k", 1, "--index", INDEX, "--json", quiet=True))
    best = found["hits"][0]
    lat, lon = float(str(place["lat"])), float(str(place["lon"]))
    north = math.radians(best["lat"] - lat)
    east = math.radians(best["lon"] - lon) * math.cos(math.radians(lat))
    metres = EARTH_RADIUS_M * math.hypot(north, east)
    verdict = "the place that was meant" if metres < 100 else "another place"
    print(f"  best answer: {verdict}, {metres:.0f} m from its centre ({lat:.6f}, {lon:.6f})")


if __name__ == "__main__":
    main()
