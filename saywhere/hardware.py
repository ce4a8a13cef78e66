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
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores() -> int:
    """CPU cores this process may use: its affinity, and the quota of the container it runs in."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CPU_QUOTA.read_text("ascii").split()
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
