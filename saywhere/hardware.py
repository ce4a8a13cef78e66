"""What the machine offers, and how much of it the towers use."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Device = Literal["auto", "cpu", "cuda"]

# An expert set trains up to fifteen members side by side; more threads would have nothing to do.
MOST_THREADS = 16
_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """CPU cores this process may use: its affinity, and the quota of the container it runs in."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (_CGROUP / "cpu.max").read_text("ascii").split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no such file outside containers; "max" where there is no limit
        return cores


def default_threads() -> int:
    """Threads where nobody says: every usable core, at most ``MOST_THREADS``."""
    return min(usable_cores(), MOST_THREADS)


@dataclass(frozen=True, slots=True)
class Runtime:
    """How towers are run; which numbers they give does not depend on it, up to rounding.

    Attributes:
        threads: CPU threads of a tower.
        device: ``cuda`` where it must be the GPU, ``auto`` where it may be.
    """

    threads: int = field(default_factory=default_threads)
    device: Device = "auto"


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the CPU as Linux names them; empty where it does not say."""
    try:
        text = (_PROC / "cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def memory_bytes() -> tuple[int, int]:
    """Memory of the machine or of the container, and what of it is available; zeros if unknown."""
    found = {}
    try:
        for line in (_PROC / "meminfo").read_text("ascii").splitlines():
            name, value = line.split()[:2]
            found[name] = int(value) * 1024
        total, available = found["MemTotal:"], found["MemAvailable:"]
    except (OSError, ValueError, KeyError):
        return 0, 0
    try:
        limit = int((_CGROUP / "memory.max").read_text("ascii"))
        used = int((_CGROUP / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no container, or "max"
        return total, available
    return min(total, limit), max(0, min(available, limit - used))


def filesystem_type(path: Path) -> str:
    """Type of the file system that holds ``path`` ("ext4", "nfs4"); "" where Linux does not say."""
    try:
        mounts = (_PROC / "mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    real, best = path.resolve(), ("", "")
    for mount in mounts:
        _, point, kind = mount.split()[:3]
        point = point.replace("\\040", " ")
        # The last of equals: it was mounted over the others.
        if real.is_relative_to(point) and len(point) >= len(best[0]):
            best = point, kind
    return best[1]
