"""Export of frozen towers: torch module -> one self-contained ONNX file, checked, renamed."""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import atomic_path, hash_text
from saywhere.towers.adapted import (
    AdapterInputs,
    adapter_inputs,
    free_adapter,
    prepare_sites,
)
from saywhere.towers.cache import NO_ADAPTER, OPSET, build_versions, spec_key, tower_file
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.runtime import METADATA_KEY
from saywhere.towers.weights import load_image_module, load_text_module

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn
    from torch.export import Dim

_FREE_STEP = 32  # every convolutional tower halves its input at most five times


@dataclass(frozen=True, slots=True)
class _Trace:
    """What is traced: a module, and example inputs with their free axes.

    Attributes:
        adapter: None for a frozen tower.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    axes: dict[str, Any]
    adapter: AdapterInputs | None

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the torch module."""
        return self.inputs | ({"adapter": self.adapter.example} if self.adapter else {})

    @property
    def feed(self) -> dict[str, Tensor]:
        """Of the exported graph."""
        if self.adapter is None:
            return self.inputs
        return self.inputs | dict(zip(self.adapter.names, self.adapter.example, strict=True))


def export_image_tower(config: ImageTowerConfig, adapter: AdapterConfig = NO_ADAPTER) -> Path:
    """Export the image tower of ``config`` into the cache and return its file.

    The graph maps ``pixels`` (n, 3, h, w) float32, normalised, to ``features`` (n, dimension). With
    a rank in ``adapter`` it takes an adapter's arrays, too, see ``adapted``.

    Raises:
        TowerError: weights as in ``weights``, a stage as in ``pooling``, or a model that the
            exporter cannot trace faithfully.
        ConfigError: sites that the tower does not have.
        MissingExtraError: torch or its companions are not installed.
    """
    module, weight_hash = load_image_module(config)
    import torch
    from timm.data.config import resolve_model_data_config

    settings: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    if adapter.rank:
        prepare_sites(module, adapter, config.name)
    wrapper = pooled_stages(module, config)
    # Traced at one size: padding "same" with symbolic sizes takes the exporter minutes.
    size = settings["input_size"][-1]
    generator = torch.Generator().manual_seed(0)
    inputs = {"pixels": torch.rand(2, 3, size, size, generator=generator)}
    axes = {"pixels": {0: _batch_axis()}}
    traced = _prepared(config, module, wrapper, (inputs, axes), adapter)
    expected = _run_torch(traced)
    model = _trace(traced)
    metadata = {
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "native_size": size,
        "any_size": _free_spatial_axes(model, traced, size),
        "dimension": expected.shape[1],
    }
    _check_parity(model, traced, expected)
    return _save(config, model, metadata, weight_hash, (traced, adapter))


def export_text_tower(config: TextTowerConfig, adapter: AdapterConfig = NO_ADAPTER) -> Path:
    """Export the text tower of ``config`` into the cache and return its file.

    The graph maps ``ids`` and ``mask`` (n, tokens) int64 to ``features`` (n, dimension), each of
    unit length. Adapters and errors as for the image tower.
    """
    module, weight_hash, source = load_text_module(config)
    import torch

    _check_length(module, config)
    if adapter.rank:
        prepare_sites(module, adapter, config.name)
    wrapper = pooled_tokens(module, config)
    tokenizer, pad_id, pad_token = _tokenizer(source)
    mask = torch.ones(2, min(12, config.max_tokens), dtype=torch.int64)
    mask[1, 7:] = 0
    inputs = {"ids": torch.full_like(mask, pad_id + 1).where(mask > 0, pad_id), "mask": mask}
    tokens = torch.export.Dim("tokens", min=2, max=config.max_tokens)
    axes = {name: {0: _batch_axis(), 1: tokens} for name in inputs}
    traced = _prepared(config, module, wrapper, (inputs, axes), adapter)
    expected = _run_torch(traced)
    model = _trace(traced)
    metadata = {
        "tokenizer": tokenizer,
        "pad_id": pad_id,
        "pad_token": pad_token,
        "max_tokens": config.max_tokens,
        "dimension": expected.shape[1],
    }
    _check_parity(model, traced, expected)
    return _save(config, model, metadata, weight_hash, (traced, adapter))


def _prepared(
    config: ImageTowerConfig | TextTowerConfig,
    module: nn.Module,
    wrapper: nn.Module,
    example: tuple[dict[str, Tensor], dict[str, Any]],
    adapter: AdapterConfig,
) -> _Trace:
    inputs, axes = example
    if not adapter.rank:
        return _Trace(config.name, wrapper, inputs, axes, None)
    found = adapter_inputs(module, wrapper)
    return _Trace(config.name, found.module, inputs, axes | {"adapter": found.axes}, found)


def _batch_axis() -> Dim:
    import torch

    return torch.export.Dim("n", min=1, max=4096)


def _run_torch(traced: _Trace) -> Tensor:
    import torch

    try:
        with torch.inference_mode():
            features: Tensor = traced.module(**traced.arguments)
    except TowerError:
        raise
    except Exception as error:  # whatever a model of others raises
        raise TowerError(_cannot("run", traced.name, error)) from None
    return features


def _trace(traced: _Trace) -> onnx.ModelProto:
    import torch

    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
            program = torch.onnx.export(
                traced.module,
                kwargs=traced.arguments,
                dynamic_shapes=traced.axes,
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                output_names=["features"],
            )
    except ImportError as error:
        raise MissingExtraError("exporting a tower", "train", error.name or "onnxscript") from None
    except Exception as error:  # the exporter's own exceptions share no public base
        raise TowerError(_cannot("trace", traced.name, error)) from None
    finally:
        log.setLevel(level)
    if program is None:
        raise TowerError("torch.onnx gave no program; check the installed torch and onnxscript")
    model: onnx.ModelProto = program.model_proto
    if traced.adapter is not None:
        free_adapter(model, traced.adapter)
    return model


def _cannot(verb: str, name: str, error: Exception) -> str:
    cause = next((line for line in str(error).splitlines() if line.strip()), "")[:200]
    return (
        f"the exporter cannot {verb} the tower {name!r} ({type(error).__name__}: {cause}); "
        "choose another tower"
    )


def _free_spatial_axes(model: onnx.ModelProto, traced: _Trace, size: int) -> bool:
    """Let the graph take any multiple of 32 pixels, if it then still agrees with torch.

    A convolutional graph holds no size but the input's; a vision transformer's positions do not
    stretch, and it keeps its one size.
    """
    import torch

    freed = type(model)()
    freed.CopyFrom(model)
    for axis, name in ((2, "h"), (3, "w")):
        dimension = freed.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.ClearField("dim_value")
        dimension.dim_param = name
    del freed.graph.value_info[:]
    high, wide = (-(-size // _FREE_STEP) * _FREE_STEP + more for more in (64, 32))
    pixels = torch.rand(1, 3, high, wide, generator=torch.Generator().manual_seed(0))
    other = replace(traced, inputs={"pixels": pixels})
    try:
        with torch.inference_mode():
            expected = other.module(**other.arguments)
        found = _run_graph(freed, other.feed)
    except Exception:  # either side refusing the size is the answer
        return False
    if not _agree(found, expected):
        return False
    model.CopyFrom(freed)
    return True


def _check_parity(model: onnx.ModelProto, traced: _Trace, expected: Tensor) -> None:
    if not _agree(_run_graph(model, traced.feed), expected):
        raise TowerError(
            f"the exported graph of {traced.name!r} does not give torch's numbers; "
            "install another version of torch or onnxscript, or choose another tower"
        )


def _run_graph(model: onnx.ModelProto, inputs: dict[str, Tensor]) -> np.ndarray[Any, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {name: tensor.numpy() for name, tensor in inputs.items()}
    return np.asarray(session.run(None, feed)[0])


def _agree(found: np.ndarray[Any, Any], expected: Tensor) -> bool:
    wanted = expected.numpy()
    scale = max(float(np.abs(wanted).max()), 1e-6)
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= 1e-3 * scale)


def _save(
    config: ImageTowerConfig | TextTowerConfig,
    model: onnx.ModelProto,
    metadata: dict[str, Any],
    weight_hash: str,
    made: tuple[_Trace, AdapterConfig],
) -> Path:
    import onnx

    traced, adapter = made
    versions = build_versions(config)
    if versions is None:
        raise MissingExtraError("exporting a tower", "train", "torch")
    fingerprint = hash_text(f"{spec_key(config)}:{weight_hash}")[:32]
    metadata |= {"name": config.name, "weights": weight_hash, "fingerprint": fingerprint}
    metadata |= {"opset": OPSET, "versions": versions}
    metadata["sites"] = traced.adapter.shapes if traced.adapter else {}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    path = tower_file(config, versions, adapter)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary))
        onnx.checker.check_model(str(temporary))
    return path


def _check_length(module: nn.Module, config: TextTowerConfig) -> None:
    """Positions beyond a model's table would fail on the first long text, months later."""
    table = getattr(getattr(module, "embeddings", None), "position_embeddings", None)
    if table is None:
        return  # relative or rotary positions have no end
    reserved = table.padding_idx + 1 if table.padding_idx is not None else 0  # RoBERTa's kin
    if config.max_tokens > table.num_embeddings - reserved:
        raise TowerError(
            f"text tower {config.name!r} takes {table.num_embeddings - reserved} tokens at most, "
            f"not {config.max_tokens}; lower towers.text.max_tokens"
        )


def _tokenizer(source: Path | str) -> tuple[str, int, str]:
    """The tokenizer as JSON, and its padding; without a padding token any id serves, masked."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
        backend = tokenizer.backend_tokenizer
    except Exception as error:  # transformers raises OSError, ValueError and hub errors alike
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise TowerError(
            f"{source}: its tokenizer cannot be read ({cause}); "
            "it needs a tokenizer.json (a fast tokenizer)"
        ) from None
    if backend.get_vocab_size() <= len(tokenizer.all_special_ids):
        # transformers makes up an empty tokenizer where the files are missing.
        raise TowerError(f"{source}: has no tokenizer (no words in it); add its tokenizer.json")
    backend.no_truncation()
    backend.no_padding()
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    return backend.to_str(), pad_id, tokenizer.pad_token or ""
