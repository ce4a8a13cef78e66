"""Images a second of the embed path against the bare forward pass of ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from parts.common import Line, Setting, rounds, say, write_photos

if TYPE_CHECKING:
    from saywhere.adapters import Adapter

Shapes = list[tuple[int, ...]]


def run(setting: Setting) -> list[Line]:
    """One line a set of images and views."""
    from saywhere.config import load_config
    from saywhere.hardware import Runtime
    from saywhere.towers import image_tower

    config = load_config()
    tower = image_tower(config.towers.image, runtime=Runtime(setting.threads, "cpu"))
    lines = []
    for name, paths in _sets(setting).items():
        for views in (("full",), config.views.test):
            say(f"embed: {len(paths)} {name}, {_counted(views)}")
            count = max(1, len(paths) // len(views))
            lines += _measure(setting, tower, f"{name}, {_counted(views)}", (paths[:count], views))
    return lines


def _counted(views: Sequence[str]) -> str:
    return f"{len(views)} view{'s' if len(views) > 1 else ''} an image"


def _sets(setting: Setting) -> dict[str, list[Path]]:
    most = 8 if setting.toy else 600
    folders = {
        "GeoText 128 px": setting.data / "geotext-mini/images",
        "RSICD 224 px": setting.data / "rsicd/images",
    }
    found = {
        name: sorted(path for path in folder.rglob("*.jp*g"))[:most]
        for name, folder in folders.items()
        if folder.is_dir() and not setting.toy
    }
    return found or {"rendered 320 px": sorted(write_photos(setting.scratch / "p", most).iterdir())}


def _measure(
    setting: Setting, tower: object, name: str, asked: tuple[list[Path], Sequence[str]]
) -> list[Line]:
    shapes: Shapes = []
    jobs: dict[str, Callable[[], object]] = {"ours": _embed(setting, tower, asked, shapes)}
    jobs["ours"]()  # tells the shapes
    batches = {shape: _batch(shape) for shape in set(shapes)}
    work = [batches[shape] for shape in shapes]
    whole, single = _session(tower.path, setting.threads), _session(tower.path, 1)
    jobs["bare"] = lambda: [whole.run(None, {"pixels": batch}) for batch in work]
    pool = ThreadPoolExecutor(setting.threads)
    jobs["side by side"] = lambda: list(
        pool.map(lambda batch: single.run(None, {"pixels": batch}), work)
    )
    seconds = rounds(jobs, 1 if setting.toy else 3)
    pool.shutdown()
    views = sum(shape[0] for shape in shapes)
    rate = {job: views / median(spent) for job, spent in seconds.items()}
    ours = f"{rate['ours']:.0f} views/s"
    what = "embed: decode, render, tower, cache"
    size = "batches of " + " and ".join(sorted({f"{n} × {e}²" for n, e, *_ in shapes if n > 1}))
    return [
        Line(
            what,
            f"{name}; {size if setting.toy is False else 'toy'}",
            ours,
            f"bare ONNX Runtime, {setting.threads} threads on each batch: {rate['bare']:.0f}",
            rate["ours"] / rate["bare"],
            "≥ 0.9",
            seconds,
        ),
        Line(
            what,
            name,
            ours,
            f"bare, {setting.threads} batches side by side as we do: {rate['side by side']:.0f}",
            rate["ours"] / rate["side by side"],
        ),
    ]


def _embed(
    setting: Setting, tower: object, asked: tuple[list[Path], Sequence[str]], shapes: Shapes
) -> Callable[[], object]:
    """From files to features with an empty cache; ``shapes`` gets the batches of the last run."""
    from saywhere.features import ImageRequest, content_hashes, image_features
    from saywhere.types import Record
    from saywhere.views import FIXED_VIEWS

    paths, names = asked
    views = tuple(FIXED_VIEWS[name] for name in names)
    records = [Record(path.name, path) for path in paths]
    encode = type(tower).encode
    turns = iter(range(1000))

    def recorded(pixels: np.ndarray, adapter: Adapter | None = None) -> np.ndarray:
        shapes.append(pixels.shape)
        return encode(tower, pixels, adapter)

    def job() -> object:
        shapes.clear()
        os.environ["SAYWHERE_CACHE"] = str(
            setting.scratch / f"{abs(hash((paths[0], names)))}-{next(turns)}"
        )
        requests = [
            ImageRequest(path, digest, views)
            for path, digest in zip(paths, content_hashes(records), strict=True)
        ]
        return image_features(tower, requests, tower.native_size)

    tower.encode = recorded
    return job


def _batch(shape: tuple[int, ...]) -> np.ndarray:
    count, edge = shape[:2]
    rng = np.random.default_rng(0)
    return rng.standard_normal((count, 3, edge, edge), dtype=np.float32)


def _session(path: Path, threads: int) -> object:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
