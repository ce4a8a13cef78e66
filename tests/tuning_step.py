"""One step through live towers, its gradients kept: run here, or as one of several processes.

    RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=127.0.0.1 MASTER_PORT=… \
        python tests/tuning_step.py FOLDER OUT.npz key=value …
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from saywhere.batches import Batch, TrainingSet
from saywhere.config import AdapterConfig, Config, load_config
from saywhere.hardware import Runtime
from saywhere.heads import Ensemble, create_member
from saywhere.losses import info_nce
from saywhere.sources import Wanted
from saywhere.towers import ImageTower, TextTower, image_tower, text_tower
from saywhere.tuning.live import LiveTower, live_images, live_text
from saywhere.tuning.processes import this_process
from saywhere.tuning.source import LiveFeatures
from saywhere.types import FloatArray
from saywhere.views import View

ITEMS = 7
WORDS = [f"{('red', 'green', 'blue')[n % 3]} roof {'by a pond ' * (n % 4)}no {n}" for n in range(7)]


def tiny_config(folder: Path, *overrides: str) -> Config:
    """Towers that ``tiny_towers`` left in ``folder``, with adapters in both."""
    return load_config(
        overrides=[
            f"towers.text.name={folder / 'text'}",
            "towers.text.weights=transformers",
            "towers.text.sha256=",
            "towers.text.max_tokens=32",
            "towers.image.name=test_vit",
            f"towers.image.weights={folder / 'image.safetensors'}",
            "towers.image.sha256=",
            "towers.image.stages=['blocks.1']",
            "towers.image.size=160",
            "head.hidden=0",
            "head.dimension=8",
            "head.image_dropout=0",
            "head.text_dropout=0",
            "adapters.text.rank=2",
            "adapters.image.rank=2",
            "adapters.text.dropout=0",
            "adapters.image.dropout=0",
            "tuning.chunk=3",
            "threads=1",
            *overrides,
        ]
    )


def open_towers(config: Config) -> tuple[ImageTower, TextTower]:
    """The exported towers of ``config``, which take adapters."""
    return (
        image_tower(config.towers.image, runtime=Runtime(1), adapter=config.adapters.image),
        text_tower(config.towers.text, runtime=Runtime(1), adapter=config.adapters.text),
    )


def live_towers(
    config: Config, folder: Path, exported: tuple[ImageTower, TextTower]
) -> tuple[LiveTower | None, LiveTower | None]:
    """Live towers of ``config``, B moved off zero so that every gradient counts."""
    device = this_process(config.tuning).device
    views = [(folder / f"{n}.png", View(zoom=1 - n / 20)) for n in range(ITEMS)]
    images = texts = None
    if config.adapters.image.rank:
        images = live_images(config, exported[0], views, seed=1, device=device)
    if config.adapters.text.rank:
        texts = live_text(config, exported[1], WORDS, seed=1, device=device)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for tower in (images, texts):
            for parameter in tower.parameters.values() if tower else ():
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return images, texts


def gradients(config: Config, folder: Path) -> dict[str, NDArray[np.float32]]:
    """Gradients of one step over all items, by parameter, and the loss."""
    exported = open_towers(config)
    towers = live_towers(config, folder, exported)
    data = cached(exported, folder)
    processes = this_process(config.tuning)
    source = LiveFeatures(data, towers, config.tuning, processes, seed=3)
    adapters = {
        f"{side}.{name}": parameter
        for side, tower in zip(("image", "text"), towers, strict=True)
        if tower
        for name, parameter in tower.parameters.items()
    }
    module = Ensemble([create_member(data.views, data.texts, config.head, 2)], adapters)
    order = np.asarray([4, 0, 6, 2, 5, 1])
    wanted = Wanted(Batch(order, order, order), np.asarray([3]), np.asarray([3]))
    part = module.parts[0]
    for features in source.steps([wanted], "step"):
        images = part.image(features.images)
        extra = images[6:], torch.ones(6, 1, dtype=torch.bool)
        others = ~torch.eye(6, dtype=torch.bool)
        loss = info_nce(images[:6], part.text(features.texts), part.scale, others, extra=extra)
        loss.backward()  # type: ignore[no-untyped-call]
        assert features.backward is not None
        features.backward()
    source.reduce()
    found = {name: p.grad.numpy() for name, p in module.named_parameters() if p.grad is not None}
    return {**found, "loss": np.asarray(loss.detach())}


def cached(exported: tuple[ImageTower, TextTower], folder: Path) -> TrainingSet:
    """Features of the frozen towers, one view and one text an item."""
    from saywhere.images import read_image
    from saywhere.views import render

    size = exported[0].native_size
    pixels = [
        render(read_image(folder / f"{n}.png"), View(zoom=1 - n / 20), size) for n in range(ITEMS)
    ]
    views: FloatArray = exported[0].encode(np.stack(pixels))
    one_each = np.arange(ITEMS + 1)
    return TrainingSet(
        views=views,
        view_start=one_each,
        texts=exported[1].encode(WORDS),
        text_start=one_each,
        text_codes=np.arange(ITEMS),
        places=np.arange(ITEMS),
        platforms=np.zeros(ITEMS, np.int64),
    )


def tiny_towers(folder: Path, kind: str = "Bert") -> Path:
    """Weights of two tiny towers, and a few images, in ``folder``."""
    import PIL.Image
    import timm
    from safetensors.torch import save_file
    from test_towers import tiny_text_model

    torch.manual_seed(0)
    (folder / "text").mkdir(parents=True)
    tiny_text_model(folder / "text", kind)
    for name, file in (("test_vit", "image"), ("test_efficientnet", "convolutions")):
        save_file(timm.create_model(name).state_dict(), folder / f"{file}.safetensors")
    for number in range(ITEMS):
        noise = np.random.default_rng(number).integers(0, 256, (6, 6, 3), np.uint8)
        PIL.Image.fromarray(noise).resize((64, 64)).save(folder / f"{number}.png")
    return folder


def no_adapter(config: Config, side: str) -> Config:
    """``config`` with one tower frozen."""
    frozen = config.adapters.model_copy(update={side: AdapterConfig()})
    return config.model_copy(update={"adapters": frozen})


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, out = Path(sys.argv[1]), Path(sys.argv[2])
    result = gradients(tiny_config(place, *sys.argv[3:]), place)
    np.savez(out, **result)  # type: ignore[arg-type]  # numpy types its own flag only
