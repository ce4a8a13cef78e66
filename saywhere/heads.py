"""The trainable side of ``expert``: the same heads as torch modules, with dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from saywhere.config import HeadConfig
from saywhere.expert import Head, Member
from saywhere.moments import moments
from saywhere.types import FloatArray

_INITIAL_TEMPERATURE = 0.07  # CLIP's
_LARGEST_SCALE = 100.0  # CLIP clips its logit scale here


class Dropout(nn.Module):
    """Dropout with masks from NumPy: torch's own Bernoulli takes four times as long on a CPU."""

    def __init__(self, share: float, generator: np.random.Generator) -> None:
        super().__init__()
        self.share = share
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        """Zeros a share of ``values`` in training and scales up the rest; else changes nothing."""
        if not self.training or not self.share:
            return values
        kept = self.generator.random(tuple(values.shape), dtype=np.float32) >= self.share
        factors = torch.from_numpy(kept.astype(np.float32) / np.float32(1 - self.share))
        return values * factors.to(values.device)


class ProjectionHead(nn.Module):
    """Standardise, dropout, linear, GELU, dropout, linear, unit length."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        moments: tuple[Tensor, Tensor],
        config: HeadConfig,
        input_dropout: float,
        generator: np.random.Generator,
    ) -> None:
        super().__init__()
        mean, std = moments
        features = len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.input_dropout = Dropout(input_dropout, generator)
        self.hidden_dropout = Dropout(config.hidden_dropout, generator)
        self.first = nn.Linear(features, config.hidden) if config.hidden else None
        self.second = nn.Linear(config.hidden or features, config.dimension)

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) float32 -> (n, dimension) float32, unit length."""
        hidden = self.input_dropout((features - self.mean) / self.std)
        if self.first is not None:
            hidden = nn.functional.gelu(self.first(hidden), approximate="tanh")
            hidden = self.hidden_dropout(hidden)
        return nn.functional.normalize(self.second(hidden), dim=-1)

    def freeze(self) -> Head:
        """The head as arrays."""
        first = self.first
        return Head(
            mean=_array(self.mean),
            std=_array(self.std),
            weight1=np.empty((0, 0), np.float32) if first is None else _array(first.weight),
            bias1=np.empty((0,), np.float32) if first is None else _array(first.bias),
            weight2=_array(self.second.weight),
            bias2=_array(self.second.bias),
        )


class MemberModule(nn.Module):
    """Two heads and a logit scale; the log is stored, ``scale`` is what the loss takes."""

    def __init__(self, image: ProjectionHead, text: ProjectionHead) -> None:
        super().__init__()
        self.image = image
        self.text = text
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / _INITIAL_TEMPERATURE)))

    @property
    def scale(self) -> Tensor:
        """Exponentiated logit scale, scalar."""
        return self.logit_scale.exp()

    @property
    def generator(self) -> np.random.Generator:
        """Of the dropout masks; all layers draw from this one."""
        return self.image.input_dropout.generator

    @property
    def parts(self) -> tuple[MemberModule, ...]:
        """Itself, as ``Ensemble.parts``."""
        return (self,)

    @torch.no_grad()
    def clamp_scale(self) -> None:
        """Keep the scale at most 100; call after each step.

        The parameter is clamped, not ``scale``: a clamp in the forward pass would leave a parameter
        beyond the limit without a gradient, and it could never come back.
        """
        self.logit_scale.clamp_(max=math.log(_LARGEST_SCALE))

    def freeze(self) -> Member:
        """The member as arrays."""
        return Member(self.image.freeze(), self.text.freeze(), float(self.scale.detach()))


class Ensemble(nn.Module):
    """Members that train together over the same features, and the adapters that shape these.

    The adapters' parameters lie in the towers; they are held here, too, so that this module has
    everything that is trained.
    """

    def __init__(
        self, members: Sequence[MemberModule], adapters: Mapping[str, nn.Parameter]
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.adapters = nn.ParameterDict({_key(name): p for name, p in adapters.items()})

    @property
    def parts(self) -> tuple[MemberModule, ...]:
        """The members."""
        return tuple(part for part in self.members if isinstance(part, MemberModule))

    def clamp_scale(self) -> None:
        """As ``MemberModule.clamp_scale``, for every member."""
        for part in self.parts:
            part.clamp_scale()


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch takes no dots in the names of parameters


def create_member(
    image_features: FloatArray, text_features: FloatArray, config: HeadConfig, seed: int
) -> MemberModule:
    """Fresh heads, standardised by the training features.

    Args:
        image_features, text_features: (rows, features) float32.
        seed: of the initial weights and of dropout; torch's global generator is left as it was.
    """
    generator = np.random.default_rng(seed)
    sides = ((image_features, config.image_dropout), (text_features, config.text_dropout))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        image, text = (
            ProjectionHead(_moments(features), config, dropout, generator)
            for features, dropout in sides
        )
    return MemberModule(image, text)


def thaw_member(member: Member, config: HeadConfig, seed: int) -> MemberModule:
    """The module whose ``freeze`` gives ``member``; ``config`` gives its dropout alone."""
    generator = np.random.default_rng(seed)
    sides = ((member.image, config.image_dropout), (member.text, config.text_dropout))
    with torch.random.fork_rng(devices=[]):  # the weights drawn are overwritten
        image, text = (_thaw_head(head, config, share, generator) for head, share in sides)
    module = MemberModule(image, text)
    with torch.no_grad():
        module.logit_scale.fill_(math.log(member.logit_scale))
    return module


def _thaw_head(
    head: Head, config: HeadConfig, dropout: float, generator: np.random.Generator
) -> ProjectionHead:
    shape = {"hidden": len(head.bias1), "dimension": len(head.bias2)}
    moments = torch.tensor(head.mean), torch.tensor(head.std)
    module = ProjectionHead(moments, config.model_copy(update=shape), dropout, generator)
    layers = [(module.second, head.weight2, head.bias2)]
    if module.first is not None:
        layers.append((module.first, head.weight1, head.bias1))
    with torch.no_grad():
        for layer, weight, bias in layers:
            layer.weight.copy_(torch.tensor(weight))
            layer.bias.copy_(torch.tensor(bias))
    return module


def _moments(features: FloatArray) -> tuple[Tensor, Tensor]:
    mean, std = moments(features)
    return torch.from_numpy(mean), torch.from_numpy(std)


def _array(tensor: Tensor) -> FloatArray:
    """A copy: training may go on without changing it."""
    return tensor.detach().cpu().numpy().astype(np.float32)
