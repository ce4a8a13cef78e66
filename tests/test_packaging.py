"""What is published: wheel and sdist, and a search by the wheel alone, where there is no torch.

The venv with the base dependencies (0.7 GB) is made once a machine and kept in the user's cache,
named by the hash of what pyproject.toml asks for; a test run only installs the new wheel into it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable, Iterator
from email import message_from_bytes
from pathlib import Path

import platformdirs
import pytest

from saywhere import __version__
from saywhere.files import hash_text

ROOT = Path(__file__).parents[1]
NAME = f"saywhere-{__version__}"
LARGEST = 14_000_000  # bytes of a published file: the shipped heads; data and towers stay out
WORDS = "a pond beside a building with a red roof"
Run = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist, built without a network."""
    return _build(ROOT, tmp_path_factory.mktemp("dist"))


def _build(source: Path, out: Path) -> tuple[Path, Path]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d"]
    subprocess.run([*command, str(out)], cwd=source, check=True, capture_output=True)
    return out / f"{NAME}-py3-none-any.whl", out / f"{NAME}.tar.gz"


def _wheel_files(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _sources() -> set[str]:
    """The package's files as the tree has them."""
    files = (ROOT / "saywhere").rglob("*")
    return {
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    files = _wheel_files(built[0])
    info = f"{NAME}.dist-info"
    about = {f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}
    licences = {f"{info}/licenses/{name}" for name in ("LICENSE", "THIRD_PARTY_NOTICES.md")}
    assert set(files) == _sources() | about | licences
    assert "saywhere/py.typed" in files
    assert files[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert max(map(len, files.values())) < LARGEST


def test_the_wheel_says_what_it_needs(built: tuple[Path, Path]) -> None:
    files = _wheel_files(built[0])
    metadata = message_from_bytes(files[f"{NAME}.dist-info/METADATA"])
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Requires-Python"] == ">=3.11"
    assert set(metadata.get_all("Provides-Extra", [])) >= {"train", "dev"}
    needed = metadata.get_all("Requires-Dist", [])
    base = {text.split(">=")[0] for text in needed if ";" not in text}
    assert {"onnxruntime", "lancedb", "tokenizers", "safetensors"} <= base
    assert not base & {"torch", "torchvision", "timm", "transformers", "onnx", "scikit-learn"}
    assert any(text.startswith("torch>=") and "extra == 'train'" in text for text in needed)
    assert b"saywhere = saywhere.cli:main" in files[f"{NAME}.dist-info/entry_points.txt"]


def test_the_sdist_builds_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[1]) as archive:
        members = archive.getmembers()
        archive.extractall(tmp_path, filter="data")
    names = {member.name.removeprefix(f"{NAME}/") for member in members}
    assert _sources() <= names
    needed = {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "PKG-INFO",
              "THIRD_PARTY_NOTICES.md", "tests/conftest.py", "examples/demo.py"}  # fmt: skip
    assert needed <= names
    foreign = (".venv", "runs", "demo", "__pycache__", ".git", ".mypy_cache", ".ci")
    assert not [name for name in names if name.split("/")[0] in foreign or name.endswith(".pyc")]
    assert max(member.size for member in members) < LARGEST
    wheel, _ = _build(tmp_path / NAME, tmp_path / "again")
    assert _wheel_files(wheel) == _wheel_files(built[0])


@pytest.fixture(scope="module")
def base(
    built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Run a program of a venv that holds the wheel and the base dependencies, with empty caches."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [dependency.replace(" ", "") for dependency in project["dependencies"]]
    key = hash_text(json.dumps([sys.version, sorted(wanted)]))[:12]
    folder = platformdirs.user_cache_path("saywhere-tests") / f"base-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    cwd = tmp_path_factory.mktemp("elsewhere")
    inherited = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment = {name: v for name, v in inherited.items() if not name.startswith("SAYWHERE_")}
    environment |= {"SAYWHERE_CACHE": str(cwd / "cache"), "PYTHONSAFEPATH": "1"}

    def call(program: str, *words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "bin" / program), *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, env=environment, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one test session at a time owns the venv
        if not (folder / "complete").is_file():
            _make_venv(folder, wanted)
        call("python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
             "--force-reinstall", built[0])  # fmt: skip
        yield call


def _make_venv(folder: Path, dependencies: list[str]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    command = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--prefer-binary"]
    done = subprocess.run([*command, *dependencies], capture_output=True, text=True, check=False)
    if done.returncode and "onnection" in done.stderr:  # NewConnectionError, Connection refused, …
        pytest.skip(f"no package index in reach to make {folder} from: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    (folder / "complete").touch()


def test_the_venv_has_the_wheel_and_no_torch(base: Run) -> None:
    for name in ("torch", "timm", "transformers", "sklearn", "onnx"):
        done = base("python", "-c", f"import {name}", code=1)
        assert f"No module named '{name}'" in done.stderr
    where = base("python", "-c", "import saywhere; print(saywhere.__file__)").stdout
    assert "site-packages" in where
    assert str(ROOT) not in where
    assert __version__ in base("saywhere", "--version").stdout


def test_carried_experts_search_without_torch_as_they_do_with_it(
    base: Run, small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    def full(*words: object) -> str:
        program = Path(sys.executable).with_name("saywhere")
        command = [str(program), *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    archive, there = tmp_path / "experts.zip", tmp_path / "there"
    full("expert", "export", small_experts, archive)
    base("saywhere", "expert", "import", archive, there)
    hits = []
    for number, (call, experts) in enumerate(
        [(full, small_experts), (lambda *words: base("saywhere", *words).stdout, there)]
    ):
        uri = tmp_path / f"index{number}"
        call("index", small_world / "imagery", "--experts", experts, "--index", uri)
        hits.append(json.loads(call("search", WORDS, "--index", uri, "--json"))["hits"])
    with_torch, without = hits
    assert len(without) == 10
    assert [hit["image_id"] for hit in without] == [hit["image_id"] for hit in with_torch]
    assert [hit["score"] for hit in without] == pytest.approx(
        [hit["score"] for hit in with_torch], abs=1e-5
    )
    assert (with_torch[0]["lat"], with_torch[0]["path"]) == (without[0]["lat"], without[0]["path"])
    examined = json.loads(
        base("saywhere", "doctor", "--experts", there, "--index", uri, "--json").stdout
    )
    assert examined["sound"]
    found = {check["name"]: check for check in examined["checks"]}
    assert found["torch"]["found"] == "not installed"
    assert found["torch"]["remedy"] == "pip install 'saywhere[train]'"
    assert found[str(uri)]["status"] == found[str(there)]["status"] == "ok"
    shown = json.loads(base("saywhere", "expert", "show", there, "--json").stdout)
    assert shown["portable"]
    assert shown["hash"] == json.loads((small_experts / "experts.json").read_text())["hash"]


def test_training_without_its_extra_names_it(base: Run, small_world: Path) -> None:
    done = base("saywhere", "train", small_world / "geotext/train.json", code=2)
    assert "pip install 'saywhere[train]'" in done.stderr
    assert "Traceback" not in done.stderr
