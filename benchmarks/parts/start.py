"""Cold start: each verb in a fresh process, on a small world and an index that needs nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from functools import partial

from parts.common import Line, Setting, milliseconds, rounds, save_random_experts, say

SAYWHERE = (sys.executable, "-c", "from saywhere.cli import main; main()")


def run(setting: Setting) -> list[Line]:
    """One line a verb."""
    from saywhere.world import WorldConfig, render_world

    world = setting.scratch / "world"
    render_world(world, WorldConfig(seed=0, places=4 if setting.toy else 20, test_places=2))
    experts = save_random_experts(setting.scratch / "experts", setting.threads)
    os.environ["SAYWHERE_CACHE"] = str(setting.scratch / "cache")
    index = ("--index", str(setting.scratch / "index"))
    add = ("index", str(world / "imagery"), "--experts", str(experts), *index)
    _call(add)
    verbs = {
        "--help": ("--help",),
        "search": ("search", "red brick hall by a pond", *index),
        "index, nothing changed": add,
        "data inspect": ("data", "inspect", str(world / "geotext/train.json")),
    }
    if setting.toy:
        verbs = {name: verbs[name] for name in ("--help", "search")}
    elif "doctor" in _call(("--help",)):
        verbs["doctor"] = ("doctor", "--experts", str(experts), *index)
    say(f"start: {', '.join(verbs)}")
    jobs = {name: partial(_call, arguments) for name, arguments in verbs.items()}
    jobs["python"] = partial(subprocess.run, [sys.executable, "-c", "pass"], check=True)
    seconds = rounds(jobs, 1 if setting.toy else 5, warm=not setting.toy)
    bare = seconds.pop("python")
    against = f"python -c pass: {milliseconds(bare)}"
    return [
        Line(
            "cold start, five fresh processes",
            f"`saywhere {name}`",
            milliseconds(spent),
            against,
            raw={"saywhere": spent, "python": bare},
        )
        for name, spent in seconds.items()
    ]


def _call(arguments: Sequence[str]) -> str:
    done = subprocess.run([*SAYWHERE, *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"start: saywhere {' '.join(arguments)}: {done.stderr}")
    return done.stdout
