"""The paper's towers without their weights: tiny ones in the same code, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from tiny import BASE, write_eva, write_vocabulary, write_xlmr

from saywhere.cli import commands
from saywhere.config import ImageTowerConfig, Precision, TextTowerConfig, load_config
from saywhere.errors import InputError, TowerError
from saywhere.files import hash_file
from saywhere.towers import TextTower, image_tower, memory, precision, sources, text_tower
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.weights import load_image_module, load_text_module

PREFIXES = {"timm": "", "openclip": "visual.trunk."}


@pytest.fixture(scope="module")
def captions(small_world: Path) -> list[str]:
    entries = json.loads((small_world / "geotext/train.json").read_text("utf-8"))
    return [entry["caption"] for entry in entries if isinstance(entry["caption"], str)]


@pytest.fixture(scope="module")
def eva(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("eva")
    return folder, write_eva(folder)


@pytest.fixture(scope="module")
def pickled_xlmr(tmp_path_factory: pytest.TempPathFactory, captions: list[str]) -> tuple[Path, Any]:
    folder = tmp_path_factory.mktemp("xlmr")
    return folder, write_xlmr(folder, captions)


@pytest.fixture(scope="module")
def xlmr(
    tmp_path_factory: pytest.TempPathFactory, pickled_xlmr: tuple[Path, Any]
) -> tuple[Path, Any]:
    """The tiny BGE-M3 after the one conversion."""
    source, module = pickled_xlmr
    folder = tmp_path_factory.mktemp("converted") / "bge"
    shutil.copytree(source, folder)
    (folder / "pytorch_model.bin").unlink()
    save_file(module.state_dict(), folder / "model.safetensors")
    return folder, module


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One cache for this file: an export takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAYWHERE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def image_config(folder: Path, **more: Any) -> ImageTowerConfig:
    values = {"name": str(folder), "weights": "timm", "stages": (), "size": 56}
    return ImageTowerConfig.model_validate({**values, **more})


def text_config(folder: Path, **more: Any) -> TextTowerConfig:
    values = {"name": str(folder), "weights": "transformers", "pooling": "cls", "max_tokens": 256}
    return TextTowerConfig.model_validate({**values, **more})


def refused(call: Callable[[], object], *parts: str) -> str:
    with pytest.raises((TowerError, InputError)) as error:
        call()
    line = str(error.value)
    assert "\n" not in line
    assert ";" in line or ":" in line
    for part in parts:
        assert part in line
    return line


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


# --- presets --------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "dimension"), [("paper", 768), ("paper-base", 512)])
def test_presets_are_what_timm_knows_under_these_names(preset: str, dimension: int) -> None:
    import timm

    config = load_config(preset)
    known: Any = timm.get_pretrained_cfg(config.towers.image.name)
    assert known.input_size == (3, config.towers.image.size, config.towers.image.size)
    assert known.num_classes == dimension  # CLIP's projection, in the classifier's place
    assert known.hf_hub_id == f"timm/{config.towers.image.name}"
    assert config.towers.image.sha256 is None  # the default pin is another file's
    assert config.towers.text.sha256 is None
    assert (config.towers.text.name, config.towers.text.pooling) == ("BAAI/bge-m3", "cls")
    # A tower of one size sees a larger view as the same one, and would average it twice.
    assert not [name for name in config.views.test if name.startswith("large")]
    assert load_config(preset, overrides=["towers.image.precision=int8"]) != config


def test_the_whole_image_is_seen_whatever_timm_crops(eva: tuple[Path, Any]) -> None:
    import PIL.Image

    from saywhere.views import View, render

    pixels = np.zeros((100, 300, 3), np.uint8)
    pixels[:, :12] = 255  # the left border
    seen = render(PIL.Image.fromarray(pixels), View(), 56)
    assert seen.shape == (56, 56, 3)
    assert seen[:, 0].min() > 200
    assert seen[:, 8:].max() < 40


# --- the same numbers as timm and transformers ------------------------------------------------


@pytest.mark.parametrize("names", list(PREFIXES))
def test_eva_gives_timms_numbers_from_published_names(
    eva: tuple[Path, Any], tmp_path: Path, names: str
) -> None:
    folder, module = eva
    state = {f"{PREFIXES[names]}{key}": value for key, value in module.state_dict().items()}
    if names == "openclip":
        state |= {"text.ln_final.weight": torch.ones(3), "logit_scale": torch.ones(1)}
    path = tmp_path / "open_clip_model.safetensors"
    save_file({key: value.half() for key, value in state.items()}, path)  # as published
    config = image_config(folder, weights=str(path))
    loaded, report = load_image_module(config)
    halved = {key: value.half().float() for key, value in module.state_dict().items()}
    own = copy_of(module, halved)
    pixels = torch.rand(3, 3, 56, 56, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected = pooled_stages(loaded, config)(pixels), own(pixels)
    assert found.shape == (3, 24)  # projected, not the 48 numbers before
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert report.architecture == "eva02_large_patch14_clip_336.merged2b"
    assert report.files == (("open_clip_model.safetensors", hash_file(path)),)
    assert report.weight_hash == hash_file(path)
    assert report.parameters == sum(value.numel() for value in module.parameters())
    expected_unused = {"text.ln_final.weight", "logit_scale"} if names == "openclip" else set()
    assert set(report.unused) == expected_unused


def copy_of(module: Any, state: dict[str, torch.Tensor]) -> Any:
    import copy

    other = copy.deepcopy(module)
    other.load_state_dict(state)
    return other


def test_xlmr_gives_transformers_numbers_through_a_real_vocabulary(
    xlmr: tuple[Path, Any], own_cache: None, captions: list[str]
) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder, _module = xlmr
    config = text_config(folder)
    loaded, report, source = load_text_module(config)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) > 100
    own = AutoModel.from_pretrained(folder).eval()
    texts = [*captions[:6], "naïve café — 北京", ""]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = own(**batch).last_hidden_state[:, 0]
        expected = torch.nn.functional.normalize(hidden, dim=-1)
        found = pooled_tokens(loaded, config)(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    exported = text_tower(config)
    np.testing.assert_allclose(exported.encode(texts), expected.numpy(), atol=2e-5)
    assert exported.metadata["loaded"] == report.to_dict()
    assert exported.metadata["loaded"]["files"][0]["sha256"] == hash_file(
        folder / "model.safetensors"
    )
    assert source == folder


def test_heads_of_a_larger_model_are_left_and_named(xlmr: tuple[Path, Any], tmp_path: Path) -> None:
    folder, module = xlmr
    state = {f"roberta.{key}": value for key, value in module.state_dict().items()
             if not key.startswith("pooler")}  # fmt: skip
    other = copied(folder, tmp_path / "masked")
    save_file({**state, "lm_head.bias": torch.ones(3)}, other / "model.safetensors")
    loaded, report, _ = load_text_module(text_config(other))
    assert report.unused == ("lm_head.bias",)
    key = "encoder.layer.1.output.dense.weight"
    torch.testing.assert_close(loaded.state_dict()[key], module.state_dict()[key])


def test_shards_are_one_set_of_weights(xlmr: tuple[Path, Any], tmp_path: Path) -> None:
    folder, module = xlmr
    other = copied(folder, tmp_path / "sharded")
    whole = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    keys = sorted(whole)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((keys[:10], keys[10:])):
        name = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({key: whole[key] for key in part}, other / name)
        weight_map |= dict.fromkeys(part, name)
    index = other / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), "utf-8")
    loaded, report, _ = load_text_module(text_config(other))
    assert [name for name, _ in report.files] == sorted(set(weight_map.values()))
    torch.testing.assert_close(loaded.state_dict(), module.state_dict())
    refused(lambda: load_text_module(text_config(other, sha256="0" * 64)), "towers.text.sha256")
    assert load_text_module(text_config(other, sha256=report.weight_hash))[1] == report
    (other / "model-00002-of-00002.safetensors").unlink()
    refused(lambda: load_text_module(text_config(other)), "model-00002-of-00002", "is missing")
    index.write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}), "utf-8")
    refused(lambda: load_text_module(text_config(other)), "no index")


# --- the one conversion -----------------------------------------------------------------------


def test_a_pickle_is_converted_once_and_only_under_its_hash(
    pickled_xlmr: tuple[Path, Any], tmp_path: Path
) -> None:
    folder = copied(pickled_xlmr[0], tmp_path / "bge-m3")
    source, out = folder / "pytorch_model.bin", folder / "model.safetensors"
    line = refused(lambda: load_text_module(text_config(folder)), "pickle")
    command = re.search(r"saywhere (towers convert \S+ \S+ --sha256) HASH", line)
    assert command is not None
    arguments = command.group(1).split()
    run = CliRunner().invoke(commands, [*arguments, "0" * 64], standalone_mode=False)
    assert "expected 0000" in str(run.exception)
    assert not out.exists()
    run = CliRunner().invoke(commands, [*arguments, hash_file(source), "--json"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["weights"] == hash_file(out)
    loaded, report, _ = load_text_module(text_config(folder))
    torch.testing.assert_close(loaded.state_dict(), pickled_xlmr[1].state_dict())
    assert report.weight_hash == hash_file(out)
    run = CliRunner().invoke(commands, [*arguments, hash_file(source)])
    assert "is there already" in str(run.exception)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("evil-was-here",)


@pytest.mark.parametrize("kind", ["code", "cut", "number", "mixed", "missing"])
def test_what_is_no_state_dict_is_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights.bin"
    torch.save({"a": torch.ones(2), "b": 3} if kind == "mixed" else {"a": torch.ones(9)}, path)
    if kind == "code":
        path.write_bytes(pickle.dumps(Evil()))
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "number":
        torch.save(3, path)
    digest = hash_file(path)
    if kind == "missing":
        path.unlink()
    command = ["towers", "convert", str(path), str(tmp_path / "o.safetensors"), "--sha256", digest]
    run = CliRunner().invoke(commands, command, standalone_mode=False)
    assert isinstance(run.exception, InputError)
    assert "\n" not in str(run.exception)
    assert not (tmp_path / "o.safetensors").exists()
    assert not (tmp_path / "evil-was-here").exists()


# --- one line each ----------------------------------------------------------------------------


def test_weights_of_another_architecture_name_their_keys(
    eva: tuple[Path, Any], xlmr: tuple[Path, Any], tmp_path: Path
) -> None:
    other = tmp_path / "other"
    write_eva(other, architecture=BASE, size=64)
    config = image_config(eva[0], weights=str(other))
    refused(lambda: load_image_module(config), "other shape: ", "patch_embed.proj.weight",
            "check towers.image.name")  # fmt: skip
    state = load_file(eva[0] / "model.safetensors")
    state["surplus"] = state.pop("head.bias")
    save_file(state, tmp_path / "keys.safetensors")
    config = image_config(eva[0], weights=str(tmp_path / "keys.safetensors"))
    refused(lambda: load_image_module(config), "missing: head.bias", "unexpected: surplus")
    broken = copied(xlmr[0], tmp_path / "broken")
    state = load_file(broken / "model.safetensors")
    state["embeddings.LayerNorm.extra"] = state.pop("embeddings.LayerNorm.bias")
    state["encoder.layer.0.output.dense.bias"] = torch.ones(3)
    save_file(state, broken / "model.safetensors")
    refused(lambda: load_text_module(text_config(broken)), "missing: embeddings.LayerNorm.bias",
            "unexpected: embeddings.LayerNorm.extra", "other shape: encoder.layer.0",
            "check towers.text.name")  # fmt: skip
    foreign = text_config(xlmr[0], weights=str(eva[0] / "model.safetensors"))
    refused(lambda: load_text_module(foreign), "missing: ", "more")


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "pickle", "renamed", "absent"])
def test_damaged_weight_files(
    eva: tuple[Path, Any], xlmr: tuple[Path, Any], tmp_path: Path, damage: str
) -> None:
    kinds: tuple[tuple[Path, Callable[[Any], object], Callable[[Path], object]], ...] = (
        (eva[0], load_image_module, image_config),
        (xlmr[0], load_text_module, text_config),
    )
    for source, load, config in kinds:
        folder = copied(source, tmp_path / source.name)
        path = folder / "model.safetensors"
        content = path.read_bytes()
        said = "damaged or cut short"
        if damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "header":
            path.write_bytes(b"\xff" * 16 + content[16:])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "pickle":  # under the name of safetensors
            torch.save({"a": torch.ones(2)}, path)
            said = "saywhere towers convert"
        elif damage == "renamed":
            path.rename(folder / "weights.bin")
            said = "saywhere towers convert"
        else:
            path.unlink()
            said = "holds no weights"
        refused(partial(load, config(folder)), said)


def test_another_models_tokenizer(
    xlmr: tuple[Path, Any], own_cache: None, tmp_path: Path, captions: list[str]
) -> None:
    from saywhere.towers.export import export_text_tower

    larger = copied(xlmr[0], tmp_path / "larger")
    (larger / "tokenizer.json").unlink()
    write_vocabulary(larger, captions, 300)
    refused(lambda: export_text_tower(text_config(larger)), "another model's", "its ids reach")
    special = copied(xlmr[0], tmp_path / "special")
    settings = json.loads((special / "config.json").read_text("utf-8"))
    settings["bos_token_id"], settings["eos_token_id"] = 101, 102
    (special / "config.json").write_text(json.dumps(settings), "utf-8")
    refused(lambda: export_text_tower(text_config(special)), "its bos id is 0, the model's 101")
    smaller = copied(xlmr[0], tmp_path / "smaller")
    settings = json.loads((xlmr[0] / "config.json").read_text("utf-8"))
    wide = torch.zeros(30_000, 32)
    state = load_file(smaller / "model.safetensors")
    save_file({**state, "embeddings.word_embeddings.weight": wide}, smaller / "model.safetensors")
    settings["vocab_size"] = 30_000
    (smaller / "config.json").write_text(json.dumps(settings), "utf-8")
    refused(lambda: export_text_tower(text_config(smaller)), "the model 30000", "same repository")


def test_too_little_memory_is_said_before_anything_is_built(
    eva: tuple[Path, Any], xlmr: tuple[Path, Any], own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 4 * sum(value.numel() for value in eva[1].parameters())
    monkeypatch.setattr(memory, "available_memory", lambda: int(needed * memory.LOADING) - 1)
    refused(lambda: load_image_module(image_config(eva[0])), "GB are available",
            "smaller towers.image.name")  # fmt: skip
    monkeypatch.setattr(memory, "available_memory", lambda: int(needed * memory.LOADING))
    load_image_module(image_config(eva[0]))  # loads, but does not export
    refused(lambda: image_tower(image_config(eva[0])), "GB are available")
    monkeypatch.setattr(memory, "available_memory", lambda: 10_000)
    refused(lambda: load_text_module(text_config(xlmr[0])), "text tower", "million parameters")
    monkeypatch.setattr(memory, "available_memory", lambda: None)
    load_image_module(image_config(eva[0]))  # not to be known: tried


def test_available_memory_is_the_containers_if_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    whole = memory.available_memory()
    assert whole is not None
    for name, text in (("max", "1000"), ("current", "700"), ("stat", "anon 9\ninactive_file 50\n")):
        (tmp_path / f"memory.{name}").write_text(text, "ascii")
    assert memory.available_memory() == 350
    (tmp_path / "memory.max").write_text("max\n", "ascii")
    found = memory.available_memory()
    assert found is not None
    assert found > 350


@pytest.mark.parametrize("preset", ["paper", "paper-base"])
def test_weights_that_are_not_there_name_the_command_that_fetches_them(preset: str) -> None:
    config = load_config(preset).towers
    line = refused(lambda: load_image_module(config.image))
    assert f"hf download timm/{config.image.name} config.json model.safetensors" in line
    line = refused(lambda: load_text_module(config.text))
    assert "hf download BAAI/bge-m3 config.json tokenizer.json" in line
    assert "pytorch_model.bin --local-dir bge-m3" in line
    assert "saywhere towers convert bge-m3/pytorch_model.bin bge-m3/model.safetensors" in line
    assert "towers.text.name=bge-m3" in line


def test_offline_means_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    def never(*_args: object, **_more: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", never)
    refused(lambda: sources.hub_folder("nobody/nothing", ("*.json",)), "hf download nobody/nothing")


# --- precision --------------------------------------------------------------------------------


def graph(folder: Path) -> Any:
    """The tiny text tower's exported float32 graph."""
    import onnx

    return onnx.load(str(text_tower(text_config(folder)).path))


def test_precisions_keep_the_numbers_as_far_as_they_can(
    eva: tuple[Path, Any], xlmr: tuple[Path, Any], own_cache: None, captions: list[str],
    tmp_path: Path,
) -> None:  # fmt: skip
    import onnx

    texts = captions[:20]
    full, half = (text_tower(text_config(xlmr[0], precision=p)) for p in ("float32", "float16"))
    assert full.fingerprint != half.fingerprint
    assert (full.path.stat().st_size, half.metadata["precision"]) > (
        half.path.stat().st_size, "float16")  # fmt: skip
    np.testing.assert_allclose(half.encode(texts), full.encode(texts), atol=2e-3)
    quantised = precision.reduce_weights(graph(xlmr[0]), "int8", "text", "tiny")
    onnx.save_model(quantised, str(tmp_path / "int8.onnx"))
    cosine = (TextTower(tmp_path / "int8.onnx").encode(texts) * full.encode(texts)).sum(1)
    assert 0.98 < cosine.min() < 0.999999  # quantised, and not broken
    assert precision.weight_bytes(quantised) < 0.4 * precision.weight_bytes(graph(xlmr[0]))


def test_weights_beyond_one_file_need_a_smaller_precision(
    xlmr: tuple[Path, Any], own_cache: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reduce(to: Precision) -> object:
        return precision.reduce_weights(graph(xlmr[0]), to, "text", "tiny")

    size = precision.weight_bytes(graph(xlmr[0]))
    monkeypatch.setattr(precision, "LARGEST_FILE", int(0.7 * size))
    refused(lambda: reduce("float32"), "as float32", "towers.text.precision = float16 or int8")
    reduce("float16")
    monkeypatch.setattr(precision, "LARGEST_FILE", int(0.5 * size))
    refused(lambda: reduce("float16"), "set towers.text.precision = int8")
    reduce("int8")


def test_weights_that_a_precision_does_not_fit(xlmr: tuple[Path, Any], own_cache: None) -> None:
    from onnx import numpy_helper

    model = graph(xlmr[0])
    tensor = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[3] = 1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    refused(lambda: precision.reduce_weights(model, "float16", "text", "tiny"), "exceeds float16")


def test_a_tower_of_convolutions_is_not_quantised() -> None:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((64, 3, 3, 3), np.float32), "w")
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "y")]
    node = helper.make_node("Conv", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", info[:1], info[1:], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    refused(lambda: precision.reduce_weights(model, "int8", "image", "lite0"), "no smaller")


# --- the verbs --------------------------------------------------------------------------------


def test_show_prints_what_is_loaded(eva: tuple[Path, Any], xlmr: tuple[Path, Any]) -> None:
    chosen = ["--preset", "paper", "--set", f"towers.image.name={eva[0]}",
              "--set", f"towers.text.name={xlmr[0]}"]  # fmt: skip
    run = CliRunner().invoke(commands, ["towers", "show", *chosen, "--json"])
    assert run.exit_code == 0, run.output
    shown = json.loads(run.stdout)
    assert shown["image"]["files"][0]["sha256"] == hash_file(eva[0] / "model.safetensors")
    assert shown["text"]["architecture"] == "XLMRobertaModel"
    run = CliRunner().invoke(commands, ["towers", "show", *chosen])
    assert hash_file(xlmr[0] / "model.safetensors") in run.stdout


def test_export_leaves_files_that_another_machine_can_use(
    eva: tuple[Path, Any], xlmr: tuple[Path, Any], own_cache: None, tmp_path: Path
) -> None:
    chosen = ["--preset", "paper", "--set", f"towers.image.name={eva[0]}",
              "--set", f"towers.text.name={xlmr[0]}"]  # fmt: skip
    run = CliRunner().invoke(commands, ["towers", "export", *chosen, "--out", str(tmp_path / "t")])
    assert run.exit_code == 0, run.output
    files = run.stdout.split()
    assert [Path(file).parent for file in files] == [tmp_path / "t"] * 2
    config = load_config("paper", overrides=[f"towers.image.name={eva[0]}"])
    tower = image_tower(config.towers.image, bundle=tmp_path / "t", adapter=config.adapters.image)
    assert tower.path == Path(files[0])
