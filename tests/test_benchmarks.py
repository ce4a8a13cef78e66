"""The benchmarks at toy sizes, so that they still run when somebody needs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", ["embed", "search", "mine", "start", "memory"])
def test_a_part_runs_and_fills_its_rows(part: str, tmp_path: Path, tower_cache: Path) -> None:
    command = [sys.executable, "benchmarks/speed.py", "--toy", "--only", part]
    done = subprocess.run(
        [*command, "--threads", "1", "--out", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"== {part}" in done.stderr
    assert done.stdout == (tmp_path / "speed.md").read_text()
    found = json.loads((tmp_path / "speed.json").read_text())
    assert found["rows"]
    for row in found["rows"]:
        assert row["what"].startswith("cold start" if part == "start" else part)
        assert f"| {row['what']} | {row['setting']} | {row['ours']} |" in done.stdout
        assert any(character.isdigit() for character in row["ours"])


def test_an_unknown_part_is_refused() -> None:
    command = [sys.executable, "benchmarks/speed.py", "--only", "embed,sleep"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "'sleep' is none of embed, search, mine, start, memory" in done.stderr


@pytest.mark.slow
def test_the_raster_benchmark_runs(tmp_path: Path, tower_cache: Path) -> None:
    command = [sys.executable, "benchmarks/raster.py", "--toy", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--scratch", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| tiles read", "| tiles read", "| tiles read", "| saywhere index", "| re-index, unchanged",
    ]  # fmt: skip
    assert "4 tiles" in rows[0]
    assert not list(tmp_path.iterdir()), "the scratch folder goes with the run"
