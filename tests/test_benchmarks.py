"""The benchmarks at toy sizes, so that they still run when somebody needs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """A benchmark of this tree, which must end well."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("part", ["embed", "search", "mine", "start", "memory"])
def test_a_part_runs_and_fills_its_rows(part: str, tmp_path: Path, tower_cache: Path) -> None:
    command = [sys.executable, "benchmarks/speed.py", "--toy", "--only", part]
    done = run([*command, "--threads", "1", "--out", str(tmp_path)])
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
    done = run([*command, "--scratch", str(tmp_path)])
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row.split(" | ")[0] for row in rows] == [
        "| tiles read", "| tiles read", "| tiles read", "| saywhere index", "| re-index, unchanged",
    ]  # fmt: skip
    assert "4 tiles" in rows[0]
    assert not list(tmp_path.iterdir()), "the scratch folder goes with the run"


def better_data(world: Path, folder: Path) -> Path:
    """The rendered world under the names of the real imagery."""
    folder.mkdir()
    (folder / "track4-mini").symlink_to(world / "track4")
    geotext = folder / "geotext-mini"
    geotext.mkdir()
    (geotext / "images").symlink_to(world / "geotext/images")
    (geotext / "train.json").symlink_to(world / "geotext/train.json")
    (geotext / "test_mini.json").symlink_to(world / "geotext/test_world.json")
    return folder


@pytest.mark.slow
def test_the_rows_for_better_experts_run(
    small_world: Path, tmp_path: Path, tower_cache: Path
) -> None:
    """Every part at a few epochs: rows are there, compared, and the same when run again."""
    command = [
        sys.executable,
        "benchmarks/better.py",
        str(better_data(small_world, tmp_path / "d")),
    ]
    settings = [
        "views.test=['full']", "views.train=1", "head.hidden=16", "head.dimension=8",
        "train.stage1.epochs=2", "train.stage2.epochs=1", 'train.fit_places_ending_in="1"',
    ]  # fmt: skip
    command += [part for setting in settings for part in ("--set", setting)]
    runs = []
    for format_ in ([], ["--json"]):
        done = run([*command, *format_, "--seeds", "1", "--out", str(tmp_path / "pool")])
        runs.append(done.stdout)
    rows = json.loads(runs[1])["rows"]
    names = [row["name"] for row in rows]
    assert len(set(names)) == len(names) > 20
    shown = [line.split(" | ")[0][2:] for line in runs[0].splitlines() if line.startswith("| ")]
    assert [name for name in shown if name != "row"] == names
    by_name = {row["name"]: row for row in rows}
    for row in rows:
        for kind, found in row["tasks"].items():
            assert f"{found['recall_at_1']:.1f} / {found['recall_at_5']:.1f}" in runs[0]
            assert (found["difference"] is None) == (row["against"] not in by_name)
            if found["difference"]:
                gap = (
                    found["value"]["value"]
                    - by_name[row["against"]]["tasks"][kind]["value"]["value"]
                )
                assert found["difference"]["value"] == pytest.approx(gap)
