"""Kill ``saywhere train`` and ``saywhere index`` at any moment, give the command again, compare.

A *line* is both commands over one rendered world, with a cache of its own whose exported towers
are links. ``uninterrupted`` runs it through; ``killed`` kills it after so many seconds of processor
time, which a busy machine does not stretch. What is compared is what others depend on: the experts'
hash and calibrations, and every row and vector of the index.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SAYWHERE = Path(sys.executable).with_name("saywhere")

# Small, but with every part: an ensemble, a continued start, mining anew, two passes.
SETTINGS = (
    "views.test=['full']",
    "views.train=1",
    "train.members=2",
    "train.stage1.epochs=120",
    "train.fine_tune.epochs=60",
    "train.stage2.epochs=60",
    "train.mining.refresh=20",
    "head.hidden=128",
    "head.dimension=64",
    'train.fit_places_ending_in="1"',
)
CHECKPOINT_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a line left behind; equal outcomes are equal to the last bit."""

    experts: str
    calibrations: str
    index: tuple[tuple[str, str], ...]  # rows and vectors, in the order of their ids


@dataclass(frozen=True, slots=True)
class Killed:
    """A line that was killed, and taken up until it came to its end.

    Attributes:
        stages: what was going on at each kill, by the last remark before it.
        resumed: members that went on from a checkpoint.
        outcome: what is there in the end.
        seconds: processor time of all commands together.
    """

    stages: tuple[str, ...]
    resumed: int
    outcome: Outcome
    seconds: float


def uninterrupted(world: Path, folder: Path, towers: Path) -> tuple[Outcome, float]:
    """The outcome of a line that nobody kills, and the seconds of processor time it took."""
    _make_cache(folder, towers)
    runs = [_run(command, folder) for command in _commands(world, folder)]
    return _outcome(folder), sum(run.seconds for run in runs)


def killed(world: Path, folder: Path, towers: Path, moments: Sequence[float]) -> Killed:
    """Kill the line and take it up again, once for each of ``moments``, then let it end.

    Args:
        moments: seconds of processor time, each from where the line is taken up.
    """
    _make_cache(folder, towers)
    commands, runs, stages = _commands(world, folder), list[_Run](), list[str]()
    for moment in (*moments, math.inf):
        left = moment
        while commands:
            runs.append(_run(commands[0], folder, after=left))
            left -= runs[-1].seconds
            if runs[-1].killed:
                stages.append(f"{commands[0][1]}, {runs[-1].stage}")
                break
            commands.pop(0)
    return Killed(
        stages=tuple(stages),
        resumed=sum(run.log.count("resumed: ") for run in runs),
        outcome=_outcome(folder),
        seconds=sum(run.seconds for run in runs),
    )


def leftovers(folder: Path) -> list[str]:
    """Files and folders that no run should leave: temporaries and checkpoints."""
    patterns = (".saywhere.*", ".*.training")
    return sorted(str(path.relative_to(folder)) for p in patterns for path in folder.rglob(p))


def _commands(world: Path, folder: Path) -> list[list[str]]:
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    experts, index = str(folder / "experts"), str(folder / "index")
    every = ["--checkpoint-every", str(CHECKPOINT_EVERY_S)]
    train = [str(SAYWHERE), "train", str(world / "geotext/train.json"), "--out", experts]
    return [
        [*train, *settings, *every],
        [str(SAYWHERE), "index", str(world / "imagery"), "--experts", experts, "--index", index],
    ]


@dataclass(frozen=True, slots=True)
class _Run:
    log: str
    seconds: float
    killed: bool

    @property
    def stage(self) -> str:
        """What was going on, by the last remark."""
        lines = self.log.splitlines()
        return f"after “{lines[-1].split(',')[0]}”" if lines else "starting"


def _run(command: Sequence[str], folder: Path, after: float = math.inf) -> _Run:
    """Run a command; kill it once it has used ``after`` seconds of processor time."""
    environment = os.environ | {"SAYWHERE_CACHE": str(folder / "cache"), "SAYWHERE_THREADS": "1"}
    log, used = folder / "log.txt", 0.0
    with log.open("w") as stderr:
        process = subprocess.Popen(
            list(command), env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr
        )
        while process.poll() is None:
            used = max(used, _processor_seconds(process.pid))
            if used >= after:
                process.kill()
                process.wait()
            time.sleep(0.005)
    text = log.read_text()
    was_killed = process.returncode == -signal.SIGKILL
    # Killed between the swap and the end, experts are there, and not trained twice.
    if not was_killed and process.returncode and "already holds experts" not in text:
        raise RuntimeError(f"{command[1]} failed: {text}")
    return _Run(text, used, was_killed)


def _processor_seconds(pid: int) -> float:
    """User and system time of all threads; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _make_cache(folder: Path, towers: Path) -> None:
    (folder / "cache/towers").mkdir(parents=True)
    for path in towers.glob("*.onnx"):
        target = folder / "cache/towers" / path.name
        try:
            os.link(path, target)
        except OSError:  # another disk
            shutil.copyfile(path, target)


def _outcome(folder: Path) -> Outcome:
    manifest: dict[str, Any] = json.loads((folder / "experts/experts.json").read_text())
    return Outcome(
        experts=manifest["hash"],
        calibrations=json.dumps(manifest["calibrations"], sort_keys=True),
        index=_index_contents(folder / "index"),
    )


def _index_contents(index: Path) -> tuple[tuple[str, str], ...]:
    """Without sizes and times: a file that was young when it was indexed has none recorded."""
    from dataclasses import replace

    from saywhere.files import hash_bytes
    from saywhere.store.lance import LanceStore

    store = LanceStore(str(index))
    rows = {row.image_id: replace(row, size=None, mtime_ns=None) for row in store.rows()}
    return tuple(
        sorted(
            (repr(rows[image_id]), hash_bytes(vector.tobytes()))
            for ids, vectors in store.vectors()
            for image_id, vector in zip(ids, vectors, strict=True)
        )
    )
