"""The negatives of a batch: which items no text of it describes, and mined ones that join it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from saywhere.batches import Batch, TrainingSet
from saywhere.losses import negative_mask
from saywhere.mining import NONE
from saywhere.types import IntArray


@dataclass(frozen=True, slots=True)
class CodeTensors:
    """The training set's codes as tensors, sharing their memory.

    Attributes:
        item_codes: (n, most texts of an item) codes of every text of an item, padded with -1.
    """

    codes: torch.Tensor
    item_codes: torch.Tensor
    places: torch.Tensor


def code_tensors(data: TrainingSet) -> CodeTensors:
    """Codes of ``data``, for ``batch_negatives``."""
    counts = np.diff(data.text_start)
    item_codes = np.full((len(data), counts.max()), -1, np.int64)
    item_codes[np.arange(counts.max()) < counts[:, None]] = data.text_codes
    return CodeTensors(
        codes=torch.from_numpy(data.text_codes),
        item_codes=torch.from_numpy(item_codes),
        places=torch.from_numpy(data.places),
    )


def batch_negatives(tensors: CodeTensors, batch: Batch, items: IntArray) -> torch.Tensor:
    """(batch, items) bool: of which texts of the batch these items are negatives."""
    return negative_mask(
        tensors.places[batch.items],
        tensors.codes[batch.texts],
        tensors.places[items],
        tensors.item_codes[items],
    )


def drawn_negatives(hard: IntArray, batch: Batch, generator: np.random.Generator) -> IntArray:
    """One mined negative per anchor: distinct items, none that is in the batch anyway."""
    own = hard[batch.items]  # (batch, k)
    columns = generator.integers(0, own.shape[1], len(own))
    items = own[np.arange(len(own)), columns]
    return np.setdiff1d(items[items != NONE], batch.items)
