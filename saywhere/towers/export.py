"""Export of frozen towers: torch module -> one self-contained ONNX file, checked, renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.adapters import Adapter
from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import atomic_path, hash_text
from saywhere.towers.adapted import adapter_inputs, prepare_sites
from saywhere.towers.cache import NO_ADAPTER, OPSET, build_versions, spec_key, tower_file
from saywhere.towers.lora import merge
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.runtime import METADATA_KEY
from saywhere.towers.tracing import (
    Trace,
    batch_axis,
    check_parity,
    free_spatial_axes,
    run_torch,
    trace,
)
from saywhere.towers.weights import load_image_module, load_text_module

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn


def export_image_tower(
    config: ImageTowerConfig,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> Path:
    """Export the image tower of ``config`` into the cache and return its file.

    The graph maps ``pixels`` (n, 3, h, w) float32, normalised, to ``features`` (n, dimension). With
    a rank in ``adapter`` it takes an adapter's arrays, too, see ``adapted``; ``merged`` is added to
    its weights for good.

    Raises:
        TowerError: weights as in ``weights``, a stage as in ``pooling``, or a model that the
            exporter cannot trace faithfully.
        ConfigError, ExpertError: sites that the tower does not have.
        MissingExtraError: torch or its companions are not installed.
    """
    module, weight_hash = load_image_module(config)
    if merged is not None:
        merge(module, merged)
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
    axes = {"pixels": {0: batch_axis()}}
    traced = _prepared(config, module, wrapper, (inputs, axes), adapter)
    expected = run_torch(traced)
    model = trace(traced)
    metadata = {
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "native_size": size,
        "any_size": free_spatial_axes(model, traced, size),
        "dimension": expected.shape[1],
    }
    check_parity(model, traced, expected)
    return _save(config, model, metadata, weight_hash, (traced, adapter, merged))


def export_text_tower(
    config: TextTowerConfig,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> Path:
    """Export the text tower of ``config`` into the cache and return its file.

    The graph maps ``ids`` and ``mask`` (n, tokens) int64 to ``features`` (n, dimension), each of
    unit length. Adapters and errors as for the image tower.
    """
    module, weight_hash, source = load_text_module(config)
    if merged is not None:
        merge(module, merged)
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
    axes = {name: {0: batch_axis(), 1: tokens} for name in inputs}
    traced = _prepared(config, module, wrapper, (inputs, axes), adapter)
    expected = run_torch(traced)
    model = trace(traced)
    metadata = {
        "tokenizer": tokenizer,
        "pad_id": pad_id,
        "pad_token": pad_token,
        "max_tokens": config.max_tokens,
        "dimension": expected.shape[1],
    }
    check_parity(model, traced, expected)
    return _save(config, model, metadata, weight_hash, (traced, adapter, merged))


def _prepared(
    config: ImageTowerConfig | TextTowerConfig,
    module: nn.Module,
    wrapper: nn.Module,
    example: tuple[dict[str, Tensor], dict[str, Any]],
    adapter: AdapterConfig,
) -> Trace:
    inputs, axes = example
    if not adapter.rank:
        return Trace(config.name, wrapper, inputs, axes, None)
    found = adapter_inputs(module, wrapper)
    return Trace(config.name, found.module, inputs, axes | {"adapter": found.axes}, found)


def _save(
    config: ImageTowerConfig | TextTowerConfig,
    model: onnx.ModelProto,
    metadata: dict[str, Any],
    weight_hash: str,
    made: tuple[Trace, AdapterConfig, Adapter | None],
) -> Path:
    import onnx

    traced, adapter, merged = made
    added = merged.hash if merged else ""
    versions = build_versions(config)
    if versions is None:
        raise MissingExtraError("exporting a tower", "train", "torch")
    fingerprint = hash_text(f"{spec_key(config)}:{weight_hash}{added}")[:32]
    metadata |= {"name": config.name, "weights": weight_hash, "fingerprint": fingerprint}
    metadata |= {"opset": OPSET, "versions": versions}
    metadata["sites"] = traced.adapter.shapes if traced.adapter else {}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    path = tower_file(config, versions, adapter, added)
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
