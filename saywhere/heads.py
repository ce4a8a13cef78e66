"""The trainable side of ``expert``: the same heads as torch modules, with dropout."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from saywhere.config import HeadConfig
from saywhere.expert import Head, Member
from saywhere.types import FloatArray

_INITIAL_TEMPERATURE = 0.07  # CLIP's
_LARGEST_SCALE = 100.0  # CLIP clips its logit scale here


class ProjectionHead(nn.Module):
    """Standardise, dropout, linear, GELU, dropout, linear, unit length."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Tensor, std: Tensor, config: HeadConfig, *, input_dropout: float
    ) -> None:
        super().__init__()
        features = len(mean)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden_dropout = nn.Dropout(config.hidden_dropout)
        self.first = nn.Linear(features, config.hidden) if config.hidden else None
        self.second = nn.Linear(config.hidden or features, config.dimension)

    def forward(self, features: Tensor) -> Tensor:
        """(n, features) -> (n, dimension), unit length."""
        hidden = self.input_dropout((features - self.mean) / self.std)
        if self.first is not None:
            hidden = nn.functional.gelu(self.first(hidden), approximate="tanh")
            hidden = self.hidden_dropout(hidden)
        return nn.functional.normalize(self.second(hidden), dim=-1)

    def freeze(self) -> Head:
        """The head as arrays."""
        empty = np.empty((0,), np.float32)
        first = self.first
        return Head(
            mean=_array(self.mean),
            std=_array(self.std),
            weight1=_array(first.weight) if first else empty.reshape(0, 0),
            bias1=_array(first.bias) if first else empty,
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
        """Exponentiated logit scale, at most 100."""
        return self.logit_scale.exp().clamp(max=_LARGEST_SCALE)

    def freeze(self) -> Member:
        """The member as arrays."""
        return Member(self.image.freeze(), self.text.freeze(), float(self.scale.detach()))


def create_member(
    image_features: FloatArray, text_features: FloatArray, config: HeadConfig
) -> MemberModule:
    """Fresh heads, standardised by the training features; draws from torch's global generator."""
    heads = []
    for features, dropout in (
        (image_features, config.image_dropout),
        (text_features, config.text_dropout),
    ):
        mean = torch.from_numpy(features.mean(0))
        std = torch.from_numpy(features.std(0)).clamp(min=1e-4)
        heads.append(ProjectionHead(mean, std, config, input_dropout=dropout))
    return MemberModule(heads[0], heads[1])


def _array(tensor: Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy().astype(np.float32).copy()
