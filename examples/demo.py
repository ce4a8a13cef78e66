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
from typing import Any

ROOT = Path("demo")
WORLD, EXPERTS, INDEX = ROOT / "world", ROOT / "experts", ROOT / "index"
QUESTIONS = 3
EARTH_RADIUS_M = 6_371_000
NEAR_M = 100  # cameras stand up to 90 m from the centre of their place


def main() -> None:
    """Run the demo; stops at the first command that fails."""
    started = time.perf_counter()
    shutil.rmtree(ROOT, ignore_errors=True)
    saywhere("world", WORLD, "--seed", 7)
    # Two members an expert instead of five: a rendered world needs no more.
    saywhere("train", WORLD / "geotext/train.json", "--out", EXPERTS, "--set", "train.members=2")
    saywhere("index", photos(), "--experts", EXPERTS, "--index", INDEX)
    for query, truth in questions():
        saywhere("search", query, "-k", 3, "--index", INDEX)
        report_distance(query, truth)
    print("\nHeld-out places, operators' queries, platforms unknown; chance in the last column:")
    saywhere("evaluate", WORLD / "track4", "--experts", EXPERTS, "--unknown-platforms")
    print(f"Done in {time.perf_counter() - started:.0f} s. Everything is in {ROOT}/.")


def saywhere(*arguments: object, quiet: bool = False) -> str:
    """Run one saywhere command as a user would; its output is shown or, if quiet, returned."""
    words = [str(argument) for argument in arguments]
    if not quiet:
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        print(f"\n$ saywhere {shown}", flush=True)
    command = [str(Path(sys.executable).with_name("saywhere")), *words]
    environment = os.environ | {"COLUMNS": os.environ.get("COLUMNS", "140")}
    pipe = subprocess.PIPE if quiet else None
    done = subprocess.run(
        command, check=False, text=True, env=environment, stdout=pipe, stderr=pipe
    )
    if done.returncode:
        print(done.stderr or "", end="", file=sys.stderr)
        sys.exit(done.returncode)
    return done.stdout or ""


def questions() -> list[tuple[str, dict[str, Any]]]:
    """Queries about held-out places, one a platform, with the place each one means."""
    truth = json.loads((WORLD / "track4/ground_truth.json").read_text("utf-8"))["queries"]
    places = {place["place_id"]: place for place in world_places()}
    chosen: dict[str, tuple[str, dict[str, Any]]] = {}
    for line in (WORLD / "track4/test_queries.txt").read_text("utf-8").splitlines():
        name, text = line.split("\t")
        answer = truth[f"q{int(name.removeprefix('q_'))}"]
        chosen.setdefault(answer["platform"], (text, places[answer["place"]]))
    return list(chosen.values())[:QUESTIONS]


def photos() -> Path:
    """Links to the held-out places' images: what a user has on disk, never trained on."""
    folder = ROOT / "photos"
    held_out = {place["place_id"] for place in world_places() if place["held_out"]}
    for source in sorted((WORLD / "imagery").rglob("*.*")):
        if source.stem[:4] in held_out:
            target = folder / source.relative_to(WORLD / "imagery")
            target.parent.mkdir(parents=True, exist_ok=True)
            os.link(source, target)
    return folder


def world_places() -> list[dict[str, Any]]:
    """The places of the world, with their coordinates."""
    places: list[dict[str, Any]] = json.loads((WORLD / "world.json").read_text("utf-8"))["places"]
    return places


def report_distance(query: str, place: dict[str, Any]) -> None:
    """Say which of the answers, if any, lies at the place the query was written about."""
    found = json.loads(saywhere("search", query, "-k", 3, "--index", INDEX, "--json", quiet=True))
    for hit in found["hits"]:
        metres = distance_m(hit, place)
        if metres < NEAR_M:
            print(
                f"  right: answer {hit['rank']} is the place meant, {metres:.0f} m from its centre"
            )
            return
    print(f"  wrong: the place meant is at {place['lat']:.6f}, {place['lon']:.6f}")


def distance_m(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Metres between two WGS84 positions; flat earth, good to a per mille over a campus."""
    north = math.radians(one["lat"] - other["lat"])
    east = math.radians(one["lon"] - other["lon"]) * math.cos(math.radians(other["lat"]))
    return EARTH_RADIUS_M * math.hypot(north, east)


if __name__ == "__main__":
    main()
