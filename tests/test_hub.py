"""Experts to a hub and back, over HTTP on loopback, as separate processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakehub import FakeHub, running_hub

from saywhere.bundle import load_experts
from saywhere.files import hash_bytes, hash_text

REPO = "team/campus-experts"
TERMS = "Rendered campus of 20 places, public domain."


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def run(hub: FakeHub, home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """``saywhere hub …`` against the fake hub, with its own empty home."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(home / "hf"),
        "HF_TOKEN": hub.token,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1",  # plain LFS, which a small fake can speak
        **more,
    }
    code = "from saywhere.cli import main; main()"
    command = [sys.executable, "-c", code, "hub", *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def push(hub: FakeHub, home: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run(hub, home, "push", str(folder), REPO, "--license", "apache-2.0",
               "--data-terms", TERMS, *more)  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = [line for line in done.stderr.splitlines() if line.startswith("saywhere: ")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "track4.json"
    path.write_text("{}", "utf-8")
    path.with_suffix(".md").write_text("| R@1 |\n|---|\n| 41.7 |\n", "utf-8")
    return path


@pytest.fixture(scope="module")
def pushed(hub: FakeHub, home: Path, small_experts: Path, report: Path) -> str:
    """Standard output and error of a push that went well."""
    stray = small_experts / ".env"
    stray.write_text(f"HF_TOKEN={hub.token}", "utf-8")
    done = push(hub, home, small_experts, "--report", str(report))
    stray.unlink()
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_what_is_pulled_is_what_was_pushed(
    hub: FakeHub, home: Path, small_experts: Path, pushed: str, tmp_path: Path
) -> None:
    out = tmp_path / "pulled"
    done = run(hub, home, "pull", REPO, str(out), HF_TOKEN="")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(out)
    names = sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file())
    own = {str(p.relative_to(small_experts)) for p in small_experts.rglob("*") if p.is_file()}
    assert names == sorted(own)
    for name in names:
        assert (out / name).read_bytes() == (small_experts / name).read_bytes(), name
    assert load_experts(out).hash == load_experts(small_experts).hash
    assert (out.stat().st_mode & 0o777) == 0o755
    refused(run(hub, home, "pull", REPO, str(out)), "--overwrite")
    assert run(hub, home, "pull", REPO, str(out), "--overwrite").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pulled"]


def test_only_named_files_and_a_card_are_on_the_hub(
    hub: FakeHub, small_experts: Path, pushed: str
) -> None:
    manifest = json.loads((small_experts / "experts.json").read_text("utf-8"))
    expected = {"experts.json", "README.md", *manifest["files"]}
    assert set(hub.repos[REPO]) == expected | {f"towers/{name}" for name in manifest["tower_files"]}
    assert hub.commit(REPO) in pushed


def test_the_card_says_data_terms_numbers_licences_and_hashes(
    hub: FakeHub, small_experts: Path, pushed: str
) -> None:
    card = hub.repos[REPO]["README.md"].decode()
    assert card.startswith("---\nlicense: apache-2.0\n")
    manifest = json.loads((small_experts / "experts.json").read_text("utf-8"))
    config = (small_experts / "config.toml").read_text("utf-8").strip()
    for part in (TERMS, "| 41.7 |", "tf_efficientnet_lite0 | Apache-2.0",
                 "wordllama (in the text tower) | MIT;", manifest["hash"], config,
                 *manifest["files"].values(), *manifest["towers"].values(),
                 *(file["sha256"] for file in manifest["tower_files"].values())):  # fmt: skip
        assert part in card


def test_the_token_is_nowhere(hub: FakeHub, home: Path, small_experts: Path, pushed: str) -> None:
    assert hub.token not in pushed
    for name, content in hub.repos[REPO].items():
        assert hub.token.encode() not in content, name
    for root in (small_experts, home):
        for path in root.rglob("*"):
            if path.is_file():
                assert hub.token.encode() not in path.read_bytes(), path
    assert not [line for line in hub.requests if hub.token in line]


@pytest.mark.parametrize("where", ["terms", "config", "report"])
def test_a_token_on_its_way_out_is_stopped(
    hub: FakeHub, home: Path, small_experts: Path, report: Path, tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "experts"
    shutil.copytree(small_experts, folder)
    more = []
    if where == "terms":
        more = ["--data-terms", f"key {hub.token}"]
    elif where == "report":
        leak = tmp_path / "r.json"
        leak.write_text("{}", "utf-8")
        leak.with_suffix(".md").write_text("hf_" + "A1b2C3d4" * 4, "utf-8")  # another's
        more = ["--report", str(leak)]
    else:
        path = folder / "config.toml"
        path.write_text(f"{path.read_text('utf-8')}# {hub.token}\n", "utf-8")
        seal(folder, hash_bytes(path.read_bytes()))
    before = dict(hub.repos.get(REPO, {}))
    done = push(hub, home, folder, *more)
    refused(done, "holds an access token", "config.toml" if where == "config" else "README.md")
    assert hub.token not in done.stderr
    assert hub.repos.get(REPO, {}) == before


def seal(folder: Path, config_hash: str | None = None, **changes: Any) -> None:
    """Rewrite the manifest as an attacker would, with a good seal."""
    path = folder / "experts.json"
    values = json.loads(path.read_text("utf-8")) | changes
    values.pop("seal")
    if config_hash:
        values["files"]["config.toml"] = config_hash
    values["seal"] = hash_text(json.dumps(values, sort_keys=True))
    path.write_text(json.dumps(values), "utf-8")


def test_files_that_were_altered_on_the_hub_are_not_taken(
    hub: FakeHub, home: Path, pushed: str, tmp_path: Path
) -> None:
    files = hub.repos[REPO]
    tower = next(name for name in files if name.endswith(".onnx"))
    for name in ("satellite.safetensors", "experts.json", tower):
        evil = f"evil/{name.replace('/', '-').split('.')[0]}"
        content = bytearray(files[name])
        content[len(content) // 2] ^= 1
        hub.repos[evil] = {**files, name: bytes(content)}
        refused(run(hub, home, "pull", evil, str(tmp_path / "out")), evil)
    hub.repos["evil/short"] = {k: v for k, v in files.items() if k != "drone.safetensors"}
    refused(run(hub, home, "pull", "evil/short", str(tmp_path / "out")), "drone.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("field", ["files", "tower_files"])
def test_names_that_lead_elsewhere_are_refused(
    hub: FakeHub, home: Path, small_experts: Path, pushed: str, tmp_path: Path, field: str
) -> None:
    folder = tmp_path / "evil"
    folder.mkdir()
    shutil.copy(small_experts / "experts.json", folder)
    manifest = json.loads((folder / "experts.json").read_text("utf-8"))
    names: dict[str, dict[str, Any]] = {
        "files": {"../../evil.toml": "0" * 64},
        "tower_files": {"../../evil.onnx": {"size": 3, "sha256": "0" * 64}},
    }
    evil = names[field]
    seal(folder, None, **{field: {**manifest[field], **evil}})
    content = (folder / "experts.json").read_bytes()
    repo = f"evil/{field}"
    hub.repos[repo] = {**hub.repos[REPO], "experts.json": content, next(iter(evil)): b"bad"}
    shutil.rmtree(folder)
    refused(run(hub, home, "pull", repo, str(tmp_path / "out")), "names other files")
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_refuses_is_one_line_with_the_remedy(
    hub: FakeHub, home: Path, small_experts: Path, tmp_path: Path
) -> None:
    wrong = "hf_" + "wrong" * 6
    done = run(hub, home, "push", str(small_experts), "team/other", "--license", "mit",
               "--data-terms", "none", "--without-towers", HF_TOKEN=wrong)  # fmt: skip
    refused(done, "hf auth login", "HF_TOKEN")
    assert wrong not in done.stderr
    out = str(tmp_path / "out")
    refused(run(hub, home, "pull", "no/such", out), "no/such", "check owner/name")
    refused(run(hub, home, "pull", REPO, out, HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE")
    refused(run(hub, home, "pull", "a/b/../c", out), "check owner/name")
    refused(push(hub, home, small_experts, "--license", "My Own!"), "apache-2.0, mit")
    refused(push(hub, home, small_experts, "--data-terms", "  "), "name the training data")
    refused(push(hub, home, tmp_path), "holds no experts")
