"""A tower whose adapter is an input: traced once, it then serves every adapter of its sites.

Each array becomes an initialiser of the graph that may be overridden by an input of its name, with
the rank's axis free: nothing given, the tower is the frozen one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from saywhere.adapters import DOWN
from saywhere.config import AdapterConfig
from saywhere.towers.lora import attach, find_sites, parameters_of

if TYPE_CHECKING:
    import onnx
    from torch import Tensor, nn

_NAME, _TRACED_RANK, _MOST_RANK = "export", 2, 4096


@dataclass(frozen=True, slots=True)
class AdapterInputs:
    """The adapter among a tower's inputs.

    Attributes:
        module: the tower, which takes ``adapter``, a list of tensors, after its own inputs.
        names: of the arrays, in the order of the list.
        example: tensors to trace and to check with; no zeros, or nothing would be checked.
        axes: which axis of each is the rank.
    """

    module: nn.Module
    names: tuple[str, ...]
    example: list[Tensor]
    axes: list[dict[int, Any]]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each array, the rank's axis as 0."""
        return {
            name: tuple(0 if axis in free else length for axis, length in enumerate(tensor.shape))
            for name, tensor, free in zip(self.names, self.example, self.axes, strict=True)
        }


def prepare_sites(module: nn.Module, adapter: AdapterConfig, tower: str) -> None:
    """Attach an adapter to trace; it scales by 1, since B arrives scaled."""
    settings = adapter.model_copy(
        update={"rank": _TRACED_RANK, "alpha": float(_TRACED_RANK), "dropout": 0.0}
    )
    attach(module, find_sites(module, adapter, tower), settings, seed=0, name=_NAME)


def adapter_inputs(tower: nn.Module, wrapper: nn.Module) -> AdapterInputs:
    """Turn the adapter of ``prepare_sites`` into inputs.

    Args:
        tower: the model the sites are named in.
        wrapper: what calls it, and pools what it gives.
    """
    import torch
    from torch.func import functional_call

    parameters = parameters_of(tower, _NAME)
    full = {id(parameter): name for name, parameter in wrapper.named_parameters()}
    places = [full[id(parameter)] for parameter in parameters.values()]

    def run(inputs: tuple[Tensor, ...], adapter: list[Tensor]) -> Tensor:
        found: Tensor = functional_call(wrapper, dict(zip(places, adapter, strict=True)), inputs)
        return found

    generator = torch.Generator().manual_seed(0)
    rank = torch.export.Dim("rank", min=1, max=_MOST_RANK)
    return AdapterInputs(
        module=_with_adapter(wrapper, run).eval(),
        names=tuple(parameters),
        example=[
            torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5
            for p in parameters.values()
        ],
        axes=[{0 if name.endswith(f".{DOWN}") else 1: rank} for name in parameters],
    )


def free_adapter(model: onnx.ModelProto, inputs: AdapterInputs) -> None:
    """Name the graph's last inputs after the arrays, and give them zeros of rank 1 as defaults."""
    from onnx import numpy_helper

    values = list(model.graph.input)[-len(inputs.names) :]
    renamed = {value.name: name for value, name in zip(values, inputs.names, strict=True)}
    for value in values:
        value.name = renamed[value.name]
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = renamed.get(name, name)
    for name, shape in inputs.shapes.items():
        zeros = np.zeros([length or 1 for length in shape], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(zeros, name))


def _with_adapter(
    wrapper: nn.Module, run: Callable[[tuple[Tensor, ...], list[Tensor]], Tensor]
) -> nn.Module:
    """The exporter names inputs by the signature: one for images, one for texts."""
    from torch import nn

    class AdaptedImages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.wrapper = wrapper

        def forward(self, pixels: Tensor, adapter: list[Tensor]) -> Tensor:
            return run((pixels,), adapter)

    class AdaptedTexts(AdaptedImages):
        def forward(self, ids: Tensor, mask: Tensor, adapter: list[Tensor]) -> Tensor:  # type: ignore[override]
            return run((ids, mask), adapter)

    return AdaptedTexts() if type(wrapper).__name__ == "PooledTokens" else AdaptedImages()
