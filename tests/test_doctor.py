"""Doctor: what is broken is a problem, what is slow is a note, and both name a remedy."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from test_bundle import make_experts
from test_portable import FINGERPRINTS, write_towers

from saywhere.bundle import save_experts
from saywhere.cli import commands
from saywhere.doctor import Check, artefacts, examine, machine, packages
from saywhere.hardware import Device, Runtime
from saywhere.keeping import index_bytes
from saywhere.store import build_store
from saywhere.store.row import Row
from saywhere.types import Platform

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and an empty cache."""
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SAYWHERE_EXPERTS", raising=False)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    return tmp_path


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    made = make_experts(towers=FINGERPRINTS)
    return save_experts(made, tmp_path / "trained", write_towers(made, tmp_path / "elsewhere"))


def one(checks: list[Check], name: str) -> Check:
    (found,) = [check for check in checks if check.name == name]
    return found


def broken(checks: list[Check]) -> list[Check]:
    return [check for check in checks if check.status == "problem"]


@pytest.mark.parametrize(
    ("threads", "status", "remedy"), [(1, "note", "raise"), (4, "ok", ""), (9, "note", "lower")]
)
def test_threads(monkeypatch: pytest.MonkeyPatch, threads: int, status: str, remedy: str) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 4)
    found = one(machine.machine_checks(Runtime(threads), {}), "threads")
    assert (found.status, found.slow) == (status, status == "note")
    assert remedy in found.remedy
    assert f"{threads} used, 4 of" in found.found


@pytest.mark.parametrize(
    ("architecture", "flags", "status", "found"),
    [
        ("x86_64", {"avx2", "avx512f"}, "ok", "AVX2 and AVX-512"),
        ("x86_64", {"avx2"}, "ok", "no AVX-512"),
        ("x86_64", {"sse4_2"}, "note", "without AVX2"),
        ("x86_64", set(), "ok", "not told"),
        ("aarch64", {"asimd"}, "ok", "aarch64"),
    ],
)
def test_instructions(architecture: str, flags: set[str], status: str, found: str) -> None:
    check = machine._instructions(architecture, frozenset(flags))
    assert check.status == status
    assert found in check.found


def test_settings_that_slow_blas_down_are_named() -> None:
    checks = machine.machine_checks(Runtime(1), {"OPENBLAS_CORETYPE": "Nehalem", "HOME": "/x"})
    found = one(checks, "OPENBLAS_CORETYPE")
    assert (found.status, found.found, found.slow) == ("note", "Nehalem", True)
    assert "unset" in found.remedy
    assert not [check for check in checks if check.name == "HOME"]


@pytest.mark.parametrize(("available", "status"), [(8e9, "ok"), (1e9, "note")])
def test_memory(monkeypatch: pytest.MonkeyPatch, available: int, status: str) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: (16e9, available))
    assert one(machine.machine_checks(Runtime(1), {}), "memory").status == status


@pytest.mark.parametrize(
    ("kind", "status"), [("ext4", "ok"), ("nfs4", "note"), ("fuse.sshfs", "note"), ("", "ok")]
)
def test_a_cache_on_a_network(monkeypatch: pytest.MonkeyPatch, kind: str, status: str) -> None:
    monkeypatch.setattr(machine, "filesystem_type", lambda _path: kind)
    found = one(machine.disk_checks(), "cache disk")
    assert (found.status, found.slow) == (status, status == "note")


@pytest.mark.parametrize(("free", "status"), [(9e9, "ok"), (1e9, "note"), (1e8, "problem")])
def test_free_disk(monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1e12, 0, free))
    assert one(machine.disk_checks(), "cache folder").status == status


def test_a_cache_that_cannot_be_made(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "file").write_text("")
    monkeypatch.setenv("SAYWHERE_CACHE", str(elsewhere / "file" / "cache"))
    found = one(machine.disk_checks(), "cache folder")
    assert found.status == "problem"
    assert "SAYWHERE_CACHE" in found.remedy


@pytest.mark.parametrize(
    ("wanted", "needed", "status", "remedy"),
    [
        ("numpy>=1.0", True, "ok", ""),
        ("numpy>=999", True, "problem", "pip install --upgrade 'numpy>=999'"),
        ("numpy>=999", False, "problem", "pip install --upgrade 'numpy>=999'"),
        ("no-such-thing>=2", True, "problem", "pip install 'no-such-thing>=2'"),
        ("no-such-thing>=2", False, "note", "pip install 'saywhere[train]'"),
    ],
)
def test_packages(wanted: str, needed: bool, status: str, remedy: str) -> None:
    found = packages.check_package(Requirement(wanted), needed=needed)
    assert (found.status, found.remedy) == (status, remedy)


def test_every_package_of_base_and_training_is_looked_at() -> None:
    found = {check.name: check.section for check in packages.package_checks()}
    assert found["onnxruntime"] == "packages"
    assert found["torch"] == "packages for training"
    assert not {"pytest", "ruff"} & set(found)


@pytest.mark.parametrize(
    ("device", "available", "gpu", "status", "remedy"),
    [
        ("auto", ["CPU"], False, "ok", ""),
        ("auto", ["CPU"], True, "note", "pip install onnxruntime-gpu"),
        ("auto", ["CUDA", "CPU"], True, "ok", ""),
        ("cpu", ["CUDA", "CPU"], True, "note", "--device auto"),
        ("cuda", ["CPU"], False, "problem", "pip install onnxruntime-gpu"),
    ],
)
def test_providers(
    device: Device, available: list[str], gpu: bool, status: str, remedy: str
) -> None:
    names = [f"{name}ExecutionProvider" for name in available]
    found = packages._providers(Runtime(1, device), names, gpu)
    assert found.status == status
    assert remedy in found.remedy


def test_a_bare_machine_has_nothing_broken() -> None:
    checks = examine(Runtime())
    assert not broken(checks)
    for section in ("experts", "index"):
        (found,) = [check for check in checks if check.section == section]
        assert (found.status, found.found) == ("note", "none here")
    towers = [check for check in checks if check.section == "towers"]
    assert [tower.slow for tower in towers] == [True, True]  # not exported yet


def test_what_was_named_must_be_there(elsewhere: Path) -> None:
    checks = broken(examine(Runtime(), index="nowhere", experts=elsewhere / "nobody"))
    assert [check.section for check in checks] == ["experts", "index"]
    assert all(check.remedy for check in checks)


def test_whole_experts_and_their_towers(experts: Path) -> None:
    checks = examine(Runtime(), experts=experts)
    assert not broken(checks)
    assert "every hash checked" in one(checks, str(experts)).found
    for side in ("image", "text"):
        assert FINGERPRINTS[side][:12] in one(checks, f"{side} tower").found


def test_altered_experts_are_broken(experts: Path) -> None:
    path = experts / "satellite.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    (found,) = broken(examine(Runtime(), experts=experts))
    assert found.section == "experts"
    assert "altered" in found.found
    assert found.remedy == "train anew"


def test_towers_that_nobody_can_make(experts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    next((experts / "towers").glob("*MiniLM*")).unlink()
    monkeypatch.setattr(artefacts, "build_versions", lambda _config: None)  # as without torch
    found = one(artefacts.tower_checks(experts), "text tower")
    assert found.status == "problem"
    assert "saywhere expert export" in found.remedy
    assert one(artefacts.tower_checks(None), "text tower").status == "note"


def test_the_tower_of_other_experts(elsewhere: Path) -> None:
    made = make_experts(towers=FINGERPRINTS | {"image": "c" * 32})
    folder = save_experts(made, elsewhere / "mixed", write_towers(made, elsewhere / "t"))
    found = one(artefacts.tower_checks(folder), "image tower")
    assert found.status == "problem"
    assert "c" * 12 in found.found


def test_damaged_and_left_over_caches(elsewhere: Path) -> None:
    (elsewhere / "cache/features").mkdir(parents=True)
    (elsewhere / "cache/features/x.sqlite").write_bytes(b"no database" * 200)
    (found,) = artefacts.cache_checks()
    assert found.status == "problem"
    assert "delete" in found.remedy


@pytest.fixture
def index(elsewhere: Path, experts: Path) -> Path:
    image = elsewhere / "a.jpg"
    image.write_bytes(b"pixels")
    made = make_experts(towers=FINGERPRINTS)
    uri = elsewhere / "index"
    with build_store(str(uri), expert_hash=made.hash, dimension=8, experts=str(experts),
                     root=str(elsewhere)) as store:  # fmt: skip
        store.add([Row("a", str(image), "0" * 64, Platform.DRONE)], np.ones((1, 8), np.float32))
    return uri


def test_the_index(index: Path, experts: Path, elsewhere: Path) -> None:
    checks = artefacts.index_checks(str(index), None, required=True)
    assert not broken(checks)
    assert "1 images" in one(checks, str(index)).found
    assert one(checks, "size").status == "ok"
    assert one(checks, "files").found == "0 missing, 1 changed since"
    (elsewhere / "a.jpg").unlink()
    checks = artefacts.index_checks(str(index), None, required=True)
    assert one(checks, "files").found == "1 missing, 0 changed since"
    shutil.rmtree(experts)
    (found,) = broken(artefacts.index_checks(str(index), None, required=True))
    assert "holds no experts" in found.found


def test_an_index_that_wants_compacting(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert index_bytes(str(index)) > 100
    monkeypatch.setattr(artefacts, "index_bytes", lambda _uri: 6_000_000)
    found = one(artefacts.index_checks(str(index), None, required=True), "size")
    assert (found.status, found.slow) == ("note", True)
    assert "saywhere index compact" in found.remedy


@pytest.mark.parametrize("package", ["onnxruntime", "packaging"])
def test_a_package_that_cannot_be_imported_is_a_finding(package: str) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from saywhere.cli import commands; commands(['doctor', '--json'], standalone_mode=False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    checks = json.loads(done.stdout)["checks"]
    found = [check for check in checks if check["status"] == "problem"]
    assert found
    for check in found:
        assert "cannot be imported" in check["found"]
        assert package in check["found"]
        assert "pip install" in check["remedy"]
    assert len(checks) > 5  # and the rest was looked at


def test_the_verb(experts: Path, index: Path) -> None:
    run = CliRunner()
    done = run.invoke(
        commands, ["doctor", "--experts", str(experts), "--index", str(index), "--json"]
    )
    found = json.loads(done.stdout)
    assert done.exit_code == 0
    assert found["sound"]
    sections = list(dict.fromkeys(check["section"] for check in found["checks"]))
    assert sections == ["machine", "packages", "packages for training", "runtime", "towers",
                        "caches", "experts", "index"]  # fmt: skip
    for check in found["checks"]:
        assert check["found"]
        assert bool(check["remedy"]) == (check["status"] != "ok")
    table = run.invoke(commands, ["doctor", "--index", "nowhere", "--threads", "1"])
    assert table.exit_code == 2
    assert "problem" in table.stdout
    assert "slow" in table.stdout
    assert "1 broken" in table.stderr
