"""A disk that fills up: one clear line, what was there stays, and with space it goes on.

Twice: on a small tmpfs where the tests may mount one, and with a limit on the size of any file,
which needs no rights and meets whatever writes more than that.
"""

from __future__ import annotations

import json
import resource
import sqlite3
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_TRAINING
from test_towers import tiny_graph

from saywhere.cli import commands
from saywhere.config import ImageTowerConfig
from saywhere.errors import SaywhereError
from saywhere.store import SCHEMA_VERSION, StoreInfo, open_writer
from saywhere.store.lance import LanceStore
from saywhere.store.row import Row
from saywhere.towers import export
from saywhere.towers.cache import find_tower
from saywhere.towers.checkpoint import LoadReport

pytestmark = pytest.mark.slow

LARGE = 400_000_000


class Disk:
    """Somewhere to write; ``full`` leaves so many bytes, ``free`` gives them back."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def full(self, left: int) -> None:
        raise NotImplementedError

    def free(self) -> None:
        raise NotImplementedError


class Tmpfs(Disk):
    def full(self, left: int) -> None:
        status = subprocess.run(["df", "-B1", "--output=used", self.path], capture_output=True,
                                text=True, check=True)  # fmt: skip
        self._size(max(4096, int(status.stdout.split()[1]) + left))  # 0 would be no limit

    def free(self) -> None:
        self._size(LARGE)

    def _size(self, size: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", self.path], check=True)


class Limited(Disk):
    """No file may grow beyond the limit: EFBIG, which callers must treat like ENOSPC."""

    def full(self, left: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (left, resource.RLIM_INFINITY))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@contextmanager
def mounted(path: Path) -> Iterator[None]:
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={LARGE}", "saywhere-test", path],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError as error:
        pytest.skip(f"no mount here: {error}")
    if done.returncode:
        pytest.skip(f"may not mount a tmpfs: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    if request.param == "tmpfs":
        with mounted(path):
            yield Tmpfs(path)
        return
    limited = Limited(path)
    yield limited
    limited.free()


def run(*arguments: object) -> None:
    commands([str(argument) for argument in arguments], standalone_mode=False)


def refused(disk: Disk, left: int, *arguments: object) -> str:
    """The one line of a command that ran out of space, with ``left`` bytes to go."""
    disk.full(left)
    try:
        with pytest.raises(SaywhereError) as error:
            run(*arguments)
    finally:
        disk.free()
    line = str(error.value)
    assert "\n" not in line
    assert "cannot" in line, line
    assert "space" in line.split(";", 1)[1], line
    return line


def files(folder: Path) -> dict[str, bytes]:
    """Every file with its content; those of an index by their names only."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def temporaries(folder: Path) -> list[Path]:
    return list(folder.rglob(".saywhere.*"))


def test_training(
    disk: Disk, small_world: Path, small_experts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = disk.path / "experts"
    settings = [part for setting in SMALL_TRAINING for part in ("--set", setting)]
    train = ("train", small_world / "geotext/train.json", "--out", out, *settings, "--threads", 1)
    assert "generalist-0.safetensors" in refused(disk, 300_000, *train)
    assert not out.exists()
    if isinstance(disk, Tmpfs):  # room for every checkpoint, and none for the towers
        capsys.readouterr()
        assert str(out) in refused(disk, 20_000_000, *train)
        assert "resumed: " not in capsys.readouterr().err
    assert temporaries(disk.path) == []
    run(*train)
    said = capsys.readouterr().err
    assert said.count("resumed: ") == (8 if isinstance(disk, Tmpfs) else 0)
    hashes = [json.loads((path / "experts.json").read_text())["hash"]
              for path in (out, small_experts)]  # fmt: skip
    assert hashes[0] == hashes[1]
    assert [path.name for path in disk.path.iterdir()] == ["experts"]
    if isinstance(disk, Tmpfs):  # what is there stays there
        before = files(out)
        refused(disk, 20_000_000, *train, "--overwrite")
        assert files(out) == before


def test_a_store(disk: Disk) -> None:
    uri = str(disk.path / "index")
    rows = [Row(f"{n}", f"{n}.jpg", "h") for n in range(500)]
    vectors = np.random.default_rng(0).standard_normal((500, 64), np.float32)
    made = StoreInfo(SCHEMA_VERSION, "a" * 64, 64, 0, "experts", "root")

    def write() -> None:
        with open_writer(uri) as writer:
            writer.write(made, {}, rows, vectors)

    def refuse(left: int) -> None:
        disk.full(left)
        try:
            with pytest.raises(SaywhereError, match=r"index .* free disk space .* as it was"):
                write()
        finally:
            disk.free()

    lefts = (0, 30_000, 130_000) if isinstance(disk, Tmpfs) else (1, 30_000)
    for left in lefts:
        refuse(left)
        assert files(disk.path) == {}
    write()
    before = files(disk.path)
    for left in lefts:
        refuse(left)
        assert files(disk.path) == before
    write()
    assert len(LanceStore(uri).rows()) == 500


def test_indexing(small_world: Path, small_experts: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    with mounted(tmp_path / "disk"):
        disk = Tmpfs(tmp_path / "disk")
        index = disk.path / "index"
        add = ("index", small_world / "imagery", "--experts", small_experts, "--index", index)
        assert "free disk space" in refused(disk, 20_000, *add)
        assert not index.exists()
        run(*add)
        before = files(index)
        assert "it is as it was" in refused(disk, 20_000, *add, "--rebuild")
        assert files(index) == before
        run(*add, "--rebuild")
        assert len(LanceStore(str(index)).rows()) == 60


def test_the_feature_cache(
    disk: Disk,
    small_world: Path,
    small_experts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(disk.path / "cache"))  # the experts have their towers
    index = tmp_path / "index"
    add = ("index", small_world / "imagery", "--experts", small_experts, "--index", index)
    for left in (0, 20_000, 200_000) if isinstance(disk, Tmpfs) else (1, 60_000, 200_000):
        line = refused(disk, left, *add)
        assert "feature cache" in line
        assert "SAYWHERE_CACHE" in line
        assert not index.exists()
    run(*add)
    for path in (disk.path / "cache/features").glob("*.sqlite"):
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    disk.full(0 if isinstance(disk, Tmpfs) else 1)
    try:  # a search needs no space
        capsys.readouterr()
        run("search", "a red roof", "-k", 3, "--index", index, "--json")
    finally:
        disk.free()
    full = json.loads(capsys.readouterr().out)
    run("search", "a red roof", "-k", 3, "--index", index, "--json")
    assert json.loads(capsys.readouterr().out) == full


def test_an_exported_tower(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(disk.path))
    model = tiny_graph()
    disk.full(10_000)
    try:
        with pytest.raises(SaywhereError, match=r"cannot be written .*free space"):
            export._save(ImageTowerConfig(), model, {}, LoadReport("tiny", "h"))
    finally:
        disk.free()
    assert files(disk.path) == {}
    assert find_tower(ImageTowerConfig(), None) is None
    saved = export._save(ImageTowerConfig(), model, {}, LoadReport("tiny", "h"))
    assert find_tower(ImageTowerConfig(), None) == saved


def test_submission_report_and_world(
    small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    track4 = small_world / "track4"
    with mounted(tmp_path / "disk"):
        disk = Tmpfs(tmp_path / "disk")
        submit = ("submit", "--queries", track4 / "test_queries.txt", "--images",
                  track4 / "Track_4_Images", "--experts", small_experts,
                  "--out", disk.path / "s.txt")  # fmt: skip
        report = ("evaluate", small_world / "geotext/test_world.json", "--experts", small_experts,
                  "--out", disk.path / "r.json")  # fmt: skip
        world = ("world", disk.path / "w", "--places", 4, "--test-places", 2)
        for command in (submit, report):
            refused(disk, 0, *command)
            assert files(disk.path) == {}
        for left in (0, 100_000, 1_000_000):
            refused(disk, left, *world)
            assert files(disk.path) == {}
        run(*submit)
        run(*report)
        run(*world)
        before = files(disk.path)
        assert zipfile.ZipFile(disk.path / "s.zip").testzip() is None
        for command in (submit, report):
            refused(disk, 0, *command)
        assert files(disk.path) == before
