"""The last blocks of an image tower in training, over what the frozen ones before them gave.

Of every view the maps between the frozen and the tuned blocks are computed once and kept on disk in
half precision; an epoch then costs the tuned blocks alone. Mirroring a map is no augmentation: its
channels tell left edges from right ones, so mirrored views have maps of their own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from saywhere.batches import starts_of
from saywhere.config import AdapterConfig, ImageTowerConfig
from saywhere.errors import ConfigError, InputError
from saywhere.features import ImageRequest, Progress
from saywhere.files import atomic_path
from saywhere.images import decode_image, read_content
from saywhere.towers import ImageTower
from saywhere.towers.pooling import pooled_stages
from saywhere.towers.tracing import Trace, batch_axis, open_graph, trace
from saywhere.tuning.live import LiveTower, calmed, cut
from saywhere.types import IntArray
from saywhere.views import render

_STEM, _LAST = ("conv_stem", "bn1"), ("conv_head", "bn2")


def frozen_part(module: nn.Module, config: ImageTowerConfig, first: int) -> nn.Sequential:
    """The tower before block ``first``: (n, 3, h, w) normalised pixels to (n, c, h', w') maps.

    It ends with the first stage that is pooled, where that comes earlier.

    Raises:
        ConfigError: no EfficientNet of timm's, no such block, or a stage that is no block.
    """
    blocks = getattr(module, "blocks", None)
    names = [*_STEM, "conv_head"]
    if not isinstance(blocks, nn.Sequential) or not all(hasattr(module, name) for name in names):
        raise ConfigError(
            f"towers.image.name: blocks of {config.name!r} cannot be tuned, only those of timm's "
            "EfficientNets; choose one, or adapters (adapters.image.rank)"
        )
    known = [f"blocks.{number}" for number in range(len(blocks))]
    if not 0 < first < len(blocks) or not set(known).issuperset(config.stages):
        raise ConfigError(
            f"first tuned block {first}: {config.name} has blocks 0 to {len(blocks) - 1}, of which "
            "the first stays frozen, and towers.image.stages may name blocks only; choose another"
        )
    end = _mapped_after(config, first)
    return nn.Sequential(*(getattr(module, name) for name in _STEM), *blocks[:end]).eval()


def _mapped_after(config: ImageTowerConfig, first: int) -> int:
    """How many blocks lie before the maps: a stage that is pooled must come out of them."""
    return min([first, *(int(name.partition(".")[2]) + 1 for name in config.stages)])


def cached_maps(
    part: nn.Module,
    tower: ImageTower,
    requests: Sequence[ImageRequest],
    path: Path,
    how: tuple[int, int, Progress | None],
) -> NDArray[Any]:
    """What ``part`` gives of every view, in the order of ``requests``.

    Args:
        tower: the exported tower, for its normalisation.
        path: of the file that keeps them; if it is there, it is taken as it is.
        how: edge of the views in pixels, threads, and what is told of images done.

    Returns:
        (views, c, h, w) float16, mapped from disk.
    """
    size, threads, progress = how
    starts = starts_of(len(request.views) for request in requests)
    if not path.is_file():
        run = _compiled(part, size)
        shape = run(np.zeros((1, 3, size, size), np.float32)).shape[1:]
        with atomic_path(path) as temporary:
            maps = np.lib.format.open_memmap(temporary, "w+", np.float16, (int(starts[-1]), *shape))

            def one(index: int) -> None:
                pixels = _pixels(tower, requests[index], size)
                maps[starts[index] : starts[index + 1]] = run(pixels)

            with ThreadPoolExecutor(threads) as pool:
                for done, _ in enumerate(pool.map(one, range(len(requests))), 1):
                    if progress is not None:
                        progress(done, len(requests))
            maps.flush()
            del maps
    found: NDArray[Any] = np.load(path, mmap_mode="r")
    if len(found) != starts[-1]:
        raise InputError(f"{path}: holds {len(found)} maps of {starts[-1]}; delete it")
    return found


def live_blocks(
    module: nn.Module, config: ImageTowerConfig, first: int, maps: NDArray[Any]
) -> tuple[LiveTower, nn.Module]:
    """A tower that goes on from ``maps``, learning from block ``first`` on, and the model in it."""
    model: Any = copy.deepcopy(module)
    for name in _STEM:
        setattr(model, name, nn.Identity())
    for number in range(_mapped_after(config, first)):
        model.blocks[number] = nn.Identity()
    for name, parameter in model.named_parameters():
        top, _, rest = name.partition(".")
        late = top == "blocks" and int(rest.partition(".")[0]) >= first
        parameter.requires_grad_(late or top in _LAST)
    wrapper = calmed(pooled_stages(model, config)).to(memory_format=torch.channels_last)
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with torch.inference_mode():
        dimension = wrapper(_mapped(maps[:1])).shape[1]
    return LiveTower(wrapper, learning, AdapterConfig(), _MapRows(maps), dimension), model


class _MapRows:
    """Maps of views, by row."""

    def __init__(self, maps: NDArray[Any]) -> None:
        self._maps = maps

    def chunks(self, rows: IntArray, most: int) -> list[IntArray]:
        """In order."""
        return cut(np.arange(len(rows)), most)

    def prefetch(self, rows: IntArray) -> None:
        """Nothing: they are mapped from disk."""

    def load(self, rows: IntArray) -> tuple[Tensor, ...]:
        """(rows, c, h, w) float32."""
        return (_mapped(self._maps[rows]).contiguous(memory_format=torch.channels_last),)


def _compiled(part: nn.Module, size: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """``part`` by ONNX Runtime on one thread, twice as fast as torch; for many threads at once."""
    example = {"input": torch.rand(2, 3, size, size)}
    model = trace(Trace("frozen blocks", part, example, {"input": {0: batch_axis()}}, None))
    session = open_graph(model, threads=1)

    def run(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        maps: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: pixels})[0]
        return maps

    return run


def _mapped(maps: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(maps, np.float32))


def _pixels(tower: ImageTower, request: ImageRequest, size: int) -> NDArray[np.float32]:
    """(views, 3, size, size) normalised: all at one size, so that their maps are, too."""
    image = decode_image(read_content(request.path), str(request.path))
    seen = [render(image, replace(view, scale=1.0), size) for view in request.views]
    pixels: NDArray[np.float32] = tower.normalise(np.stack(seen))
    return pixels
