"""Training that is cut off anywhere ends as if it had not been."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL_TRAINING
from test_train import config, fingerprint, planted, silent

from saywhere import checkpoints
from saywhere.batches import TrainingSet
from saywhere.checkpoints import Checkpoint, MemberCheckpoints, Training, open_work
from saywhere.cli import commands
from saywhere.config import Config
from saywhere.errors import InputError
from saywhere.expert import Expert
from saywhere.optimiser import Optimiser
from saywhere.train import train_layout, training_key
from saywhere.types import Log

# All that a member's state can hold: dropout, mined tables that are refreshed, a continued start.
BUSY = (
    "train.layout=both",
    "train.start_from_generalist=true",
    "train.members=2",
    "train.stage1.epochs=3",
    "train.fine_tune.epochs=2",
    "train.stage2.epochs=5",
    "train.stage2.batch_size=8",
    "train.mining.refresh=4",
    "train.mining.in_denominator=true",
)


class Killed(BaseException):
    """Nothing catches it."""


def trained(
    folder: Path, every: float, settings: Config, data: TrainingSet, log: Log = silent
) -> tuple[Expert, ...]:
    training = Training(folder, log, every)
    return train_layout(data, settings, log, partial(training.member, "fit"))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts optimiser steps; the one that ``steps[1]`` names is the last."""
    counted, step = [0, -1], Optimiser.step

    def spy(self: Optimiser, loss: object, backward: object = None) -> None:
        counted[0] += 1
        if counted[0] == counted[1]:
            raise Killed
        step(self, loss, backward)  # type: ignore[arg-type]

    monkeypatch.setattr(Optimiser, "step", spy)
    return counted


@pytest.mark.parametrize(("every", "threads"), [(0.0, 1), (0.0, 2), (1e9, 1)])
def test_cut_off_at_any_step_it_ends_the_same(
    tmp_path: Path, steps: list[int], every: float, threads: int
) -> None:
    data, settings = planted(48, 0), config(*BUSY, f"threads={threads}")
    expected = fingerprint(train_layout(data, settings, silent))
    total, stages_seen = steps[0], set()
    for number, last in enumerate(np.random.default_rng(0).permutation(total)[:8] + 1):
        folder = tmp_path / str(number)
        steps[:] = 0, int(last)
        with pytest.raises(Killed):
            trained(folder, every, settings, data)
        kept = any(folder.rglob("*.safetensors"))
        steps[:] = 0, -1
        lines: list[str] = []
        assert fingerprint(trained(folder, every, settings, data, lines.append)) == expected
        assert steps[0] <= total
        resumed = [line for line in lines if line.startswith("resumed: ")]
        assert bool(resumed) == kept
        stages_seen |= {line.split()[3] for line in resumed}
    assert stages_seen >= ({"stage2"} if every else {"stage1", "stage2"})


def test_cut_off_again_and_again(tmp_path: Path, steps: list[int]) -> None:
    data, settings = planted(48, 0), config(*BUSY)
    expected, total, done = fingerprint(train_layout(data, settings, silent)), steps[0], 0
    for _ in range(100):
        steps[:] = 0, 23
        try:
            experts = trained(tmp_path, 0, settings, data)
        except Killed:
            done += steps[0]
            continue
        break
    assert fingerprint(experts) == expected
    assert total <= done + steps[0] < 3 * total  # it got on every time


def test_the_log_says_where_it_goes_on(tmp_path: Path, steps: list[int]) -> None:
    data, settings = planted(48, 0, platforms=1), config("train.stage1.epochs=5")
    steps[1] = 8  # two steps an epoch: in the fourth
    with pytest.raises(Killed):
        trained(tmp_path, 0, settings, data)
    lines: list[str] = []
    trained(tmp_path, 0, settings, data, lines.append)
    assert lines[0] == "resumed: satellite/0 at stage1 epoch 3"
    lines.clear()
    trained(tmp_path, 0, settings, data, lines.append)
    assert lines == ["resumed: satellite/0 at stage2 epoch 3"]


def test_checkpoints_are_as_rare_as_they_are_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("saywhere.checkpoints.time.monotonic", lambda: now[0])

    def slow(_path: Path, _content: bytes) -> None:
        now[0] += 3.0

    monkeypatch.setattr(checkpoints, "write_bytes", slow)
    member = Training(tmp_path, silent, 10).member("fit", "drone/0")
    now[0] = 9.9
    assert not member.due()
    now[0] = 10.0
    assert member.due()
    member.save(Checkpoint("stage1", 1, 0.5, {}, {"a": np.zeros(3)}))
    now[0] = 13 + 299.9
    assert not member.due()
    now[0] = 13 + 300.1  # 3 s are 1 % of it
    assert member.due()


ARRAYS = {
    "module.a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "scale": np.asarray(2.5, np.float32),
    "hard": np.asarray([[1, -1], [0, 2]]),
    "empty": np.empty((0,), np.float32),
}


def saved(folder: Path) -> tuple[Path, MemberCheckpoints, list[str]]:
    lines: list[str] = []
    member = Training(folder, lines.append).member("fit", "drone/0")
    generator = np.random.default_rng(3)
    generator.random(5, np.float32)  # leaves half a number behind
    state = {"dropout": generator.bit_generator.state}
    member.save(Checkpoint("stage2", 7, 0.1, state, ARRAYS))
    return folder / "fit/drone-0.safetensors", member, lines


def same(found: Checkpoint) -> bool:
    generator, expected = np.random.default_rng(), np.random.default_rng(3)
    generator.bit_generator.state = found.generators["dropout"]
    expected.random(5, np.float32)
    return (
        (found.stage, found.epoch, found.loss) == ("stage2", 7, 0.1)
        and set(found.arrays) == set(ARRAYS)
        and all(
            found.arrays[name].dtype == array.dtype
            and found.arrays[name].shape == array.shape
            and np.array_equal(found.arrays[name], array)
            for name, array in ARRAYS.items()
        )
        and np.array_equal(generator.random(3, np.float32), expected.random(3, np.float32))
    )


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    _, member, lines = saved(tmp_path)
    found = member.load()
    assert found is not None
    assert same(found)
    assert Training(tmp_path, silent).member("fit", "drone/1").load() is None
    assert Training(tmp_path, silent).member("refit", "drone/0").load() is None
    assert lines == []


def test_no_damaged_byte_is_believed(tmp_path: Path) -> None:
    path, member, lines = saved(tmp_path)
    whole = path.read_bytes()
    refused = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        found = member.load()
        assert found is None or same(found)  # white space of the header says nothing
        refused += found is None
    assert refused > 0.95 * len(whole)
    assert len(lines) == refused
    assert all("damaged" in line and "starts anew" in line and "\n" not in line for line in lines)


@pytest.mark.parametrize("content", [b"", b"\0" * 8, b"\xff" * 100, b"{}", b"\x80\x04K\x01."])
def test_a_damaged_checkpoint_starts_its_member_anew(tmp_path: Path, content: bytes) -> None:
    data, settings = planted(40, 0), config("train.stage1.epochs=2", "train.stage2.epochs=1")
    expected = fingerprint(train_layout(data, settings, silent))
    trained(tmp_path, 0, settings, data)
    (tmp_path / "fit/drone-0.safetensors").write_bytes(content)
    lines: list[str] = []
    assert fingerprint(trained(tmp_path, 0, settings, data, lines.append)) == expected
    assert sum("damaged" in line for line in lines) == 1
    assert not any(line.startswith("resumed: drone") for line in lines)
    assert sum(line.startswith("resumed: ") for line in lines) == 2


def test_the_key_is_of_all_that_shapes_the_numbers() -> None:
    data, places = planted(12, 0), [f"{n:04}" for n in range(12)]
    key = training_key(data, places, config(), ["a", "b"])
    assert key == training_key(data, places, config("threads=7"), ["a", "b"])
    turned = data.take(np.arange(12)[::-1])
    others = [
        training_key(data, places, config("seed=1"), ["a", "b"]),
        training_key(data, places, config("train.stage2.learning_rate=0.5"), ["a", "b"]),
        training_key(data, places, config(), ["b", "a"]),
        training_key(data, [*places[:-1], "9"], config(), ["a", "b"]),
        training_key(turned, places, config(), ["a", "b"]),
        training_key(replace(data, places=data.places[::-1].copy()), places, config(), ["a", "b"]),
    ]
    assert len({key, *others}) == 7


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


HOLD = """
import sys
from pathlib import Path
from saywhere.checkpoints import open_work
with open_work(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_trainings_into_one_folder_are_refused_until_one_is_dead(tmp_path: Path) -> None:
    out = tmp_path / "new" / "experts"
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=-1, stdin=-1, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        for path in (out, tmp_path / "link/experts"):
            with pytest.raises(InputError, match="another process is training into it; wait"):
                open_work(path, silent).__enter__()
        with open_work(tmp_path / "new/others", silent):
            pass
        process.kill()
    with open_work(out, silent) as work:
        training = work.training("k" * 64)
        training.member("fit", "drone/0").save(Checkpoint("stage1", 1, 0.5, {}, ARRAYS))
    assert names(tmp_path / "new") == [".experts.training"]
    with open_work(out, silent) as work:
        assert work.training("k" * 64).member("fit", "drone/0").load() is not None
        assert work.training("j" * 64).member("fit", "drone/0").load() is None
        work.forget("")
        assert work.count() == 1
        work.forget("k" * 64)
        assert work.count() == 0
    assert names(tmp_path / "new") == []


def test_a_work_folder_is_made_for_any_name(tmp_path: Path) -> None:
    with open_work(tmp_path / ("n" * 250), silent) as work:
        work.training("k").member("fit", "a/0").save(Checkpoint("s", 1, 0.5, {}, ARRAYS))
        work.clear()
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*--out"):
        open_work(tmp_path / "file/experts", silent).__enter__()


# --- the command ----------------------------------------------------------------------------


@pytest.fixture
def train(
    small_world: Path, small_experts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Train like ``small_experts`` into ``tmp_path``; what was said on stderr."""
    settings = [part for setting in SMALL_TRAINING for part in ("--set", setting)]
    fixed = ["train", str(small_world / "geotext/train.json"), "--out", str(tmp_path / "experts")]

    def run(*more: str) -> str:
        capsys.readouterr()
        commands([*fixed, *settings, "--threads", "1", *more], standalone_mode=False)
        return capsys.readouterr().err

    return run


def hash_of(folder: Path) -> str:
    return str(json.loads((folder / "experts.json").read_text())["hash"])


def test_the_command_goes_on_and_cleans_up(
    train: Callable[..., str], small_experts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "experts"

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("saywhere.bundle.save_experts", die)
        with pytest.raises(Killed):
            train()
        with pytest.raises(Killed):
            train("--seed", "5")
    assert names(tmp_path) == [".experts.training"]
    said = train()
    assert said.count("resumed: ") == 8  # a generalist and three experts, twice
    assert "checkpoints of 1 unfinished trainings" in said
    assert hash_of(out) == hash_of(small_experts)
    made = json.loads((out / "experts.json").read_text())["provenance"]
    assert made["resumed_members"] == 8
    assert sorted(names(tmp_path)) == [".experts.training", "experts"]
    assert "resumed: " not in train("--fresh", "--overwrite")
    assert names(tmp_path) == ["experts"]
    assert hash_of(out) == hash_of(small_experts)


def test_killed_after_saving_nothing_is_kept(
    train: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Experts are there and their checkpoints, too: the next command forgets these."""
    with monkeypatch.context() as patch:
        patch.setattr("saywhere.manifest.training_of", lambda _: "")
        train()
    with open_work(tmp_path / "experts", silent) as work:
        assert work.count() == 1
    with pytest.raises(InputError, match="already holds experts"):
        train()
    assert names(tmp_path) == ["experts"]


def test_two_commands_into_one_folder(train: Callable[..., str], tmp_path: Path) -> None:
    busy = "another process is training into it; wait"
    with open_work(tmp_path / "experts", silent), pytest.raises(InputError, match=busy):
        train()
    assert names(tmp_path) == []
    train()
