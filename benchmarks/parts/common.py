"""What the parts share: a line of the table, rounds of measurements, experts without training."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

HEAD = ("what", "setting", "saywhere", "against", "ratio", "aim")


@dataclass(frozen=True)
class Setting:
    """How a part is run: real data, a scratch folder of its own, threads, toy sizes."""

    data: Path
    scratch: Path
    threads: int
    toy: bool


@dataclass(frozen=True)
class Line:
    """One row of the table.

    Attributes:
        ratio: how many times better saywhere is; below 1: worse. None where nothing is compared.
        raw: every single measurement.
    """

    what: str
    setting: str
    ours: str
    against: str = "–"
    ratio: float | None = None
    aim: str = ""
    raw: dict[str, Sequence[float]] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """The row's cells, as ``HEAD`` names them."""
        ratio = "–" if self.ratio is None else f"{self.ratio:.2f}"
        return (self.what, self.setting, self.ours, self.against, ratio, self.aim)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def say(line: str) -> None:
    """Progress, on stderr."""
    print(line, file=sys.stderr, flush=True)


def table(lines: Sequence[Line]) -> str:
    """Markdown."""
    rows = [HEAD, ("---",) * len(HEAD), *(line.cells() for line in lines)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def rounds(
    jobs: dict[str, Callable[[], object]], count: int, *, warm: bool = True
) -> dict[str, list[float]]:
    """Seconds of each job, ``count`` times in turn, after one round to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for turn in range(0 if warm else 1, count + 1):
        for name, job in jobs.items():
            started = time.perf_counter()
            job()
            if turn:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def milliseconds(seconds: Sequence[float]) -> str:
    """``median (p95)``."""
    middle, slow = 1e3 * median(seconds), 1e3 * float(np.percentile(seconds, 95))
    return f"{middle:.3g} ms (p95 {slow:.3g})"


def unit_vectors(count: int, dimension: int, seed: int) -> np.ndarray:
    """(count, dimension) float32 of unit length."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def save_random_experts(folder: Path, threads: int, overrides: Sequence[str] = ()) -> Path:
    """Three experts of the default size with random heads: as fast as trained ones."""
    from saywhere.bundle import save_experts
    from saywhere.config import load_config
    from saywhere.expert import Expert, Member
    from saywhere.expert_set import ExpertSet
    from saywhere.hardware import Runtime
    from saywhere.towers import image_tower, text_tower
    from saywhere.types import PLATFORMS

    config = load_config(overrides=overrides)
    towers = {
        "image": image_tower(config.towers.image, runtime=Runtime(threads, "cpu")),
        "text": text_tower(config.towers.text, runtime=Runtime(threads, "cpu")),
    }
    rng = np.random.default_rng(0)
    hidden, dimension = config.head.hidden, config.head.dimension

    def head(features: int) -> object:
        return _head(rng, features, hidden, dimension)

    experts = tuple(
        Expert(
            platform,
            tuple(
                Member(head(towers["image"].dimension), head(towers["text"].dimension), 10.0)
                for _ in range(config.train.members)
            ),
        )
        for platform in PLATFORMS
    )
    fingerprints = {side: tower.fingerprint for side, tower in towers.items()}
    made = ExpertSet(config, experts, {}, None, None, fingerprints)
    return save_experts(made, folder, {side: tower.path for side, tower in towers.items()})


def _head(rng: np.random.Generator, features: int, hidden: int, dimension: int) -> object:
    from saywhere.expert import Head

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1]))

    return Head(
        mean=np.zeros(features, np.float32),
        std=np.ones(features, np.float32),
        weight1=normal(hidden, features),
        bias1=np.zeros(hidden, np.float32),
        weight2=normal(dimension, hidden),
        bias2=np.zeros(dimension, np.float32),
    )


def folded_dimension(members: int | None = None) -> int:
    """Length of a folded vector of three experts of the default size."""
    from saywhere.config import load_config

    config = load_config()
    return 3 * (members or config.train.members) * config.head.dimension + 3 + 1


def write_photos(folder: Path, count: int) -> Path:
    """``count`` different JPEGs of 320 x 240 pixels."""
    import PIL.Image

    folder.mkdir(parents=True)
    for index in range(count):
        low = np.random.default_rng(index).integers(0, 256, (24, 32, 3), np.uint8)
        PIL.Image.fromarray(low).resize((320, 240)).save(folder / f"{index:05d}.jpg", quality=90)
    return folder
