"""Frozen towers: what was exported gives torch's numbers, and what is wrong is refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import InputError, TowerError
from saywhere.hardware import Runtime
from saywhere.towers import ImageTower, TextTower, cache, image_tower, text_tower
from saywhere.towers.cache import build_versions, find_tower, tower_file
from saywhere.types import FloatArray

if TYPE_CHECKING:
    from torch import nn

TEXTS = (
    "a", "a red brick church by a pond", "", "Straße 9, naïve café — 北京", "many words " * 90,
    "two parallel rows of parked cars beside a flat grey roof with three skylights",
)  # fmt: skip
TINY_VIT = ImageTowerConfig(name="test_vit", weights="random", sha256=None, stages=("blocks.1",))


@pytest.fixture(scope="session")
def image(tower_cache: Path) -> ImageTower:
    return image_tower(ImageTowerConfig(), runtime=Runtime(1))


@pytest.fixture(scope="session")
def text(tower_cache: Path) -> TextTower:
    return text_tower(TextTowerConfig(), runtime=Runtime(1))


@pytest.fixture(scope="session")
def lite0() -> nn.Module:
    from saywhere.towers.weights import load_image_module

    return load_image_module(ImageTowerConfig())[0]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAYWHERE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def noise(count: int, edge: int) -> NDArray[np.uint8]:
    return np.random.default_rng(edge).integers(0, 256, (count, edge, edge, 3), np.uint8)


def run(function: Callable[..., Any], pixels: NDArray[np.uint8], module: nn.Module) -> FloatArray:
    """``function`` of ``pixels`` in torch, normalised as timm says."""
    import torch
    from timm.data.config import resolve_model_data_config

    settings = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.inference_mode():
        found: FloatArray = function((batch - mean) / std).numpy()
    return found


def close(found: FloatArray, expected: FloatArray) -> None:
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(TowerError) as error:
        call()
    assert "\n" not in str(error.value)
    assert ";" in str(error.value)
    return str(error.value)


# --- the packaged image tower ---------------------------------------------------------------


@pytest.mark.parametrize("edge", [224, 288, 96])
def test_image_features_are_the_stages_in_order_then_the_last_layer(
    image: ImageTower, lite0: nn.Module, edge: int
) -> None:
    pixels = noise(2, edge)
    found = image.encode(pixels)
    assert found.shape == (2, 40 + 112 + 192 + 320 + 1280)
    assert found.dtype == np.float32
    last = run(lambda x: lite0.forward_head(lite0.forward_features(x), pre_logits=True),  # type: ignore[operator]
               pixels, lite0)  # fmt: skip
    close(found[:, -1280:], last)
    kept: dict[str, Any] = {}
    blocks = dict(lite0.named_modules())
    stages = ("blocks.2", "blocks.4", "blocks.5", "blocks.6")
    handles = [blocks[name].register_forward_hook(
        lambda _m, _i, out, name=name: kept.__setitem__(name, out)) for name in stages]  # fmt: skip
    run(lite0, pixels, lite0)
    for handle in handles:
        handle.remove()
    pooled = [kept[name].numpy().mean((2, 3)) for name in stages]
    assert [part.shape[1] for part in pooled] == [40, 112, 192, 320]
    close(found[:, :664], np.concatenate(pooled, 1))


def test_a_batch_gives_what_each_image_gives_alone(image: ImageTower) -> None:
    pixels = noise(5, 64)
    together = image.encode(pixels)
    np.testing.assert_allclose(
        together, np.concatenate([image.encode(p[None]) for p in pixels]), atol=1e-4
    )
    assert image.encode(pixels[:0]).shape == (0, image.dimension)


def test_normalisation_and_provenance_travel_in_the_file(
    image: ImageTower, lite0: nn.Module
) -> None:
    settings: Any = lite0.pretrained_cfg
    assert image.metadata["mean"] == list(settings["mean"])
    assert image.metadata["std"] == list(settings["std"])
    assert (image.native_size, image.any_size) == (224, True)
    assert image.metadata["weights"] == ImageTowerConfig().sha256
    assert image.metadata["versions"] == build_versions(ImageTowerConfig())
    assert json.loads(json.dumps(image.metadata)) == image.metadata


@pytest.mark.parametrize("edge", [230, 16, 225])
def test_sizes_that_would_give_other_numbers_are_refused(image: ImageTower, edge: int) -> None:
    assert "any multiple of 32" in refused(lambda: image.encode(noise(1, edge)))
    assert "towers.image.size" in refused(lambda: image.check_size(edge))


# --- the packaged text tower ----------------------------------------------------------------


def test_text_features_are_those_of_transformers(text: TextTower) -> None:
    import torch
    from transformers import AutoTokenizer

    from saywhere.towers.weights import load_text_module

    module, report, source = load_text_module(TextTowerConfig())
    assert report.weight_hash == TextTowerConfig().sha256
    tokenizer = AutoTokenizer.from_pretrained(source)
    for words, found in zip(TEXTS, text.encode(TEXTS), strict=True):
        inputs = tokenizer([words], truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            mean = module(**inputs).last_hidden_state.mean(1)
        expected = torch.nn.functional.normalize(mean, dim=-1)[0].numpy()
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_padding_changes_nothing(text: TextTower) -> None:
    together = text.encode(TEXTS)
    alone = np.concatenate([text.encode([words]) for words in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert text.encode([]).shape == (0, 384)


def test_order_is_kept_across_batches(text: TextTower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "batch_size", 2)
    np.testing.assert_allclose(text.encode(TEXTS[::-1]), text.encode(TEXTS)[::-1], atol=1e-5)


def test_text_that_is_no_unicode_is_refused(text: TextTower) -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        text.encode(["fine", "not \udcff fine"])


# --- wrong weights, wrong files -------------------------------------------------------------


def test_weights_that_were_altered_or_do_not_fit_are_refused(empty_cache: Path) -> None:
    for config in (ImageTowerConfig(sha256="0" * 64), ImageTowerConfig(sha256=None)):
        assert "towers.image.sha256" in refused(partial(image_tower, config))
    assert "towers.text.sha256" in refused(lambda: text_tower(TextTowerConfig(sha256="0" * 64)))
    for name in ("tf_efficientnet_lite1", "test_efficientnet"):
        assert "no package carries" in refused(partial(image_tower, ImageTowerConfig(name=name)))
    assert "'no_such_net'" in refused(lambda: image_tower(ImageTowerConfig(name="no_such_net")))
    assert not list(empty_cache.rglob("*.onnx"))


def test_unknown_stages_name_the_modules_there_are(empty_cache: Path) -> None:
    found = refused(lambda: image_tower(TINY_VIT.model_copy(update={"stages": ("blocks.9",)})))
    assert "'blocks.9'" in found
    assert "patch_embed" in found


def test_stages_without_features_are_refused(empty_cache: Path) -> None:
    config = TINY_VIT.model_copy(update={"stages": ("norm_pre", "head_drop")})
    assert "head_drop" in refused(lambda: image_tower(config))


@pytest.mark.parametrize("kind", ["image", "text"])
def test_weights_that_no_hub_gives_are_one_quick_error(empty_cache: Path, kind: str) -> None:
    started = time.perf_counter()
    if kind == "image":
        found = refused(lambda: image_tower(ImageTowerConfig(weights="timm")))
    else:
        config = TextTowerConfig(name="nobody/nothing", weights="transformers")
        found = refused(lambda: text_tower(config))
    assert "network" in found
    assert time.perf_counter() - started < 10


def test_weights_of_unknown_kind_are_refused(empty_cache: Path, tmp_path: Path) -> None:
    assert "no such .safetensors" in refused(
        lambda: image_tower(TINY_VIT.model_copy(update={"weights": str(tmp_path / "x.pth")}))
    )
    config = TextTowerConfig(name="nobody/nothing", weights="pickle")
    assert "network" in refused(lambda: text_tower(config))
    (tmp_path / "bad.safetensors").write_bytes(b"\x05" * 99)
    assert "damaged" in refused(
        lambda: image_tower(
            TINY_VIT.model_copy(update={"weights": str(tmp_path / "bad.safetensors")})
        )
    )


def test_files_that_are_no_towers_are_refused(
    tmp_path: Path, image: ImageTower, text: TextTower
) -> None:
    import onnx

    (tmp_path / "garbage.onnx").write_bytes(bytes(range(256)) * 9)
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "cut.onnx").write_bytes(image.path.read_bytes()[:100_000])
    for name in ("garbage", "empty", "cut", "missing"):
        assert "delete it" in refused(partial(ImageTower, tmp_path / f"{name}.onnx"))
    value = onnx.helper.make_tensor_value_info("pixels", onnx.TensorProto.FLOAT, [1])
    out = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["pixels"], ["features"])
    graph = onnx.helper.make_graph([node], "g", [value], [out])
    foreign = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    foreign.ir_version = 9
    for props in ({}, {"saywhere": "no json"}, {"saywhere": "[1]"}, {"saywhere": "{}"}):
        onnx.helper.set_model_props(foreign, props)
        onnx.save_model(foreign, str(tmp_path / "foreign.onnx"))
        assert "saywhere" in refused(lambda: ImageTower(tmp_path / "foreign.onnx"))
    assert "kind of tower" in refused(lambda: ImageTower(text.path))
    assert "kind of tower" in refused(lambda: TextTower(image.path))


# --- where exports are found ----------------------------------------------------------------


def test_the_bundle_is_looked_into_first(image: ImageTower, tmp_path: Path) -> None:
    config = ImageTowerConfig()
    assert find_tower(config, None) == image.path
    assert find_tower(config, tmp_path) == image.path  # an empty bundle
    carried = tmp_path / image.path.name
    shutil.copy(image.path, carried)
    assert find_tower(config, tmp_path) == carried
    assert image_tower(config, bundle=tmp_path).fingerprint == image.fingerprint
    assert find_tower(ImageTowerConfig(stages=()), tmp_path) is None


def test_the_build_must_match_only_where_it_could_be_made_anew(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ImageTowerConfig()
    files = [tower_file(config, {"torch": str(n), "timm": "1"}) for n in (1, 2)]
    files[0].parent.mkdir(parents=True)
    for age, path in enumerate(files):
        path.write_bytes(b"")
        os.utime(path, (1000 + age, 1000 + age))
    assert find_tower(config, None) is None
    monkeypatch.setattr(cache, "build_versions", lambda _config: None)
    assert find_tower(config, None) == files[1]
    os.utime(files[0], (2000, 2000))
    assert find_tower(config, None) == files[0]
    assert find_tower(ImageTowerConfig(name="other"), None) is None
    monkeypatch.setattr(cache, "build_versions", lambda _config: {"torch": "1", "timm": "1"})
    assert find_tower(config, None) == files[0]


def test_the_size_of_views_does_not_make_another_tower() -> None:
    assert cache.spec_key(ImageTowerConfig(size=288)) == cache.spec_key(ImageTowerConfig())
    others: list[cache.TowerConfig] = [
        ImageTowerConfig(stages=()),
        ImageTowerConfig(name="b"),
        TextTowerConfig(),
    ]
    assert len({cache.spec_key(config) for config in (ImageTowerConfig(), *others)}) == 4


# --- any timm tower -------------------------------------------------------------------------


def test_a_vision_transformer_from_a_file_of_ones_own(empty_cache: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    module: Any = timm.create_model("test_vit").eval()
    path = tmp_path / "w.safetensors"
    save_file(module.state_dict(), path)
    config = TINY_VIT.model_copy(update={"weights": str(path)})
    tower = image_tower(config, runtime=Runtime(1))
    assert (tower.native_size, tower.any_size) == (160, False)
    pixels = noise(3, 160)
    found = tower.encode(pixels)
    expected = run(
        lambda x: module.forward_head(module.forward_features(x), pre_logits=True), pixels, module
    )
    close(found[:, -expected.shape[1] :], expected)
    assert "160 only" in refused(lambda: tower.encode(noise(1, 192)))
    assert find_tower(config, None) == tower.path
    other = timm.create_model("test_vit")
    save_file(other.state_dict(), path)
    os.utime(path, (1, 1))
    assert find_tower(config, None) is None  # the file changed under the same name
    wrong = config.model_copy(update={"sha256": "0" * 64})
    assert "towers.image.sha256" in refused(lambda: image_tower(wrong))
    assert "does not fit" in refused(
        lambda: image_tower(config.model_copy(update={"name": "test_vit2"}))
    )


def test_random_weights_differ_and_so_do_their_fingerprints(empty_cache: Path) -> None:
    from saywhere.towers.weights import load_image_module

    tower = image_tower(TINY_VIT, runtime=Runtime(1))
    assert (
        image_tower(TINY_VIT, runtime=Runtime(1)).fingerprint == tower.fingerprint
    )  # from the cache
    hashes = {load_image_module(TINY_VIT)[1].weight_hash for _ in range(2)}
    assert len(hashes | {tower.metadata["weights"]}) == 3
    assert tower.fingerprint != cache.spec_key(TINY_VIT)


def test_the_hash_of_loaded_weights_binds_every_number() -> None:
    import torch

    from saywhere.towers.weights import _hash_state

    module = torch.nn.BatchNorm1d(2)
    before = _hash_state(module)
    assert _hash_state(module) == before
    module(torch.ones(3, 2))  # counts in a buffer without dimensions
    changed = _hash_state(module)
    module.half()
    assert len({before, changed, _hash_state(module)}) == 3


def test_a_clip_tower_keeps_its_projection(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import timm

    from saywhere.towers import export
    from saywhere.towers.checkpoint import LoadReport

    module = timm.create_model(
        "eva02_base_patch16_clip_224", embed_dim=48, depth=2, num_heads=2, num_classes=24
    ).eval()
    loaded = module, LoadReport("eva02", "tiny")
    monkeypatch.setattr(export, "load_image_module", lambda _config: loaded)
    config = ImageTowerConfig(name="eva02_base_patch16_clip_224", stages=("blocks.0",), weights="x")
    tower = image_tower(config, runtime=Runtime(1))
    pixels = noise(2, 224)
    found = tower.encode(pixels)
    assert found.shape == (2, 48 + 24)
    close(found[:, 48:], run(module, pixels, module))
    assert tower.metadata["mean"] == pytest.approx([0.481, 0.458, 0.408], abs=1e-3)


def test_a_clip_tower_tuned_to_classes_gives_what_is_before_them() -> None:
    import timm

    from saywhere.towers.pooling import pooled_stages

    for tag, dimension in (("laion2b", 24), ("laion2b_ft_in1k", 48)):
        module: Any = timm.create_model(
            "vit_base_patch32_clip_224", embed_dim=48, depth=1, num_heads=2, num_classes=24
        ).eval()
        module.pretrained_cfg["tag"] = tag
        wrapper = pooled_stages(module, ImageTowerConfig(stages=()))
        assert run(wrapper, noise(1, 224), module).shape == (1, dimension)


def test_channels_last_stages_are_pooled_over_space() -> None:
    import timm

    from saywhere.towers.pooling import pooled_stages

    module = timm.create_model(
        "swin_tiny_patch4_window7_224", embed_dim=12, depths=(1, 1), num_heads=(1, 2)
    ).eval()
    wrapper = pooled_stages(module, ImageTowerConfig(stages=("layers.0", "layers.1")))
    assert run(wrapper, noise(1, 224), module).shape == (1, 12 + 24 + 24)


# --- any Hugging Face tower -----------------------------------------------------------------


def tiny_text_model(folder: Path, kind: str) -> None:
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz"]
    backend = Tokenizer(models.WordLevel({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast: Any = transformers.PreTrainedTokenizerFast
    fast(
        tokenizer_object=backend, pad_token="[PAD]", cls_token="[CLS]", unk_token="[UNK]"
    ).save_pretrained(folder)
    config_class = getattr(transformers, f"{kind}Config")
    config = config_class(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=40, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(3)
    getattr(transformers, f"{kind}Model")(config).half().save_pretrained(folder)


@pytest.mark.parametrize(
    ("kind", "pooling"), [("Bert", "mean"), ("XLMRoberta", "cls")]
)  # fmt: skip
def test_any_hugging_face_text_tower(
    empty_cache: Path, tmp_path: Path, kind: str, pooling: str
) -> None:
    import torch
    import transformers

    folder = tmp_path / "model"
    tiny_text_model(folder, kind)
    config = TextTowerConfig.model_validate(
        {"name": str(folder), "weights": "transformers", "sha256": None, "pooling": pooling,
         "max_tokens": 32}
    )  # fmt: skip
    tower = text_tower(config, runtime=Runtime(1))
    texts = ["a", "some words", "", "x" * 99, "q" * 32]
    found = tower.encode(texts)
    assert found.shape == (5, 32)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate([tower.encode([t]) for t in texts]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert find_tower(config, None) == tower.path
    module = transformers.AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(["some words"], return_tensors="pt")
    with torch.inference_mode():
        hidden = module(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]
        ).last_hidden_state[0]
    pooled = (hidden[0] if pooling == "cls" else hidden.mean(0)).numpy()
    np.testing.assert_allclose(found[1], pooled / np.linalg.norm(pooled), atol=1e-5)
    os.utime(folder / "model.safetensors", (1, 1))
    assert find_tower(config, None) is None


def test_random_text_towers_come_from_the_configuration_alone(tmp_path: Path) -> None:
    from saywhere.towers.weights import load_text_module

    tiny_text_model(tmp_path, "Bert")
    (tmp_path / "model.safetensors").unlink()
    config = TextTowerConfig(name=str(tmp_path), weights="random")
    assert len({load_text_module(config)[1].weight_hash for _ in range(2)}) == 2


@pytest.mark.parametrize(("kind", "most"), [("Bert", 40), ("XLMRoberta", 39)])
def test_more_tokens_than_positions_are_refused(
    empty_cache: Path, tmp_path: Path, kind: str, most: int
) -> None:
    tiny_text_model(tmp_path, kind)
    config = TextTowerConfig(name=str(tmp_path), weights="transformers", max_tokens=most + 1)
    assert f"takes {most} tokens at most" in refused(lambda: text_tower(config))


def test_a_model_without_a_fast_tokenizer_is_refused(empty_cache: Path, tmp_path: Path) -> None:
    tiny_text_model(tmp_path, "Bert")
    for path in tmp_path.glob("tokenizer*"):
        path.unlink()
    config = TextTowerConfig(name=str(tmp_path), weights="transformers", max_tokens=32)
    assert "tokenizer" in refused(lambda: text_tower(config))


# --- exports that are cut off or made twice ---------------------------------------------------


def tiny_graph() -> Any:
    """A graph of 256 KB that ONNX Runtime loads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ones((256, 256), np.float32), "w")
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 256]) for n in ("x", "y")]
    graph = helper.make_graph([node], "tiny", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model


EXPORT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import onnx
from test_towers import tiny_graph
from saywhere.config import ImageTowerConfig
from saywhere.towers import export
from saywhere.towers.checkpoint import LoadReport
model = tiny_graph()
if sys.argv[2] == "die":
    onnx.checker.check_model = lambda path: os.kill(os.getpid(), signal.SIGKILL)
for turn in range(int(sys.argv[3])):
    export._save(ImageTowerConfig(), model, {"turn": turn}, LoadReport("tiny", "h"))
"""


def start_export(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", EXPORT, str(Path(__file__).parent), *arguments])


def test_a_killed_export_is_never_used_and_swept(empty_cache: Path) -> None:
    """The kill comes when the whole file is written and not yet renamed: the worst moment."""
    assert start_export("die", "1").wait() == -signal.SIGKILL
    folder = empty_cache / "towers"
    assert [path.suffix for path in folder.iterdir()] == [".part"]
    assert find_tower(ImageTowerConfig(), None) is None
    assert find_tower(ImageTowerConfig(), folder) is None
    assert start_export("live", "1").wait() == 0
    assert list(folder.iterdir()) == [find_tower(ImageTowerConfig(), None)]


def test_two_exports_of_one_tower_at_once(empty_cache: Path) -> None:
    """Whoever looks meanwhile finds a whole file, and nothing is left behind."""
    import onnxruntime

    exports, looked = [start_export("live", "60") for _ in range(2)], 0
    while any(process.poll() is None for process in exports):
        path = find_tower(ImageTowerConfig(), None)
        if path is not None:
            content = path.read_bytes()
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            assert session.run(None, {"x": np.ones((1, 256), np.float32)})[0][0, 0] == 256
            looked += 1
        time.sleep(0.01)
    assert [process.returncode for process in exports] == [0, 0]
    assert looked > 3
    assert list((empty_cache / "towers").iterdir()) == [find_tower(ImageTowerConfig(), None)]


def test_towers_from_before_there_were_precisions_keep_their_names() -> None:
    """Experts that were trained then carry these files; another name would train them anew."""
    assert cache.spec_key(ImageTowerConfig()) == "fdd9e2ee8db62177"
    assert cache.spec_key(TextTowerConfig()) == "4cf9c8d1e4d58d97"
    assert cache.spec_key(TextTowerConfig(precision="int8")) != "4cf9c8d1e4d58d97"
