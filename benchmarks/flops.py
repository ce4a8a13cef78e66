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

from saywhere.config import AdapterConfig, Config, load_config
from saywhere.files import write_text
from saywhere.towers.memory import EXPORTING, LOADING
from saywhere.types import PLATFORMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

# GeoText-1652 as published: images and captions of the training and the full test split.
TRAIN_IMAGES, TRAIN_CAPTIONS = 37_854 + 701 + 11_663, 113_562 + 2_103 + 34_989
TEST_IMAGES, TEST_CAPTIONS = 51_355 + 951 + 2_921, 154_065 + 2_853 + 8_763
FITTING = 0.1  # of the places, those ending in one digit
TOKENS = 96  # of a caption of 70 words, the published average, with XLM-R's vocabulary
VOCABULARY, WIDTH, LAYERS, HEADS, INNER, POSITIONS = 250_002, 1024, 24, 16, 4096, 8194  # BGE-M3


@dataclass(frozen=True, slots=True)
class Cost:
    """One tower.

    Attributes:
        parameters: numbers in it.
        flops: of one image or one caption.
        dimension: of its features.
        adapter: numbers in an expert's adapter.
        step: FLOPs of one item in a step with GradCache: forward, forward again, backward.
        held: bytes of float32 that wait for the backward pass, an item.
    """

    parameters: int
    flops: int
    dimension: int
    adapter: int
    step: int
    held: int


def main() -> None:
    """Count, estimate, print."""
    options = _options()
    parts = []
    for preset in options.preset:
        config = load_config(preset)
        image, text = image_cost(config), text_cost(config)
        parts += [f"### `{preset}`", _counted(config, image, text), _adapted(config, image, text)]
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
    wrapper = pooled_stages(module, config.towers.image)
    return _count(wrapper, module, pixels, config.adapters.image)


def text_cost(config: Config) -> Cost:
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
    wrapper = lambda ids: module(input_ids=ids).last_hidden_state[:, 0]  # noqa: E731
    return _count(wrapper, module, ids, config.adapters.text)


def _count(
    wrapper: Callable[[Tensor], Tensor], module: nn.Module, inputs: Tensor, adapter: AdapterConfig
) -> Cost:
    """Counted once as it stands, and once as it trains."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from saywhere.towers.lora import attach, find_sites
    from saywhere.tuning.live import calmed

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        features = wrapper(inputs)
    plain = counter.get_total_flops()
    weights = list(module.parameters())
    with torch.device("meta"):
        trained = attach(module, find_sites(module, adapter, ""), adapter, seed=0, name="counted")
    frozen = {weight.untyped_storage()._cdata for weight in module.parameters()}
    held: dict[int, torch.UntypedStorage] = {}  # kept, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in frozen:
            held[storage._cdata] = storage
        return tensor

    calmed(module)
    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            adapted = wrapper(inputs)
        again = counter.get_total_flops()
        adapted.sum().backward()
    return Cost(
        parameters=sum(weight.numel() for weight in weights),
        flops=plain,
        dimension=int(features.shape[1]),
        adapter=sum(parameter.numel() for parameter in trained.values()),
        step=again + counter.get_total_flops(),
        held=sum(storage.nbytes() for storage in held.values()),
    )


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


def _adapted(config: Config, image: Cost, text: Cost) -> str:
    """What an expert's adapters add, and what a step with GradCache holds."""
    rows = ["| tower | an expert's adapter | GFLOP an item and step | activations of a chunk |",
            "|---|---|---|---|"]  # fmt: skip
    for name, cost in (("image", image), ("text", text)):
        share = 100 * cost.adapter / cost.parameters
        rows.append(
            f"| {name} | {cost.adapter / 1e6:.2f} M ({share:.1f} %) | {cost.step / 1e9:.1f} | "
            f"{cost.held * config.tuning.chunk / 1e9:.1f} GB |"
        )
    return "\n".join(rows)


def _hours(config: Config, image: Cost, text: Cost, speeds: list[float]) -> str:
    """Hours of what runs the towers; training the heads alone is minutes beside it."""
    views, tuning, experts = config.views, config.tuning, len(PLATFORMS)
    epochs = tuning.stage1.epochs + tuning.stage2.epochs
    runs = (
        2 - FITTING if config.train.refit else 1 - FITTING
    )  # without the fitting places, then all
    # Full and orientation-free caption of each; a test image is seen through the test views, by
    # every expert's adapters; the word classifier looks at captions under none.
    work = {
        f"training images, {len(views.test) + views.train} views": (
            TRAIN_IMAGES * (len(views.test) + views.train) * image.flops
        ),
        "training captions, twice": 2 * TRAIN_CAPTIONS * text.flops,
        f"adapters: {epochs} epochs of images": runs * TRAIN_IMAGES * _an_item(epochs, image),
        f"adapters: {epochs} epochs of captions": runs * TRAIN_IMAGES * _an_item(epochs, text),
        "fitting places, under each expert": FITTING * experts * (
            TRAIN_IMAGES * len(views.test) * image.flops + 2 * TRAIN_CAPTIONS * text.flops
        ),
        f"test images (951), {len(views.test)} views, {experts} experts": (
            experts * TEST_IMAGES * len(views.test) * image.flops
        ),
        f"test captions, {experts} experts": (experts + 1) * TEST_CAPTIONS * text.flops,
    }  # fmt: skip
    rows = ["| what | PFLOP | " + " | ".join(f"h at {s:g} TFLOP/s" for s in speeds) + " |"]
    rows.append("|---" * (2 + len(speeds)) + "|")
    frozen = (
        TRAIN_IMAGES * (len(views.test) + views.train) + TEST_IMAGES * len(views.test)
    ) * image.flops + (2 * TRAIN_CAPTIONS + TEST_CAPTIONS) * text.flops
    sums = {"all": sum(work.values()), "all, without adapters": frozen}
    for name, flops in {**work, **sums}.items():
        hours = " | ".join(f"{flops / (speed * 1e12) / 3600:.1f}" for speed in speeds)
        rows.append(f"| {name} | {flops / 1e15:.1f} | {hours} |")
    held = 4e-9 * (
        TRAIN_IMAGES * (len(views.test) + views.train) * image.dimension
        + 2 * TRAIN_CAPTIONS * text.dimension
    )
    rows.append(f"\nTraining holds {held:.1f} GB of features in memory.")
    return "\n".join(rows)


def _an_item(epochs: int, cost: Cost) -> int:
    """FLOPs of one item: a step each epoch, and once to mine; each image draws one caption."""
    return epochs * cost.step + cost.flops


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", nargs="+", default=["paper", "paper-base"])
    parser.add_argument("--tflops", nargs="+", type=float, default=[0.1, 40.0])
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
