"""Adapters in torch: attach them to a tower by peft, read them out, load them, merge them.

The tower's own weights stay frozen and are shared by every adapter attached to it. An adapter is
told from the others by its name; ``activate`` chooses the one that is used.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from saywhere.adapters import DOWN, UP, Adapter, check_sites
from saywhere.config import AdapterConfig
from saywhere.errors import ConfigError, MissingExtraError
from saywhere.types import FloatArray

if TYPE_CHECKING:
    from torch import nn

# Attention and MLP projections of timm's ViTs (EVA02 among them), of Hugging Face encoders, and the
# pointwise convolutions of EfficientNets.
TARGETS = (
    "qkv", "q_proj", "k_proj", "v_proj", "proj", "fc1", "fc2", "fc1_g", "fc1_x",
    "query", "key", "value", "dense",
    "conv_pw", "conv_pwl",
)  # fmt: skip
_OUTSIDE = ("pooler", "patch_embed")  # no gradient reaches it; no projection of tokens
_PART = {"lora_A": DOWN, "lora_B": UP}


def find_sites(module: nn.Module, config: AdapterConfig, tower: str) -> tuple[str, ...]:
    """Names of the modules that ``config`` adapts, in the order of the model.

    Raises:
        ConfigError: no module has such a name, or one that has is no projection.
    """
    from torch import nn

    endings = config.targets or TARGETS
    chosen = {
        name: part
        for name, part in module.named_modules()
        if any(name == ending or name.endswith(f".{ending}") for ending in endings)
        and not set(name.split(".")) & set(_OUTSIDE)
    }
    if not config.targets:  # endings of ours may name other things in other models
        chosen = {name: part for name, part in chosen.items() if _is_projection(part)}
    blocks = {name: int(found[1]) for name in chosen if (found := re.search(r"\.(\d+)\.", name))}
    last = sorted(set(blocks.values()))[-config.layers :]
    sites = [name for name in chosen if not config.layers or blocks.get(name) in last]
    if not sites:
        linear = {
            n.rpartition(".")[2] for n, p in module.named_modules() if isinstance(p, nn.Linear)
        }
        raise ConfigError(
            f"tower {tower!r} has no module called {', '.join(endings)}; name some of its own in "
            f"adapters.*.targets, such as {', '.join(sorted(linear)[:6]) or '1 × 1 convolutions'}"
        )
    for name in sites:
        if not _is_projection(chosen[name]):
            raise ConfigError(
                f"tower {tower!r}: {name} is a {type(chosen[name]).__name__}, no linear layer or "
                "1 × 1 convolution; remove it from adapters.*.targets"
            )
    return tuple(sites)


def attach(
    module: nn.Module, sites: tuple[str, ...], config: AdapterConfig, *, seed: int, name: str
) -> dict[str, nn.Parameter]:
    """Put a fresh adapter called ``name`` on ``sites``; the tower computes what it did before.

    Everything else in ``module`` is frozen, other adapters included.

    Args:
        seed: of the initial A (B is zero); torch's global generator is left as it was.

    Returns:
        the parameters by ``<module>.A`` and ``<module>.B``. B is not scaled, see ``collect``.
    """
    import torch

    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtraError("adapters", "train", error.name or "peft") from None

    settings = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,  # type: ignore[arg-type]  # peft divides it, whole or not
        lora_dropout=config.dropout,
        target_modules=list(sites),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft remarks on module types it was not made for
        torch.manual_seed(seed)
        inject_adapter_in_model(settings, module, adapter_name=name)
    activate(module, name)
    return parameters_of(module, name)


def activate(module: nn.Module, name: str) -> None:
    """Use, and train, the adapter called ``name`` and no other."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for part in module.modules():
        if isinstance(part, BaseTunerLayer):
            part.set_adapter(name)


def parameters_of(module: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Parameters of the adapter ``name`` by ``<module>.A`` and ``<module>.B``."""
    found = {}
    for full, parameter in module.named_parameters():
        parts = full.split(".")
        if len(parts) > 3 and parts[-3] in _PART and parts[-2] == name:
            found[f"{'.'.join(parts[:-3])}.{_PART[parts[-3]]}"] = parameter
    return found


def collect(parameters: Mapping[str, nn.Parameter], config: AdapterConfig) -> Adapter:
    """A copy of an adapter as arrays, the scale alpha / rank within B."""
    scale = config.alpha / config.rank
    return Adapter(
        {name: _array(p, scale if _is_up(name) else 1) for name, p in parameters.items()}
    )


def load(parameters: Mapping[str, nn.Parameter], adapter: Adapter, config: AdapterConfig) -> None:
    """Overwrite ``parameters`` by ``adapter``: the inverse of ``collect``.

    Raises:
        ExpertError: sites that are missing or unexpected, or of another shape.
    """
    import torch

    check_sites(adapter, {name: tuple(p.shape) for name, p in parameters.items()}, "in memory")
    scale = config.alpha / config.rank
    with torch.no_grad():
        for name, parameter in parameters.items():
            values = torch.from_numpy(adapter.arrays[name].copy())
            parameter.copy_(values / scale if _is_up(name) else values)


def merge(module: nn.Module, adapter: Adapter) -> None:
    """Add ``adapter`` to the weights of a tower that has no adapters attached.

    Raises:
        ExpertError: a site that the tower does not have, or of another shape.
    """
    import torch

    weights = dict(module.named_parameters())
    shapes: dict[str, tuple[int, ...]] = {}
    for site in adapter.sites:
        weight = weights.get(f"{site}.weight")
        if weight is not None:
            outputs, inputs, *window = weight.shape
            shapes[f"{site}.{DOWN}"] = (0, inputs, *window)
            shapes[f"{site}.{UP}"] = (outputs, 0, *window)
    check_sites(adapter, shapes, "to merge into")
    with torch.no_grad():
        for site in adapter.sites:
            up, down = (torch.from_numpy(adapter.arrays[f"{site}.{s}"].copy()) for s in (UP, DOWN))
            weight = weights[f"{site}.weight"]
            weight.add_((up.flatten(1) @ down.flatten(1)).view_as(weight))


def _is_projection(module: nn.Module) -> bool:
    from torch import nn

    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1 and module.stride == (1, 1)
    return isinstance(module, nn.Linear)


def _is_up(name: str) -> bool:
    return name.endswith(f".{UP}")


def _array(parameter: nn.Parameter, scale: float) -> FloatArray:
    found: FloatArray = (parameter.detach().float().cpu() * scale).numpy()
    return found.copy()
