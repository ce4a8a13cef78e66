"""AdamW as heads and adapters need it; its state goes into checkpoints as arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saywhere.config import StageConfig, TuningConfig
from saywhere.heads import Ensemble, MemberModule

_HEADS_ALONE = TuningConfig(head_rate=1, accumulate=1)


class Optimiser:
    """AdamW under a cosine schedule with linear warm-up; decays weights only, as CLIP does.

    Args:
        batches: how many there will be.
        tuning: the heads' own learning rate, where there are adapters, and the batches a step.
        reduce: called before each step, to add up gradients over processes.
    """

    def __init__(
        self,
        module: MemberModule | Ensemble,
        stage: StageConfig,
        batches: int,
        tuning: TuningConfig = _HEADS_ALONE,
        reduce: Callable[[], None] | None = None,
    ) -> None:
        # Fused: the plain loop over parameters took a third of each step on a CPU.
        self._adam = torch.optim.AdamW(
            _groups(module, stage, tuning), lr=stage.learning_rate, fused=True
        )
        self._module, self._stage = module, stage
        self._batches_a_step = tuning.accumulate
        self._steps, self._done = max(1, -(-batches // tuning.accumulate)), 0
        self._waiting, self._reduce = 0, reduce
        self.label_smoothing = stage.label_smoothing

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All of its state: the moments of each parameter by its number, and the steps done."""
        state = self._adam.state_dict()["state"]
        moments = {
            f"{number}.{name}": tensor.cpu().numpy()
            for number, entry in state.items()
            for name, tensor in entry.items()
        }
        return {"done": np.asarray(self._done, np.int64), **moments}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what ``arrays`` gave."""
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, array in arrays.items():
            number, _, name = key.partition(".")
            if name:
                state.setdefault(int(number), {})[name] = torch.tensor(array)
        self._adam.load_state_dict({**self._adam.state_dict(), "state": state})
        self._done = int(arrays["done"])

    def step(self, loss: torch.Tensor, backward: Callable[[], None] | None = None) -> None:
        """Take a batch's gradients, and a step once there are enough of them.

        Args:
            backward: called after the loss's own backward pass, to go on into the towers.
        """
        if not self._waiting:
            self._adam.zero_grad(set_to_none=True)
        (loss / self._batches_a_step).backward()  # type: ignore[no-untyped-call]
        if backward is not None:
            backward()
        self._waiting += 1
        if self._waiting == self._batches_a_step:
            self.flush()

    def flush(self) -> None:
        """Take the step that waits for more batches, at the end of an epoch."""
        if not self._waiting:
            return
        if self._reduce is not None:
            self._reduce()
        for group in self._adam.param_groups:
            group["lr"] = self._stage.learning_rate * group["rate"] * self._factor()
        self._adam.step()
        self._module.clamp_scale()
        self._done += 1
        self._waiting = 0

    def _factor(self) -> float:
        warm = max(1, round(self._stage.warmup * self._steps))
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, self._done / self._steps)))
        return min((self._done + 1) / warm, cosine)


def _groups(
    module: MemberModule | Ensemble, stage: StageConfig, tuning: TuningConfig
) -> list[dict[str, Any]]:
    """Parameters by learning rate and weight decay, in an order of their own."""
    groups: list[dict[str, Any]] = []
    for adapters in (False, True):
        own = [
            p for name, p in module.named_parameters() if name.startswith("adapters.") is adapters
        ]
        rate = 1.0 if adapters else tuning.head_rate
        weights, rest = [p for p in own if p.ndim > 1], [p for p in own if p.ndim <= 1]
        groups += [
            {"params": weights, "weight_decay": stage.weight_decay, "rate": rate},
            {"params": rest, "weight_decay": 0.0, "rate": rate},
        ]
    return [group for group in groups if group["params"]]
