"""Adapters merged into towers of their own: the same vectors, found and checked like the rest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from test_adapters import run, train_tiny
from tuning_step import tiny_towers

from saywhere.adapters import Adapter
from saywhere.bundle import load_experts, save_experts
from saywhere.cli import commands
from saywhere.embed import embed_image_queries, embed_images, embed_queries
from saywhere.errors import ExpertError, InputError
from saywhere.expert_set import ExpertSet
from saywhere.expert_towers import ExpertTowers, merged_files
from saywhere.files import hash_file
from saywhere.hardware import Runtime
from saywhere.merging import write_merged
from saywhere.portable import Form, check_whole, export_folder
from saywhere.summary import summarise
from saywhere.types import FloatArray, Query, Record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny towers and a cache of their own."""
    folder = tiny_towers(tmp_path_factory.mktemp("tiny"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAYWHERE_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def trained(folder: Path, small_world: Path) -> Path:
    """Three experts: adapters in both towers, in the text tower alone, in none.

    Made large enough to be seen at a glance; few, since each is exported, for seconds.
    """
    train_tiny(folder, small_world, folder / "trained", "train.members=1")
    found = load_experts(folder / "trained")
    both, words, none = found.experts
    experts = (
        replace(
            both, image_adapter=louder(both.image_adapter), text_adapter=louder(both.text_adapter)
        ),
        replace(words, image_adapter=None, text_adapter=louder(words.text_adapter)),
        replace(none, image_adapter=None, text_adapter=None),
    )
    towers = ExpertTowers(found, Runtime(1))
    paths = {"image": towers.image()[0].path, "text": towers.text()[0].path}
    return save_experts(replace(found, experts=experts), folder / "experts", paths)


@pytest.fixture(scope="module")
def merged(trained: Path, folder: Path) -> Path:
    return Path(run("expert", "export", str(trained), str(folder / "merged"), "--merged").strip())


def louder(adapter: Adapter | None) -> Adapter:
    assert adapter is not None
    return Adapter({name: 3 * array for name, array in adapter.arrays.items()})


def vectors(experts: ExpertSet, world: Path) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Of images, of words and of images that ask."""
    paths = sorted((world / "imagery").rglob("*.jpg"))[:5]
    records = [Record(str(path), path) for path in paths]
    queries = [Query("q1", "a red roof by a pond"), Query("q2", "rows of parked cars")]
    return (
        embed_images(experts, records, runtime=Runtime(1)).embeddings.vectors,
        embed_queries(experts, queries, runtime=Runtime(1)).vectors,
        embed_image_queries(experts, paths[:2], runtime=Runtime(1)).vectors,
    )


def test_merged_experts_embed_as_the_shared_towers_do(
    trained: Path, merged: Path, small_world: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experts = load_experts(trained)
    shared = {mode: vectors(experts.with_mode(mode), small_world) for mode in ("mean", "gated")}
    silent = [replace(expert, image_adapter=None, text_adapter=None) for expert in experts.experts]
    frozen = vectors(replace(experts, experts=tuple(silent)), small_world)
    monkeypatch.setenv("SAYWHERE_CACHE", str(folder / "another"))  # the folder is enough
    carried = load_experts(merged)
    assert carried.hash == experts.hash  # an index serves both
    for mode in ("mean", "gated"):
        found = vectors(carried.with_mode(mode), small_world)
        for one, other in zip(found, shared[mode], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1, np.abs(other).max()))
    for one, other in zip(shared["mean"], frozen, strict=True):
        assert np.abs(one - other).max() > 0.01  # else merging nothing would pass


def test_merged_towers_are_run_and_nothing_is_added_twice(merged: Path) -> None:
    experts = load_experts(merged)
    towers = ExpertTowers(experts, Runtime(1))
    both, words, none = experts.experts
    opened = [
        towers.image(both.image_adapter),
        towers.text(both.text_adapter),
        towers.text(words.text_adapter),
    ]
    for tower, left in opened:
        assert left is None
        assert not tower.sites
        assert tower.path.parent == merged / "towers"
    assert set(merged_files(experts).values()) == {tower.path for tower, _ in opened}
    assert len(merged_files(experts)) == 3
    assert towers.text(words.text_adapter)[0] is opened[2][0]
    # What has no adapter, and the word classifier, look through the shared towers.
    assert towers.image(none.image_adapter)[0].sites
    assert towers.text()[0].sites


def test_a_merged_folder_needs_no_adapter_of_the_cache(trained: Path, folder: Path) -> None:
    """Merged towers leave the cache: experts beside them stay unmerged and share memory."""
    experts = load_experts(trained)
    assert merged_files(experts) == {}
    tower, left = ExpertTowers(experts, Runtime(1)).text(experts.experts[0].text_adapter)
    assert left is experts.experts[0].text_adapter
    assert tower.sites
    assert len(list((folder / "cache/towers").glob("*.onnx"))) == 2


def test_a_merged_folder_is_checked_and_counted(
    trained: Path, merged: Path, tmp_path: Path
) -> None:
    found = summarise(merged)
    assert found.merged.keys() == {"satellite image", "satellite text", "drone text"}
    assert "drone text" in found.to_text()
    assert found.to_dict()["merged"].keys() == found.merged.keys()
    assert found.trainable_share == summarise(trained).trainable_share
    assert "merged" not in summarise(trained).to_text()

    first, second = (found.merged[f"{name} text"] for name in ("drone", "satellite"))
    altered = tmp_path / "altered"
    shutil.copytree(merged, altered)
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    (altered / "towers" / first.name).write_bytes(content)
    with pytest.raises(ExpertError, match="altered"):
        check_whole(altered)
    # A tower of another adapter under this one's name, in a folder sealed with it.
    experts = load_experts(merged)
    towers = {path.name: path for path in (merged / "towers").iterdir()}
    wrong = tmp_path / first.name
    shutil.copyfile(second, wrong)
    swapped = save_experts(experts, tmp_path / "swapped", {**towers, first.name: wrong})
    with pytest.raises(ExpertError, match="is not the text tower the experts were trained with"):
        check_whole(swapped)
    with pytest.raises(ExpertError, match="is not the text tower"):
        embed_queries(load_experts(swapped), [Query("q", "a pond")], runtime=Runtime(1))


def test_a_merged_copy_can_be_copied(merged: Path, tmp_path: Path) -> None:
    before = {path.name: hash_file(path) for path in (merged / "towers").iterdir()}
    again = export_folder(merged, tmp_path / "again", form=Form(merged=True))
    assert {path.name: hash_file(path) for path in (again / "towers").iterdir()} == before
    plain = export_folder(merged, tmp_path / "plain")
    assert len(list((plain / "towers").iterdir())) == 2


def test_half_precision_comes_before_merging(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[ExpertSet] = []

    def note(experts: ExpertSet, _folder: Path) -> dict[str, Path]:
        given.append(experts)
        return {}

    monkeypatch.setattr("saywhere.portable.write_merged", note)
    half = export_folder(trained, tmp_path / "half", form=Form(half=True, merged=True))
    assert [experts.hash for experts in given] == [load_experts(half).hash]
    assert load_experts(half).hash != load_experts(trained).hash


def test_what_cannot_be_merged_is_one_line(trained: Path, tmp_path: Path) -> None:
    experts = load_experts(trained)
    bare = [replace(expert, image_adapter=None, text_adapter=None) for expert in experts.experts]
    with pytest.raises(InputError, match="have no adapters, so there is nothing to merge"):
        write_merged(replace(experts, experts=tuple(bare)), tmp_path)
    for flag, said in (("--no-towers", "--merged adds towers"), ("--zip", "go with a folder")):
        command = ["expert", "export", str(trained), str(tmp_path / "out"), "--merged", flag]
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(commands, command, catch_exceptions=False)
    assert not list(tmp_path.iterdir())
