"""One training process or several: who does which rows, and how their results come together.

Started by ``accelerate launch`` or ``torchrun``, every process holds the same parameters and draws
the same batches. Each puts its share of a batch through the towers; the features of all are
gathered, and every process computes the whole batch's loss. So the gradient is that of one process
with the whole batch, exactly: each process takes its rows of it back through its towers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from saywhere.config import TuningConfig

if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True, slots=True)
class Processes:
    """One process among its like.

    Attributes:
        rank, count: its number, and how many there are.
        device: where its towers run.
        precision: of its towers.
    """

    rank: int
    count: int
    device: torch.device
    precision: torch.dtype

    def bounds(self, rows: int) -> tuple[int, int]:
        """First and last + 1 of this process's share of ``rows``; shares differ by one at most."""
        return self.rank * rows // self.count, (self.rank + 1) * rows // self.count

    def gather(self, own: Tensor, rows: int) -> Tensor:
        """(rows, d): the shares of all processes, in order of rank; no gradient passes."""
        if self.count == 1:
            return own
        widest = -(-rows // self.count)
        padded = own.new_zeros((widest, own.shape[1]))
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        torch.distributed.all_gather(parts, padded)
        lengths = [
            (rank + 1) * rows // self.count - rank * rows // self.count
            for rank in range(self.count)
        ]
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum the gradients of ``parameters`` over all processes, in one message."""
        own = [p for p in parameters if p.requires_grad]
        if self.count == 1 or not own:
            return
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
        flat = torch.cat([grad.reshape(-1) for grad in grads])
        torch.distributed.all_reduce(flat)
        for parameter, part in zip(own, torch.split(flat, [p.numel() for p in own]), strict=True):
            parameter.grad = part.view_as(parameter).clone()

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite ``tensors`` by those of the first process: rounding must not part them."""
        if self.count > 1:
            for tensor in tensors:
                torch.distributed.broadcast(tensor.data, 0)


def this_process(tuning: TuningConfig) -> Processes:
    """What ``accelerate`` finds in the environment; the first call joins the other processes."""
    from accelerate import PartialState

    state: PartialState = PartialState()
    return Processes(
        state.process_index, state.num_processes, state.device, _precision(tuning, state.device)
    )


def _precision(tuning: TuningConfig, device: torch.device) -> torch.dtype:
    if tuning.precision != "auto":
        return torch.bfloat16 if tuning.precision == "bfloat16" else torch.float32
    # On a CPU bfloat16 is slower than float32 unless it has AMX or AVX-512, so it has to be asked.
    good = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if good else torch.float32
