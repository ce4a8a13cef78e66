"""The last blocks of an image tower in training, over what the frozen ones before them gave.

Of every view the maps between the frozen and the tuned blocks are computed once and kept on disk in
half precision; an epoch then costs the tuned blocks alone. Each map is there as it is and mirrored.
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
from saywhere.towers.tracing import Trace, batch_axis, trace
from saywhere.tuning.live import LiveTower, calmed, cut
from saywhere.types import IntArray
from saywhere.views import render

_STEM = ("conv_stem", "bn1")
SIDES = 2  # as it is, and mirrored


def frozen_part(module: nn.Module, config: ImageTowerConfig, first: int) -> nn.Module:
    """The tower up to block ``first``: (n, 3, h, w) normalised pixels to (n, c, h', w') maps.

    Raises:
        ConfigError: no EfficientNet of timm's, no such block, or stages pooled before it.
    """
    blocks = getattr(module, "blocks", None)
    names = [*_STEM, "conv_head"]
    if not isinstance(blocks, nn.Sequential) or not all(hasattr(module, name) for name in names):
        raise ConfigError(
            f"towers.image.name: blocks of {config.name!r} cannot be tuned, only those of timm's "
            "EfficientNets; choose one, or adapters (adapters.image.rank)"
        )
    late = {f"blocks.{number}" for number in range(first - 1, len(blocks))}
    if not 0 < first < len(blocks) or not late.issuperset(config.stages):
        early = [name for name in config.stages if name not in late]
        raise ConfigError(
            f"first tuned block {first}: {config.name} has blocks 0 to {len(blocks) - 1}, and "
            f"{early[0] if early else 'the first'} comes before; choose another block, or "
            "other towers.image.stages"
        )
    return nn.Sequential(*(getattr(module, name) for name in _STEM), *blocks[:first]).eval()


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
    """A tower that goes on from ``maps`` and learns, and the model in it.

    Row 2 i is view i, row 2 i + 1 the same mirrored.
    """
    model: Any = copy.deepcopy(module)
    for name in _STEM:
        setattr(model, name, nn.Identity())
    for number in range(first):
        model.blocks[number] = nn.Identity()
    wrapper = calmed(pooled_stages(model, config)).to(memory_format=torch.channels_last)
    parameters = {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("classifier")
    }
    with torch.inference_mode():
        dimension = wrapper(_mapped(maps[:1])).shape[1]
    return LiveTower(wrapper, parameters, AdapterConfig(), _MapRows(maps), dimension), model


class _MapRows:
    """Maps by row; see ``live_blocks``."""

    def __init__(self, maps: NDArray[Any]) -> None:
        self._maps = maps

    def chunks(self, rows: IntArray, most: int) -> list[IntArray]:
        """In order."""
        return cut(np.arange(len(rows)), most)

    def prefetch(self, rows: IntArray) -> None:
        """Nothing: they are mapped from disk."""

    def load(self, rows: IntArray) -> tuple[Tensor, ...]:
        """(rows, c, h, w) float32."""
        maps = _mapped(self._maps[rows // SIDES])
        mirrored = torch.from_numpy(rows % SIDES == 1)[:, None, None, None]
        turned = torch.where(mirrored, maps.flip(3), maps)
        return (turned.contiguous(memory_format=torch.channels_last),)


def _compiled(part: nn.Module, size: int) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """``part`` by ONNX Runtime on one thread, twice as fast as torch; for many threads at once."""
    import onnxruntime

    example = {"input": torch.rand(2, 3, size, size)}
    model = trace(Trace("frozen blocks", part, example, {"input": {0: batch_axis()}}, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

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
