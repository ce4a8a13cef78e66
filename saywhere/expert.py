"""Experts: projection heads over frozen features, run in NumPy.

A *head* maps features to the joint space: standardise, linear, GELU, linear, unit length. A
*member* is an image head and a text head trained together; an *expert* is one or more members whose
similarities are averaged, for one platform or (a generalist) for all. Training keeps its own torch
twin of the head (``heads``); a test holds the two equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saywhere.adapters import Adapter
from saywhere.domain import Domain, domain_from_arrays
from saywhere.errors import ExpertError
from saywhere.hubness import COORDINATES, Hubness, hubness_from_arrays
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
        """(n, features) float32 -> (n, dimension) float32 of unit length.

        Raises:
            ExpertError: features of another width.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ExpertError(
                f"features {features.shape}: the head takes (n, {len(self.mean)}); use the towers "
                "the experts were trained with"
            )
        hidden: FloatArray = np.divide(features - self.mean, self.std, dtype=np.float32)
        if self.weight1.size:
            hidden = _gelu(hidden @ self.weight1.T + self.bias1)
        return _unit(hidden @ self.weight2.T + self.bias2)


@dataclass(frozen=True, slots=True)
class Member:
    """An image head and a text head of one training run.

    Attributes:
        logit_scale: exponentiated.
        weight: > 0, of its similarity in the expert's average.
    """

    image: Head
    text: Head
    logit_scale: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Expert:
    """What embeds images and texts of one platform.

    Attributes:
        platform: None for a generalist.
        members: at least one; similarities are averaged over them, by their weights.
        image_adapter, text_adapter: what the towers' weights are updated by before the heads see
            their features, shared by the members; None for a frozen tower.
        hubness: what is taken off for being near everything; None: nothing.
        domain: which images of its platform it learned from, others being the generalist's; None:
            all.
    """

    platform: Platform | None
    members: tuple[Member, ...]
    image_adapter: Adapter | None = None
    text_adapter: Adapter | None = None
    hubness: Hubness | None = None
    domain: Domain | None = None

    @property
    def name(self) -> str:
        """``satellite``, ``drone``, ``ground`` or ``generalist``."""
        return self.platform.value if self.platform else "generalist"

    @property
    def dimension(self) -> int:
        """Length of an embedding: the members' dimensions one after the other, and hubness."""
        own = sum(len(member.image.bias2) for member in self.members)
        return own + (COORDINATES if self.hubness else 0)

    def encode_image(self, features: Sequence[FloatArray]) -> FloatArray:
        """Embed images seen in several views.

        Args:
            features: for each image (views, features) float32, under this expert's adapter.

        Returns:
            (n, dimension) float32, unit length but for hubness: views are averaged in the joint
            space.

        Raises:
            ExpertError: an image without a view, or features of another width.
        """
        if not features:
            return np.empty((0, self.dimension), np.float32)
        counts = [len(views) for views in features]
        if not all(counts):
            raise ExpertError(
                f"image {counts.index(0)} of {len(counts)} has no view; configure views.test"
            )
        starts = np.cumsum([0, *counts[:-1]])
        stacked = np.concatenate(features)
        parts = [
            _unit(np.add.reduceat(member.image(stacked), starts, axis=0)) for member in self.members
        ]
        vectors = self._joined(parts)
        if self.hubness is None:
            return vectors
        return np.concatenate([vectors, self.hubness.of_images(vectors)], 1)

    def encode_text(self, features: FloatArray) -> FloatArray:
        """(n, features) float32 -> (n, dimension) float32, as ``encode_image``; errors likewise."""
        vectors = self._joined([member.text(features) for member in self.members])
        if self.hubness is None:
            return vectors
        return np.concatenate([vectors, self.hubness.of_texts(vectors)], 1)

    def _joined(self, parts: Sequence[FloatArray]) -> FloatArray:
        """Members' unit vectors as one, whose product is the weighted mean of theirs."""
        weights = np.asarray([member.weight for member in self.members], np.float64)
        scales = np.sqrt(weights / weights.sum()).astype(np.float32)
        return np.concatenate([scale * part for scale, part in zip(scales, parts, strict=True)], 1)

    def encode_photo_query(self, features: Sequence[FloatArray]) -> FloatArray:
        """As ``encode_image``, of images that are searched with: their hubness counts for nothing.

        The banks tell what is near every text or every image of the other side, not who is near
        every photo.
        """
        return _without_hubness(self.encode_image(features), self.hubness)

    @property
    def adapter_parameters(self) -> dict[str, int]:
        """Trained numbers in the adapter of each tower; none where the tower is frozen."""
        sides = (("image", self.image_adapter), ("text", self.text_adapter))
        return {side: adapter.parameters for side, adapter in sides if adapter is not None}

    def adapter_arrays(self) -> dict[str, FloatArray]:
        """Both adapters under flat names, for a safetensors file; empty for frozen towers."""
        sides = (("image", self.image_adapter), ("text", self.text_adapter))
        return {
            f"{side}.{name}": array
            for side, adapter in sides
            if adapter is not None
            for name, array in adapter.arrays.items()
        }

    def arrays(self) -> dict[str, FloatArray]:
        """The heads, hubness and domain, under flat names, for a safetensors file."""
        out: dict[str, FloatArray] = {}
        for index, member in enumerate(self.members):
            out[f"{index}.logit_scale"] = np.asarray([member.logit_scale], np.float32)
            if member.weight != 1:
                out[f"{index}.weight"] = np.asarray([member.weight], np.float32)
            for side, head in (("image", member.image), ("text", member.text)):
                for name in _PARAMETERS:
                    out[f"{index}.{side}.{name}"] = getattr(head, name)
        for part in (self.hubness, self.domain):
            out |= part.arrays() if part else {}
        return out


def _without_hubness(vectors: FloatArray, hubness: Hubness | None) -> FloatArray:
    """The vectors with zeros in the coordinates of hubness, if they have some."""
    if hubness is None:
        return vectors
    plain = vectors.copy()
    plain[:, -COORDINATES:] = 0
    return plain


def expert_from_arrays(
    platform: Platform | None,
    arrays: Mapping[str, FloatArray],
    adapters: Mapping[str, FloatArray] | None = None,
) -> Expert:
    """The inverse of ``Expert.arrays`` and ``Expert.adapter_arrays``.

    Raises:
        ExpertError: an array is missing, unknown, or its shape does not fit the others.
    """
    members: list[Member] = []
    while f"{len(members)}.logit_scale" in arrays:
        members.append(_member(f"{len(members)}.", arrays))
    hubness, domain = hubness_from_arrays(arrays), domain_from_arrays(arrays)
    weighted = sum(f"{index}.weight" in arrays for index in range(len(members)))
    expected = len(members) * (2 * len(_PARAMETERS) + 1) + weighted
    expected += sum(len(part.arrays()) for part in (hubness, domain) if part)
    if not members or len(arrays) != expected:
        raise ExpertError(
            f"expert file: {len(members)} members take {expected} arrays, it holds {len(arrays)}; "
            "train it anew"
        )
    image, text = _adapter("image.", adapters or {}), _adapter("text.", adapters or {})
    if sum(len(found.arrays) for found in (image, text) if found) != len(adapters or {}):
        raise ExpertError("expert file: adapters of another tower than image and text; train anew")
    made = Expert(platform, tuple(members), image, text, hubness, domain)
    if hubness and hubness.images.shape[1] + COORDINATES != made.dimension:
        raise ExpertError("expert file: hubness banks of another dimension; train it anew")
    return made


def _adapter(prefix: str, arrays: Mapping[str, FloatArray]) -> Adapter | None:
    own = {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
    return Adapter(own) if own else None


def _member(prefix: str, arrays: Mapping[str, FloatArray]) -> Member:
    scale = arrays[f"{prefix}logit_scale"]
    try:
        image, text = (
            Head(**{name: arrays[f"{prefix}{side}.{name}"] for name in _PARAMETERS})
            for side in ("image", "text")
        )
    except KeyError as error:
        raise ExpertError(f"expert file: array {error} is missing; train it anew") from None
    for head in (image, text):
        _check_shapes(head)
    if scale.shape != (1,) or image.bias2.shape != text.bias2.shape:
        raise ExpertError(
            f"expert file: image and text heads of member {prefix[:-1]} give {len(image.bias2)} "
            f"and {len(text.bias2)} numbers, logit scale {scale.shape}; train it anew"
        )
    weight = arrays.get(f"{prefix}weight", np.ones(1, np.float32))
    if weight.shape != (1,) or not 0 < weight[0] < np.inf:
        raise ExpertError(
            f"expert file: weight of member {prefix[:-1]} is {weight}; it must be one number > 0"
        )
    return Member(image, text, float(scale[0]), float(weight[0]))


def _check_shapes(head: Head) -> None:
    features = head.mean.shape[:1]
    width = head.weight1.shape[:1] if head.weight1.size else features
    expected = {
        "mean": features,
        "std": features,
        "weight1": (*width, *features) if head.weight1.size else head.weight1.shape,
        "bias1": width if head.weight1.size else (0,),
        "weight2": (*head.bias2.shape, *width),
        "bias2": head.bias2.shape[:1],
    }
    for name, shape in expected.items():
        array: FloatArray = getattr(head, name)
        if array.shape != shape or array.dtype != np.float32:
            raise ExpertError(
                f"expert file: {name} is {array.dtype} {array.shape} where float32 {shape} fits; "
                "train it anew"
            )


def _gelu(values: FloatArray) -> FloatArray:
    """GELU in its tanh form (Hendrycks & Gimpel 2016, section 2): needs no erf in NumPy."""
    # Multiplied out: NumPy's power is twenty times slower than two products.
    inner = math.sqrt(2 / math.pi) * (values + 0.044715 * values * values * values)
    return np.asarray(0.5 * values * (1 + np.tanh(inner)), np.float32)


def _unit(vectors: FloatArray) -> FloatArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)
