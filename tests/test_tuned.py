"""Tuned blocks: laid over a tower's own weights, and learned over what the frozen blocks gave."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from saywhere.cli import commands
from saywhere.config import ImageTowerConfig, load_config
from saywhere.errors import ConfigError, InputError, TowerError
from saywhere.features import ImageRequest
from saywhere.towers import cache, image_tower
from saywhere.towers.checkpoint import read_note
from saywhere.towers.pooling import pooled_stages
from saywhere.towers.tuned import save_changes
from saywhere.towers.weights import load_image_module
from saywhere.trainset import prepare
from saywhere.tuning.blocks import cached_maps, frozen_part, live_blocks
from saywhere.types import Dataset
from saywhere.views import FIXED_VIEWS, View

PLAIN = ImageTowerConfig()
RECIPE = (
    "towers.image.tuned=", "towers.text.words=",
    'views.test=["full"]', "views.train=1", "head.hidden=0",
    "head.dimension=16", "tuning.head_rate=5", "tuning.stage1.epochs=3",
    "tuning.stage1.batch_size=8", "tuning.stage1.learning_rate=1e-3", "tuning.stage2.epochs=0",
    "train.stage1.epochs=2", "train.stage2.epochs=0", "threads=1",
)  # fmt: skip


def tune(world: Path, out: Path, *more: str) -> str:
    """Run the command; what it said."""
    given = [part for value in RECIPE for part in ("--set", value)]
    command = ["towers", "tune", str(world / "geotext/train.json"), "--out", str(out)]
    result = CliRunner().invoke(commands, [*command, "--first", "5", *given, *more])
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    return result.stderr


@pytest.fixture(scope="module")
def tuned(small_world: Path, tower_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Blocks 5 and 6 tuned on the small world for a moment."""
    out = tmp_path_factory.mktemp("tuned") / "blocks.safetensors"
    said = tune(small_world, out)
    assert "million tuned weights" in said
    assert f"--set towers.image.tuned={out}" in said
    return out


def over(path: Path, **more: str) -> ImageTowerConfig:
    return ImageTowerConfig(tuned=str(path), **more)


def test_only_what_changed_is_written(tuned: Path) -> None:
    state = load_file(tuned)
    tops = {name.split(".")[0] + "." + name.split(".")[1] for name in state if "blocks" in name}
    assert tops == {"blocks.5", "blocks.6"}
    assert {name.split(".")[0] for name in state} == {"blocks", "conv_head", "bn2"}
    assert {value.dtype for value in state.values()} == {torch.float16}
    assert not any("running" in name for name in state)  # batch statistics stay the tower's
    assert read_note(tuned, "base") == PLAIN.sha256
    assert not list(tuned.parent.glob(".*/*"))  # maps and checkpoints are gone


def test_it_takes_the_place_of_the_towers_own(tuned: Path) -> None:
    """Learned where it was tuned, untouched before; in half precision, so to three digits."""
    plain, report = load_image_module(PLAIN)
    module, found = load_image_module(over(tuned))
    before, after, state = plain.state_dict(), module.state_dict(), load_file(tuned)
    for name, value in after.items():
        torch.testing.assert_close(value, state.get(name, before[name]).to(value.dtype))
    assert found.weight_hash != report.weight_hash
    assert [name for name, _ in found.files][1:] == [tuned.name]


def test_towers_with_and_without_are_not_mixed_up(tuned: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    other.write_bytes(tuned.read_bytes())
    keys = {cache.spec_key(config) for config in (PLAIN, over(tuned), over(other))}
    assert len(keys) == 3
    versions = {"torch": "1"}
    first = cache.tower_file(over(other), versions)
    save_file({"conv_head.weight": torch.zeros(1)}, other)
    assert cache.tower_file(over(other), versions) != first  # another file under the same name


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "no such file; use shipped"),
        ("pinned", "towers.image.tuned_sha256"),
        ("base", "was tuned from the weights with SHA-256 other"),
        ("keys", "missing: |does not fit the image tower (unexpected: nothing.like.it)"),
        ("shape", "other shape: conv_head.weight [1] for [1280, 320, 1, 1]"),
        ("damaged", "is damaged or cut short"),
        ("pickle", "is a pickle"),
    ],
)
def test_what_does_not_belong_is_refused(
    tuned: Path, tmp_path: Path, change: str, said: str
) -> None:
    path, config = tmp_path / "other.safetensors", over(tmp_path / "other.safetensors")
    state = load_file(tuned)
    if change == "pinned":
        save_file(state, path)
        config = over(path, tuned_sha256="0" * 64)
    elif change == "base":
        save_file(state, path, metadata={"base": "other"})
    elif change == "keys":
        save_file({"nothing.like.it": torch.zeros(2)}, path)
    elif change == "shape":
        save_file({"conv_head.weight": torch.zeros(1)}, path)
    elif change == "damaged":
        path.write_bytes(tuned.read_bytes()[:5000])
    elif change == "pickle":
        torch.save(state, path)
    with pytest.raises(TowerError) as caught:
        load_image_module(config)
    assert any(part in str(caught.value) for part in said.split("|"))
    assert "\n" not in str(caught.value)


def test_the_shipped_blocks_bring_their_hash(tower_cache: Path) -> None:
    """Their file is theirs alone; a hash says nothing about others."""
    shipped = load_config().towers.image
    assert shipped == ImageTowerConfig(tuned="shipped")
    assert PLAIN.tuned_sha256 is None
    assert over(Path("other")).tuned_sha256 is None
    files = dict(load_image_module(shipped)[1].files)
    assert files["shipped.safetensors"] == shipped.tuned_sha256


def test_a_presets_blocks_go_with_its_tower_only(tuned: Path) -> None:
    assert load_config(overrides=["towers.image.tuned="]).towers.image == PLAIN
    other = load_config(overrides=["towers.image.name=tf_efficientnet_lite2"])
    assert other.towers.image == ImageTowerConfig(name="tf_efficientnet_lite2")
    random = load_config(overrides=["towers.image.weights=random"]).towers.image
    assert (random.tuned, random.tuned_sha256) == ("", None)
    asked = [f"towers.image.tuned={tuned}", "towers.image.weights=random"]
    assert load_config(overrides=asked).towers.image.tuned == str(tuned)
    for strange in ("towers=3", "towers.image=3"):
        with pytest.raises(ConfigError, match="towers"):
            load_config(overrides=[strange])


def test_it_goes_on_from_the_towers_own_blocks_without_places_kept_for_fitting(
    tuned: Path, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from saywhere import tune_blocks

    seen: list[str | None] = []

    def prepared(dataset: Dataset, *more: object) -> object:
        seen.extend(record.place_id for record in dataset.records)
        assert {c.image_id for c in dataset.captions} == {r.image_id for r in dataset.records}
        return prepare(dataset, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(tune_blocks, "prepare", prepared)
    out = tmp_path / "further.safetensors"
    more = f"towers.image.tuned={tuned}", "tuning.stage1.epochs=0"
    tune(small_world, out, *(part for value in more for part in ("--set", value)))
    assert seen
    assert not [place for place in seen if (place or "").endswith("9")]
    assert load_file(out).keys() == load_file(tuned).keys()
    for name, value in load_file(tuned).items():  # nothing was learned: these are the same
        torch.testing.assert_close(load_file(out)[name], value)
    assert read_note(out, "base") == PLAIN.sha256


def test_going_on_from_the_maps_is_the_whole_tower(small_world: Path, tmp_path: Path) -> None:
    """Before training, what goes on from cached maps gives what the exported tower gives."""
    images = sorted((small_world / "geotext/images").rglob("*.jp*g"))[:2]
    views = FIXED_VIEWS["full"], FIXED_VIEWS["crop-c"]
    requests = [ImageRequest(path, str(path), views) for path in images]
    tower, (module, _) = image_tower(PLAIN), load_image_module(PLAIN)
    part = frozen_part(module, PLAIN, 3)
    done: list[tuple[int, int]] = []
    how = PLAIN.size, 1, lambda *counts: done.append(counts)
    maps = cached_maps(part, tower, requests, tmp_path / "maps.npy", how)
    assert maps.shape == (4, 40, 28, 28)
    assert maps.dtype == np.float16
    assert done == [(1, 2), (2, 2)]
    live, model = live_blocks(module, PLAIN, 3, maps)
    assert not any(name.startswith(("conv_stem", "blocks.2.")) for name in live.parameters)
    with torch.inference_mode():
        found = live.module(*live.rows.load(np.asarray([3, 0, 1, 2]))).numpy()
        pixels = torch.from_numpy(tower.normalise(_seen(images, views)))
        expected = pooled_stages(module, PLAIN)(pixels).numpy()
    np.testing.assert_allclose(found[[1, 2, 3, 0]], expected, atol=np.abs(expected).max() * 2e-3)
    assert save_changes(model, module, "base", tmp_path / "none.safetensors") == 0
    assert len(cached_maps(part, tower, requests, tmp_path / "maps.npy", how)) == 4
    assert len(done) == 2  # what is there is taken
    with pytest.raises(InputError, match="holds 4 maps of 2"):
        cached_maps(part, tower, requests[:1], tmp_path / "maps.npy", how)


def _seen(images: list[Path], views: tuple[View, ...]) -> NDArray[np.uint8]:
    from saywhere.images import read_image
    from saywhere.views import render

    return np.stack(
        [render(read_image(path), view, PLAIN.size) for path in images for view in views]
    )


@pytest.mark.parametrize(
    ("first", "config", "said"),
    [
        (0, PLAIN, "has blocks 0 to 6"),
        (7, PLAIN, "has blocks 0 to 6"),
        (5, ImageTowerConfig(stages=("conv_head",)), "may name blocks only"),
        (2, ImageTowerConfig(name="resnet18", weights="random", stages=()), "EfficientNets"),
    ],
)
def test_blocks_that_cannot_be_tuned_are_refused(
    first: int, config: ImageTowerConfig, said: str
) -> None:
    module, _ = load_image_module(config)
    with pytest.raises(ConfigError, match=said):
        frozen_part(module, config, first)


def test_it_is_not_written_over(tuned: Path, small_world: Path) -> None:
    before = tuned.read_bytes()
    command = ["towers", "tune", str(small_world / "geotext/train.json"), "--out", str(tuned)]
    result = CliRunner().invoke(commands, command)
    assert isinstance(result.exception, InputError)
    assert "--overwrite" in str(result.exception)
    assert tuned.read_bytes() == before


def test_several_processes_are_refused(
    small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["towers", "tune", str(small_world / "geotext/train.json")]
    result = CliRunner().invoke(commands, [*command, "--out", str(tmp_path / "t.safetensors")])
    assert isinstance(result.exception, InputError)
    assert "2 processes" in str(result.exception)


def test_killed_it_goes_on(
    tuned: Path, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in the blocks' second epoch it ends the same, from the maps it has."""
    from saywhere import stages

    epochs = 0
    whole = stages._train_epoch

    def killed(*args: object) -> None:
        nonlocal epochs
        epochs += 1
        if epochs == 4:  # two of the heads, one of the blocks
            raise KeyboardInterrupt
        whole(*args)  # type: ignore[arg-type]

    out = tmp_path / tuned.name
    monkeypatch.setattr(stages, "_train_epoch", killed)
    monkeypatch.setattr("saywhere.checkpoints.MemberCheckpoints.due", lambda _self: True)
    with pytest.raises((AssertionError, KeyboardInterrupt)):
        tune(small_world, out)
    assert not out.exists()
    monkeypatch.setattr(stages, "_train_epoch", whole)
    monkeypatch.setattr(stages, "_SAY_EVERY_S", 0.0)
    monkeypatch.setattr("saywhere.tuning.blocks._compiled", partial(pytest.fail, "maps anew"))
    said = tune(small_world, out)
    assert "resumed: blocks at tuning.stage1 epoch 1" in said
    assert "blocks: tuning.stage1, epoch 2 of 3, loss" in said
    for name, value in load_file(tuned).items():
        torch.testing.assert_close(load_file(out)[name], value)
