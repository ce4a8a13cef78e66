"""Threads and devices: what is used where nobody says, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnxruntime
import pytest

from saywhere import hardware
from saywhere.config import TextTowerConfig
from saywhere.errors import TowerError
from saywhere.hardware import MOST_THREADS, Device, Runtime, default_threads, usable_cores
from saywhere.towers import TextTower, text_tower
from saywhere.towers.runtime import choose_providers

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, quota: str | None) -> None:
    """A machine of ``cores`` whose container says ``quota`` in cpu.max."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cores)))


@pytest.mark.parametrize(
    ("cores", "quota", "expected"),
    [
        (6, None, 6),
        (6, "max 100000", 6),
        (6, "150000 100000", 2),  # one and a half: the half is worth a thread
        (6, "50000 100000", 1),
        (6, "900000 100000", 6),
        (6, "nonsense", 6),
    ],
)
def test_usable_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, quota: str | None, expected: int
) -> None:
    machine(monkeypatch, tmp_path, cores, quota)
    assert usable_cores() == Runtime().threads == expected


def test_large_machines_are_not_filled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, tmp_path, 128, None)
    assert usable_cores() == 128
    assert default_threads() == MOST_THREADS


def test_what_linux_says_of_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(hardware, "_PROC", tmp_path)
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    assert hardware.cpu_flags() == frozenset()
    assert hardware.memory_bytes() == (0, 0)
    assert hardware.filesystem_type(tmp_path) == ""
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\n")
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 6000 kB\n")
    (tmp_path / "mounts").write_text(
        "/dev/a / ext4 rw 0 0\nhost:/x /mnt nfs4 rw 0 0\n"
        "/dev/b /mnt/local\\040disk xfs rw 0 0\ntmpfs /mnt tmpfs rw 0 0\n"
    )
    assert hardware.cpu_flags() == {"fpu", "avx2"}
    assert hardware.memory_bytes() == (8_192_000, 6_144_000)
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("4000000\n")
    assert hardware.memory_bytes() == (5_000_000, 1_000_000)
    for path, kind in [("/", "ext4"), ("/mntx/a", "ext4"), ("/mnt/a", "tmpfs"),
                       ("/mnt/local disk/a/b", "xfs")]:  # fmt: skip
        assert hardware.filesystem_type(Path(path)) == kind


@pytest.mark.parametrize(
    ("device", "available", "expected"),
    [
        ("auto", [CPU], [CPU]),
        ("auto", ["TensorrtExecutionProvider", CUDA, CPU], [CUDA, CPU]),
        ("cuda", [CUDA, CPU], [CUDA, CPU]),
        ("cpu", [CUDA, CPU], [CPU]),
        ("cpu", [CPU], [CPU]),
    ],
)
def test_providers(device: Device, available: list[str], expected: list[str]) -> None:
    assert choose_providers(device, available) == expected


def test_cuda_without_its_provider_names_the_remedy() -> None:
    with pytest.raises(TowerError) as caught:
        choose_providers("cuda", ["AzureExecutionProvider", CPU])
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "device cuda",
        "AzureExecutionProvider",
        "pip install onnxruntime-gpu",
        "--device cpu",
    ):
        assert part in message


class FakeSession:
    """An ONNX Runtime built with CUDA: remembers how it was opened, runs on the CPU."""

    started = True
    opened: dict[str, Any]
    _real = onnxruntime.InferenceSession

    def __init__(self, path: str, **options: Any) -> None:
        type(self).opened = options
        self._session = self._real(path, providers=[CPU])

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self.started else [CPU]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.fixture
def with_cuda(monkeypatch: pytest.MonkeyPatch) -> type[FakeSession]:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("libcudart not found"))  # noqa: T201
    monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
    monkeypatch.setattr(FakeSession, "started", True)
    return FakeSession


@pytest.fixture(scope="module")
def tower_path() -> Path:
    return text_tower(TextTowerConfig(), runtime=Runtime(1)).path


def test_a_tower_opens_on_the_gpu(
    with_cuda: type[FakeSession], tower_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tower = TextTower(tower_path, runtime=Runtime(3, "cuda"))
    assert tower.encode(["a pond"]).shape == (1, tower.dimension)
    assert with_cuda.opened["providers"] == [CUDA, CPU]
    assert with_cuda.opened["provider_options"] == [{"use_tf32": "0"}, {}]
    assert with_cuda.opened["enable_fallback"] == 0
    assert with_cuda.opened["sess_options"].intra_op_num_threads == 3
    assert capsys.readouterr().out == ""  # stdout is for results


def test_the_cpu_is_used_where_asked_for(with_cuda: type[FakeSession], tower_path: Path) -> None:
    TextTower(tower_path, runtime=Runtime(1, "cpu"))
    assert with_cuda.opened["providers"] == [CPU]


def test_a_gpu_that_does_not_start_is_refused_only_if_it_was_asked_for(
    with_cuda: type[FakeSession], tower_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(with_cuda, "started", False)
    with pytest.raises(TowerError, match=r"device cuda: .*driver.*--device cpu"):
        TextTower(tower_path, runtime=Runtime(1, "cuda"))
    assert TextTower(tower_path, runtime=Runtime(1, "auto")).encode(["x"]).shape[0] == 1


def test_the_number_of_threads_does_not_change_the_numbers(tower_path: Path) -> None:
    texts = ["a long red roof beside a pond and a car park with trees", "a pond"]
    one, two = (TextTower(tower_path, runtime=Runtime(n)).encode(texts) for n in (1, 2))
    assert (one == two).all()
