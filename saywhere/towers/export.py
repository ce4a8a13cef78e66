"""Export of frozen towers: torch module -> one self-contained ONNX file, checked, renamed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.adapters import Adapter
from saywhere.config import AdapterConfig, ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError
from saywhere.files import atomic_path
from saywhere.towers import memory
from saywhere.towers.adapted import adapter_inputs, prepare_sites
from saywhere.towers.cache import NO_ADAPTER, OPSET, build_versions, fingerprint, tower_file
from saywhere.towers.checkpoint import LoadReport
from saywhere.towers.lora import merge
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.precision import reduce_weights
from saywhere.towers.runtime import METADATA_KEY
from saywhere.towers.tokenizer import check_length, read_tokenizer, vocabulary_rows
from saywhere.towers.tracing import (
    SIZE_STEP,
    Trace,
    batch_axis,
    check_parity,
    free_spatial_axes,
    run_torch,
    trace,
)
from saywhere.towers.weights import load_image_module, load_text_module
from saywhere.towers.words import words_of

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
        TowerError: weights as in ``weights``, a stage as in ``pooling``, a precision as in
            ``precision``, or a model that the exporter cannot trace faithfully.
        ConfigError, ExpertError: sites that the tower does not have.
        MissingExtraError: torch or its companions are not installed.
    """
    module, report = load_image_module(config)
    import torch
    from timm.data.config import resolve_model_data_config

    memory.check_memory(config.name, "image", report.parameters, memory.EXPORTING)
    if merged is not None:
        merge(module, merged)
    settings: dict[str, Any] = resolve_model_data_config(module)  # type: ignore[no-untyped-call]
    if adapter.rank:
        prepare_sites(module, adapter, config.name)
    wrapper = pooled_stages(module, config)
    # Traced at one size: padding "same" with symbolic sizes takes the exporter minutes.
    size = _trace_size(module, settings["input_size"][-1])
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
        "sites": traced.sites,
    }
    model = reduce_weights(model, config.precision, "image", config.name, traced.sites)
    check_parity(model, traced, expected, config.precision)
    return _save(config, model, metadata, report, adapter, merged)


def _trace_size(module: nn.Module, native: int) -> int:
    """The edge in pixels to trace at: the native one, if need be rounded down to a multiple of 32.

    Padding "same" is even at multiples of the stride only: a graph traced at 260 pixels serves no
    other size, one traced at 256 all multiples. Transformers of one size keep theirs.
    """
    known: dict[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    if known.get("fixed_input_size") or native < SIZE_STEP:
        return native
    return native // SIZE_STEP * SIZE_STEP


def export_text_tower(
    config: TextTowerConfig,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> Path:
    """Export the text tower of ``config`` into the cache and return its file.

    The graph maps ``ids`` and ``mask`` (n, tokens) int64 to ``features`` (n, dimension): pooled
    tokens of unit length, then static words of unit length where ``config.words`` asks for them.
    Adapters and errors as for the image tower.
    """
    module, report, source = load_text_module(config)
    import torch

    memory.check_memory(config.name, "text", report.parameters, memory.EXPORTING)
    if merged is not None:
        merge(module, merged)
    check_length(module, config)
    tokenizer = read_tokenizer(source, module)
    if adapter.rank:
        prepare_sites(module, adapter, config.name)
    rows = vocabulary_rows(module)
    wrapper = pooled_tokens(module, config, words_of(config, tokenizer.json, rows))
    mask = torch.ones(2, min(12, config.max_tokens), dtype=torch.int64)
    mask[1, 7:] = 0
    ids = tokenizer.pad_id + 1 + torch.arange(mask.numel()).reshape(mask.shape)
    inputs = {
        "ids": (ids % rows).where(mask > 0, tokenizer.pad_id),
        "mask": mask,
    }
    tokens = torch.export.Dim("tokens", min=2, max=config.max_tokens)
    axes = {name: {0: batch_axis(), 1: tokens} for name in inputs}
    traced = _prepared(config, module, wrapper, (inputs, axes), adapter)
    expected = run_torch(traced)
    model = trace(traced)
    metadata = {
        "tokenizer": tokenizer.json,
        "pad_id": tokenizer.pad_id,
        "pad_token": tokenizer.pad_token,
        "max_tokens": config.max_tokens,
        "dimension": expected.shape[1],
        "sites": traced.sites,
    }
    model = reduce_weights(model, config.precision, "text", config.name, traced.sites)
    check_parity(model, traced, expected, config.precision)
    return _save(config, model, metadata, report, adapter, merged)


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
    report: LoadReport,
    adapter: AdapterConfig = NO_ADAPTER,
    merged: Adapter | None = None,
) -> Path:
    import onnx

    added = merged.hash if merged else ""
    versions = build_versions(config)
    if versions is None:
        raise MissingExtraError("exporting a tower", "train", "torch")
    found = fingerprint(config, report.weight_hash, added)
    metadata |= {"name": config.name, "weights": report.weight_hash, "fingerprint": found}
    metadata |= {"opset": OPSET, "versions": versions, "precision": config.precision}
    metadata |= {"loaded": report.to_dict()}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    path = tower_file(config, versions, adapter, added)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary))
        onnx.checker.check_model(str(temporary))
    return path
