"""The commands of docs/paper.md, as they stand there, on tiny towers and a rendered world."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_TRAINING
from fakehub import FakeHub, running_hub
from tiny import write_eva, write_xlmr

from saywhere.bundle import load_experts
from saywhere.files import hash_file

PAGE = Path(__file__).parents[1] / "docs/paper.md"
ROOT = "track4-cross-modal-drone-navigation"
# Sizes only, for speed: preset, towers, adapters, views, stages and the rest are the page's.
FEWER = [
    *(setting for setting in SMALL_TRAINING if not setting.startswith("views.test")),
    "tuning.stage1.epochs=1", "tuning.stage1.batch_size=16", "tuning.stage2.batch_size=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def hub(
    small_world: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FakeHub, str]]:
    """A hub that holds the tiny towers and the world under the published names; BGE-M3's hash."""
    folder = tmp_path_factory.mktemp("published")
    captions = [entry["caption"] for entry in
                json.loads((small_world / "geotext/train.json").read_text("utf-8"))]  # fmt: skip
    write_eva(folder / "image", size=336)
    write_xlmr(folder / "text", captions)
    (folder / "text/README.md").write_text("BGE-M3", "utf-8")
    with running_hub() as hub:
        hub.repos["timm/eva02_large_patch14_clip_336.merged2b"] = contents(folder / "image")
        hub.repos["BAAI/bge-m3"] = contents(folder / "text")
        hub.repos["robosense/datasets"] = published_data(small_world)
        yield hub, hash_file(folder / "text/pytorch_model.bin")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published_data(world: Path) -> dict[str, bytes]:
    """GeoText's files with its images in a tar archive, Track 4's in a zip."""
    packed, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for split in ("train", "test"):
            archive.add(world / "geotext/images" / split, split)
    with zipfile.ZipFile(zipped, "w") as archive:
        for path in (world / "track4/Track_4_Images").iterdir():
            archive.write(path, f"Track_4_Phase_I_Images/{path.name}")
    test = (world / "geotext/test_world.json").read_bytes()
    files = {
        "train.json": (world / "geotext/train.json").read_bytes(),
        "test_951_version.json": test,
        "test_24G_version.json": test,
        "images.tar.gz": packed.getvalue(),
        "Track_4_Phase_I_Images.zip": zipped.getvalue(),
        "test_queries.txt": (world / "track4/test_queries.txt").read_bytes(),
    }
    return {f"{ROOT}/{name}": content for name, content in files.items()}


def commands() -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 6
    return "\n".join(blocks)


def run(script: str, folder: Path, hub: FakeHub, digest: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(PAGE.parents[1]),
        "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"),
        "HF_TOKEN": hub.token, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "SAYWHERE_CACHE": str(folder / "cache"), "SAYWHERE_THREADS": "1",
        "BGE_M3_SHA256": digest, "HUB_REPO": "team/paper-experts",
    }  # fmt: skip
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip


@pytest.mark.slow
def test_the_recipe_runs_as_printed(hub: tuple[FakeHub, str], tmp_path: Path) -> None:
    script = commands()
    fewer = " ".join(f"--set '{setting}'" for setting in FEWER)
    printed = "--config paper.toml --out experts-paper"
    assert script.count(printed) == 1
    done = run(script.replace(printed, f"{printed} {fewer}"), tmp_path, *hub)
    assert done.returncode == 0, done.stderr[-3000:]

    experts = load_experts(tmp_path / "experts-paper")
    config = experts.config
    assert (config.preset, config.towers.text.pooling) == ("paper", "cls")
    assert config.towers.image.precision == "float16"
    assert [expert.name for expert in experts.experts] == ["satellite", "drone", "ground"]
    assert min(config.train.stage1.epochs, config.train.stage2.epochs) > 0
    stages = set(re.findall(r"(\w+/\w+): ([\w.]+), \d+ epochs", done.stderr))
    for name in ("satellite", "drone", "ground"):
        assert {(f"{name}/0", "stage2"), (f"{name}/tuned", "tuning.stage1"),
                (f"{name}/tuned", "tuning.stage2")} <= stages  # fmt: skip
    assert (config.adapters.image.rank, config.adapters.text.rank) == (8, 8)
    for expert in experts.experts:
        moved = [a for n, a in expert.adapter_arrays().items() if n.endswith(".B")]
        assert len(moved) == 2 * (7 + 6)  # blocks of both tiny towers times projections
        assert all(np.abs(array).max() > 0 for array in moved)
    assert "image adapters" in done.stdout
    assert "fusion: fitted on" in done.stderr
    for name in ("test_951", "test_24G"):
        report = json.loads((tmp_path / f"runs/{name}.json").read_text("utf-8"))
        assert report["official"] is not None
    lines = (tmp_path / "runs/submission.txt").read_text("utf-8").splitlines()
    queries = (tmp_path / "data" / ROOT / "test_queries.txt").read_text("utf-8").splitlines()
    assert len(lines) == len(queries)
    pulled = load_experts(tmp_path / "experts-pulled")
    assert pulled.hash == experts.hash
    shown = done.stdout
    for name in ("image", "text"):
        assert hash_file(tmp_path / f"towers/{name}/model.safetensors") in shown
    assert not list((tmp_path / "hf").rglob("*.safetensors"))  # fetched into the folders named


def test_a_wrong_hash_stops_the_recipe(hub: tuple[FakeHub, str], tmp_path: Path) -> None:
    first = commands().split("cat > paper.toml")[0]
    done = run(first, tmp_path, hub[0], "0" * 64)
    assert done.returncode == 2
    assert "compare with what its publisher states" in done.stderr
    assert not (tmp_path / "towers/text/model.safetensors").exists()


def test_the_page_names_no_figure_that_the_counter_does_not_give() -> None:
    """The counts of the page, from counting again (seconds on the meta device)."""
    found = subprocess.run(
        [sys.executable, str(PAGE.parents[1] / "benchmarks/flops.py"), "--preset", "paper-base"],
        env={**os.environ, "PYTHONPATH": str(PAGE.parents[1])},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    table = [line for line in found.stdout.splitlines() if line.startswith("|")]
    assert len(table) > 8
    page = PAGE.read_text("utf-8")
    for line in table:
        assert line in page
