"""A training loop for what the product does not train: any module and loss, its batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from saywhere.batches import Batch, TrainingSet, count_batches, draw_batches
from saywhere.config import Config, StageConfig
from saywhere.optimiser import Optimiser

Loss = Callable[[Batch], torch.Tensor]


def run_stages(
    module: Any,  # noqa: ANN401 - whatever has parameters and clamp_scale
    loss: Loss,
    data: TrainingSet,
    stages: Sequence[StageConfig],
    generator: np.random.Generator,
) -> float:
    """Train ``module`` by ``loss`` of mixed batches, on one thread; it is then in eval mode.

    Returns:
        seconds of processor time.
    """
    started = time.process_time()
    torch.set_num_threads(1)
    module.train()
    for stage in stages:
        batches = stage.epochs * count_batches(data, stage.batch_size)
        optimiser = Optimiser(module, stage, batches)
        for _ in range(stage.epochs):
            for batch in draw_batches(data, stage.batch_size, generator):
                optimiser.step(loss(batch))
    module.eval()
    return time.process_time() - started


def both_stages(config: Config) -> tuple[StageConfig, StageConfig]:
    """The product's two stages; here neither mines."""
    return config.train.stage1, config.train.stage2
