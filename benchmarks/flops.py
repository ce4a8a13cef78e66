"""What the paper's towers cost: counted parameters and FLOPs, and estimates drawn from them.

    python benchmarks/flops.py [--preset paper paper-base] [--tflops 0.1 40] [--out runs/flops.md]

Models are built on torch's meta device: no weights, no memory, every multiplication counted by
``torch.utils.flop_counter`` (a multiply-add is two). Everything below the counts is an estimate: it
takes the counts, the published numbers of images and captions, and the sustained speed that is
assumed with ``--tflops`` (0.1: a CPU of four modern cores, 40: one data-centre GPU in float32).
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saywhere.config import Config, load_config
from saywhere.files import write_text
from saywhere.towers.memory import EXPORTING, LOADING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

# GeoText-1652 as published: images and captions of the training and the full test split.
TRAIN_IMAGES, TRAIN_CAPTIONS = 37_854 + 701 + 11_663, 113_562 + 2_103 + 34_989
TEST_IMAGES, TEST_CAPTIONS = 51_355 + 951 + 2_921, 154_065 + 2_853 + 8_763
TOKENS = 96  # of a caption of 70 words, the published average, with XLM-R's vocabulary
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, POSITIONS = 250_002, 1024, 24, 16, 4096, 8194  # BGE-M3


@dataclass(frozen=True, slots=True)
class Cost:
    """One tower.

    Attributes:
        parameters: numbers in it.
        flops: of one image or one caption.
        dimension: of its features.
    """

    parameters: int
    flops: int
    dimension: int


def main() -> None:
    """Count, estimate, print."""
    options = _options()
    parts = []
    for preset in options.preset:
        config = load_config(preset)
        image, text = image_cost(config), text_cost()
        parts += [f"### `{preset}`", _counted(config, image, text)]
        parts.append(_hours(config, image, text, options.tflops))
    page = "\n\n".join(parts) + "\n"
    if options.out is not None:
        write_text(options.out, page)
    print(page, end="")


def image_cost(config: Config) -> Cost:
    """The image tower of ``config``, counted on the meta device."""
    import timm
    import torch

    from saywhere.towers.pooling import pooled_stages

    size = config.towers.image.size
    with torch.device("meta"):
        module = timm.create_model(config.towers.image.name)
        pixels = torch.empty(1, 3, size, size)
    return _count(pooled_stages(module, config.towers.image), module, pixels)


def text_cost() -> Cost:
    """BGE-M3's architecture from its published sizes: the hub's config.json is not needed."""
    import torch
    import transformers

    settings = transformers.XLMRobertaConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, intermediate_size=INNER, max_position_embeddings=POSITIONS,
        type_vocab_size=1, attn_implementation="eager",
    )  # fmt: skip
    with torch.device("meta"):
        module: Any = transformers.XLMRobertaModel(settings)
        ids = torch.zeros(1, TOKENS, dtype=torch.int64)
    # Without a mask: looking into one needs its values, and pooling costs nothing.
    return _count(lambda ids: module(input_ids=ids).pooler_output, module, ids)


def _count(wrapper: Callable[[Tensor], Tensor], module: nn.Module, inputs: Tensor) -> Cost:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = wrapper(inputs)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return Cost(parameters, counter.get_total_flops(), int(features.shape[1]))


def _counted(config: Config, image: Cost, text: Cost) -> str:
    rows = [
        "| tower | parameters | GFLOP an item | features | float32 | float16 | int8 "
        "| memory to load | to export |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, cost in ((f"image, {config.towers.image.size} px", image),
                       (f"text, {TOKENS} tokens", text)):  # fmt: skip
        sizes = " | ".join(f"{cost.parameters * width / 1e9:.2f} GB" for width in (4, 2, 1))
        memory = " | ".join(
            f"{4e-9 * cost.parameters * factor:.1f} GB" for factor in (LOADING, EXPORTING)
        )
        rows.append(
            f"| {name} | {cost.parameters / 1e6:.1f} M | {cost.flops / 1e9:.1f} | "
            f"{cost.dimension} | {sizes} | {memory} |"
        )
    return "\n".join(rows)


def _hours(config: Config, image: Cost, text: Cost, speeds: list[float]) -> str:
    """Hours of features; training the heads over them is minutes beside it."""
    views = config.views
    # Full and orientation-free caption of each; a test image is seen through the test views.
    work = {
        f"training images, {len(views.test) + views.train} views": (
            TRAIN_IMAGES * (len(views.test) + views.train) * image.flops
        ),
        "training captions, twice": 2 * TRAIN_CAPTIONS * text.flops,
        f"test images (951), {len(views.test)} views": (
            TEST_IMAGES * len(views.test) * image.flops
        ),
        "test captions": TEST_CAPTIONS * text.flops,
    }
    rows = ["| features of | PFLOP | " + " | ".join(f"h at {s:g} TFLOP/s" for s in speeds) + " |"]
    rows.append("|---" * (2 + len(speeds)) + "|")
    for name, flops in {**work, "all": sum(work.values())}.items():
        hours = " | ".join(f"{flops / (speed * 1e12) / 3600:.1f}" for speed in speeds)
        rows.append(f"| {name} | {flops / 1e15:.1f} | {hours} |")
    held = 4e-9 * (
        TRAIN_IMAGES * (len(views.test) + views.train) * image.dimension
        + 2 * TRAIN_CAPTIONS * text.dimension
    )
    rows.append(f"\nTraining holds {held:.1f} GB of features in memory.")
    return "\n".join(rows)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["paper", "paper-base"])
    parser.add_argument("--tflops", nargs="+", type=float, default=[0.1, 40.0])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
