"""Towers in training: rows in, features with a graph out.

A *live* tower is a torch module with an adapter attached, fed by the same preprocessing as its
exported twin: its tokenizer, its normalisation, the same views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from saywhere.config import AdapterConfig, Config
from saywhere.images import decode_image, read_content
from saywhere.towers import ImageTower, TextTower
from saywhere.towers.lora import attach, find_sites
from saywhere.towers.pooling import pooled_stages, pooled_tokens
from saywhere.towers.tokenizer import vocabulary_rows
from saywhere.towers.weights import load_image_module, load_text_module
from saywhere.towers.words import words_of
from saywhere.tuning.processes import Processes
from saywhere.types import IntArray
from saywhere.views import View, pixel_size, render


class Rows(Protocol):
    """The inputs of a live tower by row."""

    def chunks(self, rows: IntArray, most: int) -> list[IntArray]:
        """Positions in ``rows`` that go through the tower together, at most ``most`` each."""

    def prefetch(self, rows: IntArray) -> None:
        """Start to load ``rows``, which will be asked for next."""

    def load(self, rows: IntArray) -> tuple[Tensor, ...]:
        """The tower's inputs for ``rows``."""


@dataclass(frozen=True, slots=True)
class LiveTower:
    """One tower with the adapter that is trained.

    Attributes:
        module: inputs to (n, features).
        parameters: of the adapter, by ``<module>.A`` and ``<module>.B``.
        settings: of the adapter.
        rows: what it is fed with.
        dimension: of the features.
    """

    module: nn.Module
    parameters: dict[str, nn.Parameter]
    settings: AdapterConfig
    rows: Rows
    dimension: int

    def encode(self, rows: IntArray, seed: int, processes: Processes) -> Tensor:
        """(rows, features) float32; equal seeds give equal dropout, on the same device."""
        inputs = [tensor.to(processes.device) for tensor in self.rows.load(rows)]
        half = processes.precision is not torch.float32
        with (
            _seeded(seed, processes.device),
            torch.autocast(processes.device.type, processes.precision, enabled=half),
        ):
            features: Tensor = self.module(*inputs)
        return features.float()


def live_text(
    config: Config, tower: TextTower, texts: Sequence[str], *, seed: int, device: torch.device
) -> LiveTower:
    """The text tower with a fresh adapter, fed with ``texts`` by row."""
    with torch.random.fork_rng(devices=[]):  # a model draws weights before it loads its own
        module, _, _ = load_text_module(config.towers.text)
    settings = config.adapters.text
    sites = find_sites(module, settings, config.towers.text.name)
    parameters = attach(module, sites, settings, seed=seed, name="tuned")
    words = words_of(config.towers.text, tower.metadata["tokenizer"], vocabulary_rows(module))
    wrapper = pooled_tokens(module, config.towers.text, words)
    if config.tuning.checkpointing:
        module.config.use_cache = False  # type: ignore[union-attr]  # it would, with a remark
        module.activation_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]
    rows = _TextRows(tower, texts)
    return LiveTower(calmed(wrapper).to(device), parameters, settings, rows, tower.dimension)


def live_images(
    config: Config,
    tower: ImageTower,
    views: Sequence[tuple[Path, View]],
    *,
    seed: int,
    device: torch.device,
) -> LiveTower:
    """The image tower with a fresh adapter, fed with ``views`` by row."""
    with torch.random.fork_rng(devices=[]):
        module, _ = load_image_module(config.towers.image)
    settings = config.adapters.image
    sites = find_sites(module, settings, config.towers.image.name)
    parameters = attach(module, sites, settings, seed=seed, name="tuned")
    wrapper = pooled_stages(module, config.towers.image)
    if config.tuning.checkpointing:
        _checkpoint_blocks(module)
    rows = _ImageRows(tower, views, config.towers.image.size)
    return LiveTower(calmed(wrapper).to(device), parameters, settings, rows, tower.dimension)


def _checkpoint_blocks(module: nn.Module) -> None:
    """Recompute each block of a timm model in the backward pass.

    timm's own way takes the blocks apart, so that stages that are hooked would never be called.
    """
    blocks = getattr(module, "blocks", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        module.set_grad_checkpointing(True)  # type: ignore[operator]
        return
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


class _TextRows:
    def __init__(self, tower: TextTower, texts: Sequence[str]) -> None:
        self._tower, self._texts = tower, texts

    def chunks(self, rows: IntArray, most: int) -> list[IntArray]:
        """Texts of like length share a chunk: padding costs as much as words."""
        lengths = [len(self._texts[row]) for row in rows]
        return cut(np.argsort(lengths, kind="stable"), most)

    def prefetch(self, rows: IntArray) -> None:
        """Nothing: tokens are cheap."""

    def load(self, rows: IntArray) -> tuple[Tensor, ...]:
        """Ids and mask, (rows, tokens) int64."""
        ids, mask = self._tower.tokenize([self._texts[row] for row in rows])
        return torch.from_numpy(ids), torch.from_numpy(mask)


class _ImageRows:
    """Views rendered on the fly, a step ahead of the tower; memory holds those of two steps."""

    def __init__(self, tower: ImageTower, views: Sequence[tuple[Path, View]], size: int) -> None:
        self._tower, self._views, self._size = tower, views, size
        self._pool = ThreadPoolExecutor(1, "render")
        self._ahead: dict[int, Future[NDArray[np.uint8]]] = {}
        self._before: dict[int, Future[NDArray[np.uint8]]] = {}

    def chunks(self, rows: IntArray, most: int) -> list[IntArray]:
        """Views of one edge share a chunk."""
        edges = np.asarray([self._edge(int(row)) for row in rows])
        return [
            part for edge in np.unique(edges) for part in cut(np.flatnonzero(edges == edge), most)
        ]

    def prefetch(self, rows: IntArray) -> None:
        """Render ``rows`` in the background; those asked for before the last time are forgotten."""
        self._before, known = self._ahead, self._ahead
        self._ahead = {
            row: known.get(row) or self._pool.submit(self._render, row)
            for row in (int(row) for row in rows)
        }

    def load(self, rows: IntArray) -> tuple[Tensor, ...]:
        """Pixels, (rows, 3, edge, edge) float32, normalised."""
        pixels = np.stack([self._pixels(int(row)) for row in rows])
        return (torch.from_numpy(self._tower.normalise(pixels)),)

    def _pixels(self, row: int) -> NDArray[np.uint8]:
        found = self._before.get(row) or self._ahead.get(row)
        return found.result() if found else self._render(row)

    def _edge(self, row: int) -> int:
        return pixel_size(self._views[row][1], self._size) if self._tower.any_size else self._size

    def _render(self, row: int) -> NDArray[np.uint8]:
        path, view = self._views[row]
        image = decode_image(read_content(path), str(path))
        seen = view if self._tower.any_size else replace(view, scale=1.0)
        return render(image, seen, self._size)


def cut(order: IntArray, most: int) -> list[IntArray]:
    """``order`` in pieces of at most ``most``."""
    return [order[start : start + most] for start in range(0, len(order), most)]


def calmed(module: nn.Module) -> nn.Module:
    """In training mode for the adapters' dropout and for checkpointing, else as in inference.

    The tower's own dropout would make its features others than the cached ones the heads know, and
    batch statistics would make them depend on the batch.
    """
    from torch.nn.modules.batchnorm import _BatchNorm

    module.train()
    for name, part in module.named_modules():
        if isinstance(part, nn.Dropout) and "lora_dropout" not in name:
            part.p = 0.0
        elif isinstance(part, _BatchNorm) or type(part).__name__ == "DropPath":
            part.eval()
    return module


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's global generators, seeded within and untouched without."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
