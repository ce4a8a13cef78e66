"""Peak memory of indexing against the number of images, and of searching against the gallery.

Each measurement is a process of its own, which reads its peak from the system when it is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from parts.common import (
    Line,
    Setting,
    folded_dimension,
    save_random_experts,
    say,
    unit_vectors,
    write_photos,
)
from parts.search import store_of

INDEX = """
import sys
from pathlib import Path
from saywhere.bundle import load_experts
from saywhere.data import read
from saywhere.hardware import Runtime
from saywhere.index import embedder, update_index
folder, experts, index = map(Path, sys.argv[1:4])
by = embedder(load_experts(experts), runtime=Runtime(int(sys.argv[4]), "cpu"))
update_index(by, read(folder).records, folder, str(index))
"""
SEARCH = """
import sys
import numpy as np
from saywhere.store import open_store
store = open_store(sys.argv[1])
queries = np.random.default_rng(1).standard_normal((3, store.info().dimension))
for query in queries.astype(np.float32):
    store.search(query[None], 10)
"""
PEAK = """
from pathlib import Path
print(next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmHWM")))
"""


def run(setting: Setting) -> list[Line]:
    """One line for indexing, one for searching."""
    return [_indexing(setting), _searching(setting)]


def _indexing(setting: Setting) -> Line:
    counts = (4, 8) if setting.toy else (500, 1000, 2000)
    experts = save_random_experts(
        setting.scratch / "experts", setting.threads, ["views.test=['full']"]
    )
    peaks = []
    for count in counts:
        say(f"memory: indexing {count} images")
        photos = write_photos(setting.scratch / f"photos{count}", count)
        os.environ["SAYWHERE_CACHE"] = str(setting.scratch / f"cache{count}")
        index = setting.scratch / f"index{count}"
        peaks.append(_peak(INDEX, [photos, experts, index, setting.threads]))
    return _line("memory: indexing", counts, peaks, folded_dimension())


def _searching(setting: Setting) -> Line:
    counts = (40, 80) if setting.toy else (1_000, 10_000, 100_000)
    dimension = folded_dimension(members=1)
    peaks = []
    for count in counts:
        say(f"memory: searching {count:,} images")
        index = setting.scratch / f"gallery{count}"
        store_of(index, unit_vectors(count, dimension, seed=0))
        peaks.append(_peak(SEARCH, [index]))
    return _line("memory: searching", counts, peaks, dimension)


def _line(what: str, counts: Sequence[int], peaks: Sequence[float], dimension: int) -> Line:
    grown = (peaks[-1] - peaks[0]) / (counts[-1] - counts[0])
    return Line(
        f"{what}, peak",
        f"{', '.join(f'{count:,}' for count in counts)} images × {dimension}",
        f"{', '.join(f'{peak / 1024:.0f}' for peak in peaks)} MB",
        f"{grown:.2f} KB an image more; a vector alone has {4 * dimension / 1024:.1f}",
        raw={"images": counts, "peak_kilobytes": peaks},
    )


def _peak(script: str, arguments: Sequence[object]) -> float:
    """Kilobytes."""
    command = [sys.executable, "-c", script + PEAK, *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"memory: {done.stderr}")
    return float(done.stdout.split()[-2])
