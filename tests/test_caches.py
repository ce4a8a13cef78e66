"""Caches: seen as they are, freed when nobody uses them."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from click.testing import CliRunner
from test_portable import write_tower

from saywhere.caches import CacheFile, clear_caches, list_caches
from saywhere.cli import commands
from saywhere.features import text_features
from saywhere.towers import TextTower
from saywhere.types import FloatArray

DAY = 24 * 3600


class FakeTower:
    fingerprint, dimension, batch_size = "f" * 32, 3, 2

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, texts: Sequence[str], adapter: object = None) -> FloatArray:
        self.encoded += len(texts)
        return np.ones((len(texts), 3), np.float32)


def embed(*texts: str) -> int:
    """Texts that were not in the cache."""
    tower = FakeTower()
    text_features(cast("TextTower", tower), texts)
    return tower.encoded


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three rows of a tower that is cached, and what a killed export left two days ago."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SAYWHERE_CACHE", str(folder))
    assert embed("a", "b", "c") == 3
    write_tower(folder / "towers/tiny-1-2.onnx", FakeTower.fingerprint)
    for name, days in ((".saywhere.old.part", 2), (".saywhere.new.part", 0)):
        path = folder / "towers" / name
        path.write_bytes(bytes(10))
        age(path, days)
    return folder


def age(path: Path, days: float) -> None:
    then = time.time() - days * DAY
    os.utime(path, (then, then))


def by_kind() -> dict[str, CacheFile]:
    return {file.kind: file for file in list_caches()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_caches_are_listed_and_left_alone(cache: Path) -> None:
    features = cache / "features" / f"{FakeTower.fingerprint}.sqlite"
    tower = cache / "towers/tiny-1-2.onnx"
    for path in (features, tower):
        age(path, 9)
    before = names(cache), features.stat(), tower.stat()
    found = by_kind()
    assert names(cache) == before[0]
    for path, status in ((features, before[1]), (tower, before[2])):
        assert path.stat().st_atime_ns == status.st_atime_ns
        assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert set(found) == {"tower", "features", "leftover"}
    assert found["features"].rows == 3
    assert found["features"].bytes == features.stat().st_size
    assert found["features"].tower == found["tower"].tower == "tiny"
    assert found["features"].used == pytest.approx(time.time() - 9 * DAY, abs=60)
    assert not any(file.problem for file in found.values())


def test_without_its_tower_a_cache_has_no_name(cache: Path) -> None:
    (cache / "towers/tiny-1-2.onnx").unlink()
    assert by_kind()["features"].tower is None


def test_damage_is_named_with_its_remedy(cache: Path) -> None:
    (cache / "features" / "bad.sqlite").write_bytes(b"no database" * 200)
    (cache / "towers/tiny-1-2.onnx").write_bytes(b"\xff\xff")
    problems = [file.problem for file in list_caches() if file.problem]
    assert len(problems) == 2
    assert all("delete" in problem and "\n" not in problem for problem in problems)
    assert len(clear_caches(["features", "tower"]).deleted) == 3


def test_only_what_is_old_and_asked_for_goes(cache: Path) -> None:
    features = cache / "features" / f"{FakeTower.fingerprint}.sqlite"
    age(features, 9)
    assert not clear_caches(["features"], 10).deleted
    assert not clear_caches(["tower"], 1).deleted  # written a moment ago
    done = clear_caches(["features", "tower", "leftover"], 1)
    assert sorted(file.kind for file in done.deleted) == ["features", "leftover"]
    assert done.bytes > 10
    assert names(cache) == [".saywhere.new.part", "tiny-1-2.onnx"]
    assert embed("a", "b") == 2  # made again
    assert embed("a", "b") == 0


def test_an_open_cache_is_kept_and_loses_nothing(cache: Path) -> None:
    path = cache / "features" / f"{FakeTower.fingerprint}.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO features VALUES ('x', x'00')")
        connection.commit()
        done = clear_caches(["features"])
        assert [file.path for file in done.busy] == [path]
        assert not done.deleted
        assert connection.execute("SELECT count(*) FROM features").fetchone() == (4,)
    assert embed("a", "b", "c") == 0
    assert clear_caches(["features"]).deleted


def test_the_verbs(cache: Path) -> None:
    run = CliRunner()
    shown = json.loads(run.invoke(commands, ["cache", "show", "--json"]).stdout)
    assert shown["folder"] == str(cache)
    assert shown["bytes"] == sum(file.bytes for file in list_caches())
    table = run.invoke(commands, ["cache", "show"])
    assert "tiny" in table.stdout
    assert "3 caches" in table.stderr
    kept = run.invoke(commands, ["cache", "clear", "--kind", "features", "--older-than", "30"])
    assert "0 caches deleted" in kept.stderr
    gone = json.loads(
        run.invoke(commands, ["cache", "clear", "--kind", "features", "--json"]).stdout
    )
    assert [file["kind"] for file in gone["deleted"]] == ["features", "leftover"]
    assert run.invoke(commands, ["cache", "clear"]).exit_code == 0
    assert names(cache) == [".saywhere.new.part"]


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "nothing"))
    assert list_caches() == []
    assert clear_caches(["features", "tower"]).bytes == 0
    assert CliRunner().invoke(commands, ["cache", "show"]).exit_code == 0
    assert not (tmp_path / "nothing").exists()
