"""Export of frozen towers: torch module -> one self-contained ONNX file, checked, renamed."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import atomic_path, hash_text
from saywhere.towers.cache import OPSET, build_versions, spec_key, tower_file
from saywhere.towers.runtime import METADATA_KEY
from saywhere.towers.weights import load_image_module, load_text_module

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn


def export_image_tower(config: ImageTowerConfig) -> Path:
    """Export the image tower of ``config`` into the cache and return its file.

    The graph maps ``pixels`` (n, 3, h, w) float32, normalised, to ``features`` (n, dimension).

    Raises:
        TowerError, MissingExtraError: see ``weights``.
    """
    import torch
    from timm.data import resolve_model_data_config

    module, weight_hash = load_image_module(config)
    wrapper = pooled_stages(module, config)
    data = resolve_model_data_config(module)
    # Traced at one size: padding "same" with symbolic sizes takes the exporter minutes.
    size = data["input_size"][-1]
    example = torch.zeros(2, 3, size, size)
    with torch.inference_mode():
        dimension = wrapper(example).shape[1]
    model = _trace(wrapper, {"pixels": example}, {"pixels": {0: _batch_axis()}})
    metadata = {
        "mean": list(data["mean"]),
        "std": list(data["std"]),
        "native_size": size,
        "any_size": _free_spatial_axes(model, wrapper, size),
        "dimension": dimension,
    }
    return _save(config, model, metadata, weight_hash)


def export_text_tower(config: TextTowerConfig) -> Path:
    """Export the text tower of ``config`` into the cache and return its file.

    The graph maps ``ids`` and ``mask`` (n, tokens) int64 to ``features`` (n, dimension), unit length.
    """
    import torch

    module, weight_hash, source = load_text_module(config)
    wrapper = pooled_tokens(module, config)
    tokenizer, pad_id, pad_token = _tokenizer(source)
    example = torch.ones(2, 12, dtype=torch.int64)
    inputs = {"ids": example, "mask": example.clone()}
    with torch.inference_mode():
        dimension = wrapper(**inputs).shape[1]
    tokens = torch.export.Dim("tokens", min=2, max=config.max_tokens)
    model = _trace(wrapper, inputs, {name: {0: _batch_axis(), 1: tokens} for name in inputs})
    metadata = {
        "tokenizer": tokenizer,
        "pad_id": pad_id,
        "pad_token": pad_token,
        "max_tokens": config.max_tokens,
        "dimension": dimension,
    }
    return _save(config, model, metadata, weight_hash)


def pooled_stages(module: nn.Module, config: ImageTowerConfig) -> nn.Module:
    """Wrap a timm model: average-pooled outputs of ``config.stages``, then the last layer.

    The last layer is the classifier's input for classifiers, and the projection for CLIP towers,
    whose ``head`` *is* the projection to the joint space.

    Raises:
        TowerError: a stage that the model does not have.
    """
    import torch
    from torch import nn

    modules = dict(module.named_modules())
    missing = [name for name in config.stages if name not in modules]
    if missing:
        raise TowerError(
            f"image tower {config.name!r} has no module {missing[0]!r}; "
            f"its top modules are: {', '.join(name for name, _ in module.named_children())}"
        )
    is_clip = "clip" in config.name

    class PooledStages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = module
            self._outputs: dict[str, Tensor] = {}
            for name in config.stages:
                modules[name].register_forward_hook(self._keep(name))

        def _keep(self, name: str) -> Any:
            def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                self._outputs[name] = output

            return hook

        def forward(self, pixels: Tensor) -> Tensor:
            features = self.tower.forward_features(pixels)  # type: ignore[operator]
            last = self.tower.forward_head(features, pre_logits=not is_clip)  # type: ignore[operator]
            # (n, c, h, w) maps or (n, tokens, c) sequences -> (n, c)
            pooled = [
                self._outputs[name].mean((2, 3) if self._outputs[name].ndim == 4 else 1)
                for name in config.stages
            ]
            return torch.cat([*pooled, last], 1)

    return PooledStages().eval()


def pooled_tokens(module: nn.Module, config: TextTowerConfig) -> nn.Module:
    """Wrap a Hugging Face encoder: mean or CLS pooling, L2-normalised."""
    import torch
    from torch import nn

    class PooledTokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = module

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            hidden = self.tower(input_ids=ids, attention_mask=mask).last_hidden_state
            if config.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                weights = mask.unsqueeze(-1).to(hidden.dtype)  # (n, tokens, 1)
                pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(pooled, dim=-1)

    return PooledTokens().eval()


def _batch_axis() -> Any:
    import torch

    return torch.export.Dim("n", min=1, max=4096)


def _trace(module: nn.Module, inputs: dict[str, Tensor], axes: dict[str, Any]) -> onnx.ModelProto:
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own deprecations
        program = torch.onnx.export(
            module,
            kwargs=inputs,
            dynamic_shapes=axes,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
            output_names=["features"],
        )
    if program is None:
        raise TowerError("torch.onnx gave no program; check the installed torch and onnxscript")
    model: onnx.ModelProto = program.model_proto
    return model


def _free_spatial_axes(model: onnx.ModelProto, module: nn.Module, size: int) -> bool:
    """Let the graph take any multiple of 32 pixels, if it then still agrees with torch.

    A convolutional graph holds no size but the input's; a vision transformer's positions do not
    stretch, and it keeps its one size.
    """
    import numpy as np
    import onnxruntime
    import torch

    freed = type(model)()
    freed.CopyFrom(model)
    for axis, name in ((2, "h"), (3, "w")):
        dimension = freed.graph.input[0].type.tensor_type.shape.dim[axis]
        dimension.ClearField("dim_value")
        dimension.dim_param = name
    del freed.graph.value_info[:]
    pixels = torch.rand(1, 3, size + 64, size + 32, generator=torch.Generator().manual_seed(0))
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(
            freed.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        found = session.run(None, {"pixels": pixels.numpy()})[0]
        with torch.inference_mode():
            expected = module(pixels).numpy()
    except Exception:  # either side refusing the size is the answer
        return False
    if not np.allclose(found, expected, rtol=1e-3, atol=1e-3):
        return False
    model.CopyFrom(freed)
    return True


def _save(
    config: ImageTowerConfig | TextTowerConfig,
    model: onnx.ModelProto,
    metadata: dict[str, Any],
    weight_hash: str,
) -> Path:
    import onnx

    versions = build_versions(config)
    if versions is None:
        raise MissingExtraError("exporting a tower", "train", "torch")
    fingerprint = hash_text(f"{spec_key(config)}:{weight_hash}")[:32]
    metadata |= {"name": config.name, "weights": weight_hash, "fingerprint": fingerprint}
    metadata |= {"opset": OPSET, "versions": versions}
    onnx.helper.set_model_props(model, {METADATA_KEY: json.dumps(metadata)})
    path = tower_file(config, versions)
    with atomic_path(path) as temporary:
        onnx.save_model(model, str(temporary))
        onnx.checker.check_model(str(temporary))
    return path


def _tokenizer(source: Path | str) -> tuple[str, int, str]:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True)
    except Exception as error:  # as above: many kinds
        cause = str(error).splitlines()[0][:200]
        raise TowerError(f"{source}: its tokenizer cannot be read ({cause})") from None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return backend.to_str(), tokenizer.pad_token_id, tokenizer.pad_token
