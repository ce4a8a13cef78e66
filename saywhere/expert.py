"""Experts: projection heads over frozen features, run in NumPy.

A *head* maps features to the joint space: standardise, linear, GELU, linear, unit length. A *member*
is an image head and a text head trained together; an *expert* is one or more members whose
similarities are averaged, for one platform or (a generalist) for all. Training keeps its own torch
twin of the head (``heads``); a test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from saywhere.errors import ExpertError
from saywhere.types import FloatArray, Platform

_PARAMETERS = ("mean", "std", "weight1", "bias1", "weight2", "bias2")


@dataclass(frozen=True, slots=True)
class Head:
    """One projection head.

    Attributes:
        mean, std: (features,) float32 of the training features.
        weight1, bias1: (hidden, features), (hidden,) float32; empty for a linear head.
        weight2, bias2: (dimension, hidden or features), (dimension,) float32.
    """

    mean: FloatArray
    std: FloatArray
    weight1: FloatArray
    bias1: FloatArray
    weight2: FloatArray
    bias2: FloatArray

    def __call__(self, features: FloatArray) -> FloatArray:
        """(n, features) float32 -> (n, dimension) float32 of unit length."""
        hidden = (features - self.mean) / self.std
        if self.weight1.size:
            hidden = _gelu(hidden @ self.weight1.T + self.bias1)
        out = hidden @ self.weight2.T + self.bias2
        return _unit(out)


@dataclass(frozen=True, slots=True)
class Member:
    """An image head and a text head of one training run, and its logit scale (exponentiated)."""

    image: Head
    text: Head
    logit_scale: float


@dataclass(frozen=True, slots=True)
class Expert:
    """What embeds images and texts of one platform.

    Attributes:
        platform: None for a generalist.
        members: at least one; similarities are averaged over them.
        provenance: anything JSON-able worth keeping.
    """

    platform: Platform | None
    members: tuple[Member, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``satellite``, ``drone``, ``ground`` or ``generalist``."""
        return self.platform.value if self.platform else "generalist"

    @property
    def dimension(self) -> int:
        """Length of an embedding: the members' dimensions, one after the other."""
        return sum(len(member.image.bias2) for member in self.members)

    def encode_image(self, features: Sequence[FloatArray]) -> FloatArray:
        """Embed images seen in several views.

        Args:
            features: for each image (views, features) float32.

        Returns:
            (n, dimension) float32, unit length: views are averaged in the joint space.
        """
        if not features:
            return np.empty((0, self.dimension), np.float32)
        starts = np.cumsum([0, *(len(views) for views in features)])[:-1]
        stacked = np.concatenate(features)
        parts = []
        for member in self.members:
            sums = np.add.reduceat(member.image(stacked), starts, axis=0)
            parts.append(_unit(sums))
        return np.concatenate(parts, 1) / np.float32(math.sqrt(len(parts)))

    def encode_text(self, features: FloatArray) -> FloatArray:
        """(n, features) float32 -> (n, dimension) float32, unit length."""
        parts = [member.text(features) for member in self.members]
        return np.concatenate(parts, 1) / np.float32(math.sqrt(len(parts)))

    def arrays(self) -> dict[str, FloatArray]:
        """Everything trained, under flat names, for a safetensors file."""
        out: dict[str, FloatArray] = {}
        for index, member in enumerate(self.members):
            out[f"{index}.logit_scale"] = np.asarray([member.logit_scale], np.float32)
            for side, head in (("image", member.image), ("text", member.text)):
                for name in _PARAMETERS:
                    out[f"{index}.{side}.{name}"] = getattr(head, name)
        return out


def expert_from_arrays(platform: Platform | None, arrays: Mapping[str, FloatArray]) -> Expert:
    """The inverse of ``Expert.arrays``.

    Raises:
        ExpertError: an array is missing or its shape does not fit the others.
    """
    members = []
    try:
        while f"{len(members)}.logit_scale" in arrays:
            index = len(members)
            heads = {
                side: Head(**{name: arrays[f"{index}.{side}.{name}"] for name in _PARAMETERS})
                for side in ("image", "text")
            }
            for head in heads.values():
                _check_shapes(head)
            scale = float(arrays[f"{index}.logit_scale"][0])
            members.append(Member(heads["image"], heads["text"], scale))
    except (KeyError, ValueError, IndexError) as error:
        raise ExpertError(f"expert file: {error} does not fit; train it anew") from None
    if not members:
        raise ExpertError("expert file: holds no member; train it anew")
    return Expert(platform, tuple(members))


def _check_shapes(head: Head) -> None:
    features = len(head.mean)
    width = head.weight1.shape[0] if head.weight1.size else features
    good = (
        head.std.shape == (features,)
        and (not head.weight1.size or head.weight1.shape == (width, features))
        and (not head.weight1.size or head.bias1.shape == (width,))
        and head.weight2.shape == (len(head.bias2), width)
    )
    if not good:
        raise ValueError(f"a head of {features} features")


def _gelu(values: FloatArray) -> FloatArray:
    """GELU in its tanh form (Hendrycks & Gimpel 2016, eq. 2): needs no erf in NumPy."""
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)
    return np.asarray(0.5 * values * (1 + np.tanh(inner)), np.float32)


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
