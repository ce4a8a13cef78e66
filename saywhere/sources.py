"""Where the features of a batch come from: a cache, or towers that are trained along."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from saywhere.batches import Batch, TrainingSet
from saywhere.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows of one step.

    Attributes:
        items: further items that join the denominators of the texts; may be empty.
        rows: (items,) a view of each.
    """

    batch: Batch
    items: IntArray
    rows: IntArray


@dataclass(frozen=True, slots=True)
class Features:
    """Features of one step.

    Attributes:
        images: (batch + further items, features) float32.
        texts: (batch, features) float32.
        backward: hands the gradients of both on to the towers; None where these are frozen.
    """

    images: torch.Tensor
    texts: torch.Tensor
    backward: Callable[[], None] | None = None


class FeatureSource(Protocol):
    """What gives features of rows of a training set."""

    def steps(self, wanted: Sequence[Wanted], name: str) -> Iterator[Features]:
        """Features of each step of one pass; random numbers depend on ``name`` alone."""

    def embed(self, views: IntArray, texts: IntArray) -> tuple[FloatArray, FloatArray]:
        """Image and text features of these rows, (rows, features) float32, without dropout."""

    def reduce(self) -> None:
        """Add up the towers' gradients over processes."""


class CachedFeatures:
    """Features of frozen towers, as the training set has them."""

    def __init__(self, data: TrainingSet) -> None:
        self._data = data
        self._views, self._texts = torch.from_numpy(data.views), torch.from_numpy(data.texts)

    def steps(self, wanted: Sequence[Wanted], name: str) -> Iterator[Features]:  # noqa: ARG002
        """As ``FeatureSource.steps``; nothing is random."""
        for step in wanted:
            images = self._views[step.batch.views]
            if len(step.rows):
                images = torch.cat([images, self._views[step.rows]])
            yield Features(images, self._texts[step.batch.texts])

    def embed(self, views: IntArray, texts: IntArray) -> tuple[FloatArray, FloatArray]:
        """As ``FeatureSource.embed``."""
        return self._data.views[views], self._data.texts[texts]

    def reduce(self) -> None:
        """Nothing: the towers are frozen."""
