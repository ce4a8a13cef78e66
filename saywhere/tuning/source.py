"""Features of live towers for a training loop: shared among processes, chunked, with gradients.

The loss sees features as leaves; its gradient by them then goes back through the towers. Without
``cached_gradients`` the towers' graphs wait for that; with it (GradCache, Gao et al. 2021) they are
dropped, and each chunk runs again when its gradient is known. Both give the gradient of the whole
batch, and dropout is the same both times, since each chunk has its own seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from saywhere.batches import TrainingSet
from saywhere.config import TuningConfig
from saywhere.errors import ConfigError
from saywhere.sources import Features, Wanted
from saywhere.tuning.live import LiveTower
from saywhere.tuning.processes import Processes
from saywhere.types import FloatArray, IntArray


@dataclass(frozen=True, slots=True)
class _Pass:
    """One batch's features: the leaf the loss sees, and how its gradient goes on."""

    leaf: Tensor
    backward: Callable[[], None]


class LiveFeatures:
    """A ``FeatureSource`` with a live tower on one side or on both.

    Args:
        data: whose cached features serve the side without a tower.
        images, texts: the live towers; None for a frozen one.
        seed: of dropout.
    """

    def __init__(
        self,
        data: TrainingSet,
        towers: tuple[LiveTower | None, LiveTower | None],
        tuning: TuningConfig,
        processes: Processes,
        seed: int,
    ) -> None:
        self._data, self._tuning, self._processes, self._seed = data, tuning, processes, seed
        self._towers = towers
        self._fed = False  # whether rows of this process were in a batch since the last step

    def steps(self, wanted: Sequence[Wanted], name: str) -> Iterator[Features]:
        """As ``FeatureSource.steps``; the next step's images are rendered meanwhile."""
        rows = [(np.concatenate([w.batch.views, w.rows]), w.batch.texts) for w in wanted]
        self._prefetch(rows[:1])
        for index, pair in enumerate(rows):
            self._prefetch(rows[index + 1 : index + 2])
            images, texts = (
                self._forward(side, pair[side], f"{name}/{index}/{side}") for side in (0, 1)
            )

            def backward(passes: tuple[_Pass, _Pass] = (images, texts)) -> None:
                for one in passes:
                    one.backward()

            yield Features(images.leaf, texts.leaf, backward)

    def embed(self, views: IntArray, texts: IntArray) -> tuple[FloatArray, FloatArray]:
        """As ``FeatureSource.embed``."""
        return self._embed(0, views), self._embed(1, texts)

    def reduce(self) -> None:
        """Sum the adapters' gradients: each process has those of its own rows.

        Raises:
            ConfigError: an adapter without a gradient, at a module whose weight the model reads
                without calling it: it would be trained for nothing.
        """
        for tower in self._towers:
            if tower is None:
                continue
            idle = sorted(name for name, p in tower.parameters.items() if p.grad is None)
            if idle and self._fed:
                raise ConfigError(
                    f"adapter {idle[0]} gets no gradient (the model passes {len(idle)} by); "
                    "name the modules that it calls in adapters.*.targets"
                )
            self._processes.add_up(tower.parameters.values())
        self._fed = False

    def _prefetch(self, rows: Sequence[tuple[IntArray, IntArray]]) -> None:
        for pair in rows:
            for tower, own in zip(self._towers, pair, strict=True):
                if tower is not None:
                    first, last = self._processes.bounds(len(own))
                    tower.rows.prefetch(own[first:last])

    def _forward(self, side: int, rows: IntArray, name: str) -> _Pass:
        tower, device = self._towers[side], self._processes.device
        if tower is None:
            cached = (self._data.views, self._data.texts)[side][rows]
            return _Pass(torch.from_numpy(cached).to(device), lambda: None)
        first, last = self._processes.bounds(len(rows))
        own = rows[first:last]
        chunks = tower.rows.chunks(own, self._tuning.chunk)
        parts = [
            self._encode(tower, own[chunk], f"{name}/{index}", keep=not self._again)
            for index, chunk in enumerate(chunks)
        ]
        # A batch of few items may leave a process without any.
        mine = torch.zeros((len(own), tower.dimension), device=device)
        for chunk, part in zip(chunks, parts, strict=True):
            mine[torch.from_numpy(chunk).to(device)] = part.detach()
        leaf = self._processes.gather(mine, len(rows)).requires_grad_()

        def backward() -> None:
            assert leaf.grad is not None, "the loss does not depend on these features"
            grads = leaf.grad[first:last]
            self._fed |= bool(len(own))
            for index, chunk in enumerate(chunks):
                part = parts[index]
                if self._again:
                    part = self._encode(tower, own[chunk], f"{name}/{index}", keep=True)
                torch.autograd.backward(part, grads[torch.from_numpy(chunk).to(device)])

        return _Pass(leaf, backward)

    @property
    def _again(self) -> bool:
        return self._tuning.cached_gradients

    def _encode(self, tower: LiveTower, rows: IntArray, name: str, *, keep: bool) -> Tensor:
        """Features of one chunk; ``keep`` their graph."""
        with torch.set_grad_enabled(keep):
            return tower.encode(rows, self._seed_of(name), self._processes)

    def _seed_of(self, name: str) -> int:
        text = f"{self._seed}:{self._processes.rank}:{name}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "little")

    def _embed(self, side: int, rows: IntArray) -> FloatArray:
        tower = self._towers[side]
        if tower is None:
            found: FloatArray = (self._data.views, self._data.texts)[side][rows]
            return found
        first, last = self._processes.bounds(len(rows))
        own = rows[first:last]
        out = torch.zeros((len(own), tower.dimension), device=self._processes.device)
        with torch.no_grad(), _without_dropout(tower):
            for chunk in tower.rows.chunks(own, self._tuning.chunk):
                part = tower.encode(own[chunk], 0, self._processes)
                out[torch.from_numpy(chunk).to(part.device)] = part
        gathered = self._processes.gather(out, len(rows))
        return np.asarray(gathered.cpu().numpy(), np.float32)


class _without_dropout:  # noqa: N801 - a context manager, used as one
    """The tower in inference mode within, and as it was after."""

    def __init__(self, tower: LiveTower) -> None:
        self._modules = [part for part in tower.module.modules() if part.training]

    def __enter__(self) -> None:
        for part in self._modules:
            part.training = False

    def __exit__(self, *_: object) -> None:
        for part in self._modules:
            part.training = True
