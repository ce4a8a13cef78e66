"""Adapters: which parameters train, that they round-trip, and that the exported tower runs them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from tuning_step import open_towers, tiny_config, tiny_towers

from saywhere.adapters import Adapter, check_sites
from saywhere.bundle import load_experts
from saywhere.cli import commands
from saywhere.config import AdapterConfig, dump_config, load_config
from saywhere.embed import (
    embed_image_queries,
    embed_images,
    embed_queries,
    query_prior,
    query_views,
)
from saywhere.errors import ConfigError, ExpertError
from saywhere.expert import expert_from_arrays
from saywhere.expert_towers import ExpertTowers
from saywhere.features import ImageRequest, content_hashes, image_features, text_features
from saywhere.fusion import UNKNOWN, fold_images, fold_queries, image_gates
from saywhere.hardware import Runtime
from saywhere.heads import Ensemble, create_member
from saywhere.portable import check_whole
from saywhere.summary import summarise
from saywhere.towers import ImageTower, TextTower, text_tower
from saywhere.towers.lora import activate, attach, collect, find_sites, load, merge, parameters_of
from saywhere.towers.onnxfile import read_onnx
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.tokenizer import vocabulary_rows
from saywhere.towers.weights import load_image_module, load_text_module
from saywhere.towers.words import words_of
from saywhere.types import FloatArray, Query, Record

RANK_3 = AdapterConfig(rank=3, alpha=6, dropout=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Tiny towers with weights in files, and a cache of their own."""
    folder = tiny_towers(tmp_path_factory.mktemp("tiny"), "XLMRoberta")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAYWHERE_CACHE", str(folder / "cache"))
        yield folder


@pytest.fixture(scope="module")
def towers(folder: Path) -> tuple[ImageTower, TextTower]:
    return open_towers(tiny_config(folder))


def bert() -> nn.Module:
    import transformers

    config = transformers.BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=48,
    )  # fmt: skip
    torch.manual_seed(0)
    module: nn.Module = transformers.BertModel(config)
    return module.eval()


def eva02() -> nn.Module:
    """The paper's architecture, a thousandth of its size."""
    import timm

    torch.manual_seed(0)
    module: nn.Module = timm.create_model(
        "eva02_base_patch16_clip_224", embed_dim=48, depth=2, num_heads=2, img_size=32,
        num_classes=8,
    )  # fmt: skip
    return module.eval()


def lite0() -> nn.Module:
    import timm

    module: nn.Module = timm.create_model("tf_efficientnet_lite0")
    return module.eval()


def some_adapter(sites: Mapping[str, tuple[int, ...]], rank: int, seed: int = 0) -> Adapter:
    rng = np.random.default_rng(seed)
    return Adapter(
        {
            name: (0.3 * rng.standard_normal([length or rank for length in shape])).astype("f4")
            for name, shape in sites.items()
        }
    )


BERT_LAYER = (
    "attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense",
    "intermediate.dense", "output.dense",
)  # fmt: skip
EVA_BLOCK = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.proj",
             "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2")  # fmt: skip


def test_sites_of_each_architecture() -> None:
    every = AdapterConfig(rank=1)
    assert set(find_sites(bert(), every, "x")) == {
        f"encoder.layer.{n}.{name}" for n in range(3) for name in BERT_LAYER
    }
    assert set(find_sites(eva02(), every, "x")) == {
        f"blocks.{n}.{name}" for n in range(2) for name in EVA_BLOCK
    }
    last = find_sites(bert(), AdapterConfig(rank=1, layers=1), "x")
    assert set(last) == {f"encoder.layer.2.{name}" for name in BERT_LAYER}
    convolutions = find_sites(lite0(), AdapterConfig(rank=1, layers=2), "x")
    assert {name.split(".")[1] for name in convolutions} == {"5", "6"}
    assert {name.rsplit(".")[-1] for name in convolutions} == {"conv_pw", "conv_pwl"}
    with pytest.raises(ConfigError, match=r"has no module called nothing; name some .* dense"):
        find_sites(bert(), AdapterConfig(rank=1, targets=("nothing",)), "x")
    with pytest.raises(ConfigError, match="LayerNorm, no linear layer"):
        find_sites(bert(), AdapterConfig(rank=1, targets=("LayerNorm",)), "x")


@pytest.mark.parametrize("make", [bert, eva02, lite0])
def test_the_trained_parameters_by_name(make: object) -> None:
    module: nn.Module = make()  # type: ignore[operator]
    sites = find_sites(module, RANK_3, "x")
    parameters = attach(module, sites, RANK_3, seed=0, name="tuned")
    assert set(parameters) == {f"{site}.{side}" for site in sites for side in "AB"}
    assert {name for name, p in module.named_parameters() if p.requires_grad} == {
        f"{site}.lora_{side}.tuned.weight" for site in sites for side in "AB"
    }
    features = np.ones((4, 6), np.float32)
    member = create_member(features, features, load_config().head, 0)
    whole = Ensemble([member], {f"text.{name}": p for name, p in parameters.items()})
    trained = {name for name, p in whole.named_parameters() if p.requires_grad}
    heads = {
        f"members.0.{side}.{layer}.{part}"
        for side in ("image", "text")
        for layer in ("first", "second")
        for part in ("weight", "bias")
    }
    adapters = {f"adapters.text/{name.replace('.', '/')}" for name in parameters}
    assert trained == {"members.0.logit_scale", *heads, *adapters}


def test_a_fresh_adapter_changes_nothing_and_a_merged_one_equals_an_attached_one() -> None:
    inputs = {"input_ids": torch.arange(12).view(2, 6)}
    plain = bert()
    before = plain(**inputs).last_hidden_state
    module = bert()
    sites = find_sites(module, RANK_3, "x")
    parameters = attach(module, sites, RANK_3, seed=0, name="tuned")
    torch.testing.assert_close(module(**inputs).last_hidden_state, before)
    adapter = some_adapter({n: tuple(p.shape) for n, p in parameters.items()}, 3)
    load(parameters, adapter, RANK_3)
    attached = module(**inputs).last_hidden_state
    assert not torch.allclose(attached, before, atol=0.1)
    for name, array in collect(parameters, RANK_3).arrays.items():
        np.testing.assert_allclose(array, adapter.arrays[name], rtol=1e-6)
    merge(plain, adapter)
    torch.testing.assert_close(plain(**inputs).last_hidden_state, attached, atol=1e-5, rtol=1e-5)


def test_several_adapters_share_one_tower() -> None:
    module, inputs = bert(), {"input_ids": torch.arange(12).view(2, 6)}
    size = sum(p.numel() for p in module.parameters())
    sites = find_sites(module, RANK_3, "x")
    outputs = {}
    for seed, name in enumerate(("drone", "ground")):
        own = attach(module, sites, RANK_3, seed=seed, name=name)
        load(own, some_adapter({n: tuple(p.shape) for n, p in own.items()}, 3, seed), RANK_3)
        outputs[name] = module(**inputs).last_hidden_state
    assert not torch.allclose(outputs["drone"], outputs["ground"], atol=0.1)
    activate(module, "drone")
    torch.testing.assert_close(module(**inputs).last_hidden_state, outputs["drone"])
    added = 2 * sum(p.numel() for p in parameters_of(module, "drone").values())
    assert sum(p.numel() for p in module.parameters()) == size + added
    assert {n.split(".")[-2] for n, p in module.named_parameters() if p.requires_grad} == {"drone"}


def test_loading_is_strict() -> None:
    module = bert()
    parameters = attach(module, find_sites(module, RANK_3, "x"), RANK_3, seed=0, name="tuned")
    whole = some_adapter({n: tuple(p.shape) for n, p in parameters.items()}, 3)
    site = whole.sites[0]
    less = {n: a for n, a in whole.arrays.items() if not n.startswith(f"{site}.")}
    with pytest.raises(ExpertError, match=f"missing .*{site}"):
        load(parameters, Adapter(less), RANK_3)
    with pytest.raises(ExpertError, match=r"unexpected .*other"):
        load(parameters, Adapter({**whole.arrays, "other.A": np.ones((3, 4), "f4"),
                                  "other.B": np.ones((4, 3), "f4")}), RANK_3)  # fmt: skip
    with pytest.raises(ExpertError, match="has no partner"):
        Adapter({f"{site}.A": whole.arrays[f"{site}.A"]})
    with pytest.raises(ExpertError, match="train it anew"):
        Adapter({"x.A": np.ones((3, 4), "f4"), "x.B": np.ones((4, 2), "f4")})
    with pytest.raises(ExpertError, match="other shape"):
        check_sites(whole, dict.fromkeys(whole.arrays, (7, 7)), "x")
    with pytest.raises(ExpertError, match="missing"):
        merge(lite0(), whole)


def test_an_adapter_is_told_by_its_numbers() -> None:
    shapes: dict[str, tuple[int, ...]] = {"x.A": (0, 4), "x.B": (5, 0)}
    one, again, other = (some_adapter(shapes, 2, seed) for seed in (0, 0, 1))
    assert one.hash == again.hash != other.hash
    assert one.parameters == 2 * 9
    assert one.sites == ("x",)


# --- exported -------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 5])
def test_the_exported_text_tower_runs_adapters_of_any_rank(
    folder: Path, towers: tuple[ImageTower, TextTower], rank: int
) -> None:
    config = tiny_config(folder)
    tower, texts = towers[1], ["a", "some words", "red roof"]
    adapter = some_adapter(tower.sites, rank)
    module, _, _ = load_text_module(config.towers.text)
    plain = tower.encode(texts)
    ids, mask = (torch.from_numpy(array) for array in tower.tokenize(texts))
    words = words_of(config.towers.text, tower.metadata["tokenizer"], vocabulary_rows(module))
    assert words is not None
    with torch.inference_mode():
        expected = pooled_tokens(module, config.towers.text, words)(ids, mask).numpy()
        np.testing.assert_allclose(plain, expected, atol=1e-5)
        merge(module, adapter)
        expected = pooled_tokens(module, config.towers.text, words)(ids, mask).numpy()
    found = tower.encode(texts, adapter)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(found - plain).max() > 0.01
    np.testing.assert_array_equal(tower.encode(texts), plain)  # nothing of it stays


def test_the_exported_image_tower_runs_adapters(
    folder: Path, towers: tuple[ImageTower, TextTower]
) -> None:
    config, tower = tiny_config(folder), towers[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    adapter = some_adapter(tower.sites, 2)
    module, _ = load_image_module(config.towers.image)
    merge(module, adapter)
    with torch.inference_mode():
        batch = torch.from_numpy(tower.normalise(pixels))
        expected = pooled_stages(module, config.towers.image)(batch).numpy()
    found = tower.encode(pixels, adapter)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(found - tower.encode(pixels)).max() > 0.01


def test_the_tower_with_and_without_sites_is_one_tower_in_two_files(
    folder: Path, towers: tuple[ImageTower, TextTower]
) -> None:
    config = tiny_config(folder)
    plain = text_tower(config.towers.text, runtime=Runtime(1))
    assert plain.path != towers[1].path
    assert plain.fingerprint == towers[1].fingerprint
    higher = config.adapters.text.model_copy(update={"rank": 64, "alpha": 1.0})
    assert text_tower(config.towers.text, runtime=Runtime(1), adapter=higher).path == towers[1].path
    with pytest.raises(ExpertError, match="takes no adapters"):
        plain.encode(["a"], some_adapter(towers[1].sites, 2))
    with pytest.raises(ExpertError, match="unexpected"):
        towers[1].encode(["a"], some_adapter(towers[0].sites, 2))


def test_a_merged_tower_gives_what_the_shared_one_gives_under_its_adapter(
    folder: Path, towers: tuple[ImageTower, TextTower]
) -> None:
    config, texts = tiny_config(folder), ["a", "some words"]
    one, other = (some_adapter(towers[1].sites, 2, seed) for seed in (0, 1))
    merged = text_tower(config.towers.text, runtime=Runtime(1), merged=one)
    expected = towers[1].encode(texts, one)
    np.testing.assert_allclose(merged.encode(texts), expected, atol=1e-5)
    assert not merged.sites
    assert merged.fingerprint != towers[1].fingerprint
    assert text_tower(config.towers.text, runtime=Runtime(1), merged=other).path != merged.path


def test_features_are_cached_apart_for_each_adapter(
    folder: Path, towers: tuple[ImageTower, TextTower]
) -> None:
    tower = towers[1]
    adapters = [None, *(some_adapter(tower.sites, 2, seed) for seed in (0, 1))]
    first = [text_features(tower, ["a roof"], None, adapter) for adapter in adapters]
    again = [text_features(tower, ["a roof"], None, adapter) for adapter in adapters]
    assert len({found.tobytes() for found in first}) == 3
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]


@pytest.mark.parametrize(("precision", "largest"), [("float16", 0.01), ("int8", 0.3)])
def test_smaller_weights_leave_adapters_whole(
    folder: Path,
    towers: tuple[ImageTower, TextTower],
    monkeypatch: pytest.MonkeyPatch,
    precision: str,
    largest: float,
) -> None:
    monkeypatch.setattr("saywhere.towers.precision._SMALL", 32)  # as if the arrays were large
    config = tiny_config(folder, f"towers.text.precision={precision}")
    tower = text_tower(config.towers.text, runtime=Runtime(1), adapter=config.adapters.text)
    texts, adapter = ["a", "some words", "red roof"], some_adapter(towers[1].sites, 5)
    assert tower.sites == towers[1].sites
    found = tower.encode(texts, adapter)
    assert np.abs(found - towers[1].encode(texts, adapter)).max() < largest
    assert np.abs(found - tower.encode(texts)).max() > 0.01


# --- end to end -----------------------------------------------------------------------------

TRAINING = (
    "views.test=['full']",
    "views.train=1",
    "train.members=2",
    "train.stage1.epochs=2",
    "train.fine_tune.epochs=1",
    "train.stage2.epochs=1",
    "tuning.stage1.epochs=2",
    "tuning.stage1.batch_size=8",
    "tuning.stage2.epochs=1",
    "tuning.stage2.batch_size=8",
    "tuning.chunk=16",
    'train.fit_places_ending_in="1"',
    "train.refit=false",
)


def run(*arguments: str) -> str:
    found = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return found.stdout


def train_arguments(folder: Path, world: Path, out: Path, *more: str) -> list[str]:
    config = folder / "tiny.toml"
    config.write_text(dump_config(tiny_config(folder)), "utf-8")
    flags = [flag for override in (*TRAINING, *more) for flag in ("--set", override)]
    data = str(world / "geotext/train.json")
    named = ["--out", str(out), "--config", str(config), "--threads", "1"]
    return ["train", data, *named, *flags]


def train_tiny(folder: Path, world: Path, out: Path, *more: str) -> None:
    run(*train_arguments(folder, world, out, *more))


@pytest.fixture(scope="module")
def trained(folder: Path, small_world: Path) -> Path:
    out = folder / "experts"
    train_tiny(folder, small_world, out)
    return out


def test_two_stages_train_three_experts_with_adapters_of_their_own(trained: Path) -> None:
    experts = load_experts(trained)
    assert [e.name for e in experts.experts] == ["satellite", "drone", "ground"]
    hashes = set()
    for expert in experts.experts:
        assert (trained / f"{expert.name}.adapters.safetensors").is_file()
        for adapter in (expert.image_adapter, expert.text_adapter):
            assert adapter is not None
            ups: list[FloatArray] = [a for n, a in adapter.arrays.items() if n.endswith(".B")]
            assert all(np.abs(up).max() > 0 for up in ups)
            hashes.add(adapter.hash)
    assert len(hashes) == 6


def test_train_index_search_in_a_process_without_torch(
    trained: Path, small_world: Path, folder: Path
) -> None:
    index = str(folder / "index")
    run("index", str(small_world / "imagery"), "--experts", str(trained), "--index", index)
    found = run("search", "a red roof by a pond", "--index", index, "--json")
    hits = json.loads(found)
    assert hits
    script = (
        "import sys; sys.modules['torch'] = None; sys.modules['peft'] = None\n"
        "from saywhere.cli import main; main()"
    )
    command = [sys.executable, "-c", script, "search", "a red roof by a pond", "--index", index]
    again = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(again.stdout) == hits


def test_an_experts_vectors_depend_on_its_adapters(trained: Path) -> None:
    experts = load_experts(trained)
    first = experts.experts[0]
    assert first.text_adapter is not None
    other = {n: 2 * a for n, a in first.text_adapter.arrays.items()}
    altered = replace(first, text_adapter=Adapter(other))
    assert replace(experts, experts=(altered, *experts.experts[1:])).hash != experts.hash
    tower, _ = ExpertTowers(experts, Runtime(1)).text()
    one, two = (
        e.encode_text(text_features(tower, ["a pond"], None, e.text_adapter))
        for e in (first, altered)
    )
    assert not np.allclose(one, two, atol=1e-3)


def test_a_missing_or_altered_adapter_file_is_refused(trained: Path, tmp_path: Path) -> None:
    for harm in ("altered", "missing", "truncated"):
        copy = tmp_path / harm
        shutil.copytree(trained, copy)
        path = copy / "drone.adapters.safetensors"
        content = path.read_bytes()
        if harm == "missing":
            path.unlink()
        else:
            path.write_bytes(content[:-9] if harm == "truncated" else content[:-1] + b"\7")
        with pytest.raises(ExpertError, match=r"drone\.adapters\.safetensors: "):
            load_experts(copy)


def test_a_summary_counts_adapters_as_trained(trained: Path) -> None:
    found = summarise(trained)
    experts = load_experts(trained).experts
    text = [e.text_adapter.parameters for e in experts if e.text_adapter]
    image = [e.image_adapter.parameters for e in experts if e.image_adapter]
    assert [part.text_adapter for part in found.parts] == text
    assert (found.trained["image_adapters"], found.trained["text_adapters"]) == (
        sum(image),
        sum(text),
    )
    assert len(image) == len(text) == 3
    part = found.parts[0]
    heads = part.image_heads + part.text_heads + part.logit_scales
    assert part.parameters == heads + image[0] + text[0]
    config = load_experts(trained).config.towers.text
    frozen = read_onnx(text_tower(config, runtime=Runtime(1)).path).parameters
    # Zeros that stand in for an adapter are no weights; a few constants differ with the graph.
    assert abs(found.frozen["text_tower"] - frozen) < 8
    assert "text adapters" in found.to_text()


def test_a_copy_elsewhere_carries_towers_that_take_adapters(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for out in (tmp_path / "copy", tmp_path / "copy.zip"):
        run("expert", "export", str(trained), str(out))
    run("expert", "import", str(tmp_path / "copy.zip"), str(tmp_path / "again"))
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    assert check_whole(tmp_path / "copy")[0].hash == load_experts(trained).hash
    assert check_whole(tmp_path / "again")[0].hash == load_experts(trained).hash


def test_each_expert_sees_images_and_texts_under_its_own_adapters(
    trained: Path, small_world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saywhere.features._LOADED", 3)  # several blocks
    experts = load_experts(trained)
    towers = ExpertTowers(experts, Runtime(1))
    (tower, _), (words, _) = towers.image(), towers.text()
    paths = sorted((small_world / "imagery").rglob("*.jpg"))[:7]
    assert len(paths) == 7
    records = [Record(str(path), path) for path in paths]
    views, size = query_views(experts), experts.config.towers.image.size
    asked = [
        ImageRequest(path, digest, views)
        for path, digest in zip(paths, content_hashes(records), strict=True)
    ]
    images = [
        e.encode_image(image_features(tower, asked, size, adapter=e.image_adapter))
        for e in experts.experts
    ]
    for mode in ("mean", "gated"):
        fused = replace(
            experts,
            config=experts.config.model_copy(
                update={"fusion": experts.config.fusion.model_copy(update={"mode": mode})}
            ),
        )
        log_probability = None
        if mode == "gated":
            assert experts.image_classifier is not None
            frozen = image_features(tower, asked, size)
            means = np.stack([seen.mean(0) for seen in frozen])
            log_probability = experts.image_classifier.log_probability(means)
        gates = image_gates(mode, experts.platforms, np.full(7, UNKNOWN), log_probability)
        found = embed_images(fused, records, runtime=Runtime(1)).embeddings.vectors
        np.testing.assert_allclose(found, fold_images(images, gates), atol=1e-6)
    no_prior = np.zeros((7, 3), np.float32)
    asking = embed_image_queries(experts, paths, runtime=Runtime(1)).vectors
    expected = fold_queries(images, experts.calibration(), no_prior)
    np.testing.assert_allclose(asking, expected, atol=1e-6)
    texts = [
        e.encode_text(text_features(words, ["a pond"], adapter=e.text_adapter))
        for e in experts.experts
    ]
    prior = query_prior(experts, text_features(words, ["a pond"]))
    spoken = embed_queries(experts, [Query("q", "a pond")], runtime=Runtime(1)).vectors
    expected = fold_queries(texts, experts.calibration(), prior)
    np.testing.assert_allclose(spoken, expected, atol=1e-6)


def test_adapters_under_other_names_are_refused(trained: Path) -> None:
    expert = load_experts(trained).experts[0]
    arrays = {f"sound.{n}": a for n, a in expert.adapter_arrays().items()}
    with pytest.raises(ExpertError, match="another tower than image and text"):
        expert_from_arrays(None, expert.arrays(), arrays)
    again = expert_from_arrays(expert.platform, expert.arrays(), expert.adapter_arrays())
    assert again.adapter_arrays().keys() == expert.adapter_arrays().keys()


def test_text_adapters_alone_leave_image_features_as_they_are(
    folder: Path, small_world: Path
) -> None:
    out = folder / "text-only"
    more = ("adapters.image.rank=0", "train.layout=generalist", "tuning.accumulate=2")
    train_tiny(folder, small_world, out, *more)
    expert = load_experts(out).experts[0]
    assert expert.image_adapter is None
    assert expert.text_adapter is not None


def test_towers_taken_out_of_the_folder_are_found_in_the_cache(
    trained: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(trained, copy)
    shutil.rmtree(copy / "towers")
    (copy / "towers").mkdir()
    tower, _ = ExpertTowers(load_experts(copy), Runtime(1)).text()
    assert tower.sites
    assert os.fspath(tower.path).startswith(os.environ["SAYWHERE_CACHE"])


# accelerate starts several processes on CPUs through MPI only; as if for GPUs, of which there are
# none here, it starts them as torchrun does, and they find that they run on a CPU.
LAUNCHERS = {
    "torchrun": "--standalone --nproc-per-node 2",
    "accelerate": "launch --multi_gpu --num_processes 2 --num_machines 1 --mixed_precision no "
    "--dynamo_backend no --main_process_port 0",
}
STILL = ("adapters.text.dropout=0", "adapters.image.dropout=0", "train.layout=generalist")


@pytest.fixture(scope="module")
def trained_alone(folder: Path, small_world: Path) -> Path:
    train_tiny(folder, small_world, folder / "one", *STILL)
    return folder / "one"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_starts_two_processes_that_train_the_experts_of_one(
    folder: Path, small_world: Path, trained_alone: Path, launcher: str
) -> None:
    out = folder / launcher
    arguments = train_arguments(folder, small_world, out, *STILL)
    program = Path(sys.executable).with_name(launcher)
    command = [str(program), *LAUNCHERS[launcher].split(), "-m", "saywhere", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("generalist/tuned: tuning.stage1") == 1  # one of them speaks
    found = load_experts(out)
    assert found.provenance["processes"] == 2
    assert not list(folder.glob(f".{launcher}.training"))
    one, two = load_experts(trained_alone).experts[0], found.experts[0]
    for name, values in (one.arrays() | one.adapter_arrays()).items():
        other = (two.arrays() | two.adapter_arrays())[name]
        # Adam turns the rounding of a gradient near zero into a step of full length.
        least = 0.02 * max(float(np.abs(values).sum()), 1e-3 * values.size)
        assert float(np.abs(other - values).sum()) <= least, name


@pytest.mark.slow
def test_the_small_towers_train_on_a_few_dozen_images(
    small_world: Path, tmp_path: Path, tower_cache: Path
) -> None:
    out = tmp_path / "small"
    settings = (
        "adapters.text.rank=4", "adapters.text.layers=1",
        "adapters.image.rank=4", "adapters.image.layers=1",
        "train.layout=generalist", "train.members=1", "head.hidden=32", "head.dimension=32",
        "tuning.stage1.epochs=1", "tuning.stage1.batch_size=16",
        "tuning.stage2.epochs=1", "tuning.stage2.batch_size=16",
    )  # fmt: skip
    flags = [flag for override in (*TRAINING, *settings) for flag in ("--set", override)]
    data = str(small_world / "geotext/train.json")
    run("train", data, "--out", str(out), "--preset", "small-lora", "--threads", "1", *flags)
    expert = load_experts(out).experts[0]
    assert expert.image_adapter is not None
    assert expert.text_adapter is not None
    assert {site.split(".")[1] for site in expert.image_adapter.sites} == {"6"}
    assert 0 < expert.adapter_parameters["text"] < 0.005 * 22_700_000
