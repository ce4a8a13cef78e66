"""Shared fixtures: one thread, one tower cache for the whole session, real data where it is."""

from __future__ import annotations

import os

# Before numpy, torch or ONNX Runtime start their pools: two cores are all a test machine has.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test may reach for a network
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real imagery; skips where it is missing."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    root = Path(os.environ.get("SAYWHERE_DATA", default))
    if not root.is_dir():
        pytest.skip(f"real data missing: no folder {root} (set SAYWHERE_DATA)")
    return root


@pytest.fixture(scope="session")
def tower_cache() -> Path:
    """The tower cache, shared by all tests and runs: exporting takes half a minute."""
    from saywhere.towers import cache_folder

    return cache_folder()


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered campus of 20 places, 6 of them held out."""
    from saywhere.world import WorldConfig, render_world

    root = tmp_path_factory.mktemp("world") / "campus"
    render_world(root, WorldConfig(seed=3, places=20, test_places=6))
    return root


SMALL_TRAINING = (
    "views.test=['full']",
    "views.train=1",
    "train.members=1",
    "train.stage1.epochs=12",
    "train.fine_tune.epochs=6",
    "train.fine_tune.learning_rate=1e-3",
    "train.stage2.epochs=4",
    "train.stage2.learning_rate=1e-3",
    "head.hidden=64",
    "head.dimension=32",
    'train.fit_places_ending_in="1"',  # two of the fourteen training places
)


@pytest.fixture(scope="session")
def small_experts(
    small_world: Path, tmp_path_factory: pytest.TempPathFactory, tower_cache: Path
) -> Path:
    """Three experts trained on the small world in seconds: real towers, few epochs."""
    return train_small(small_world, tmp_path_factory.mktemp("experts") / "trained", seed=0)


def train_small(world: Path, out: Path, seed: int) -> Path:
    """Train experts on ``world`` the way the command line does, with small settings."""
    from saywhere.bundle import save_experts
    from saywhere.config import load_config
    from saywhere.data import read
    from saywhere.fit import train_experts
    from saywhere.hardware import Runtime
    from saywhere.towers import image_tower, text_tower

    config = load_config(overrides=[*SMALL_TRAINING, f"seed={seed}", "threads=1"])
    towers = (
        image_tower(config.towers.image, runtime=Runtime(1)),
        text_tower(config.towers.text, runtime=Runtime(1)),
    )
    dataset = read(world / "geotext/train.json")
    experts = train_experts(dataset, config, towers, lambda _line: None)
    return save_experts(experts, out, {"image": towers[0].path, "text": towers[1].path})
