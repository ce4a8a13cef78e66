"""Presets, in plain sight: what each sets differently from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def _paper(image: str, size: int) -> Mapping[str, Any]:
    """The paper's towers and adapters; not ours to measure here, hence the reasons for each value.

    The image tower's projection to CLIP's joint space is all that is used of it (``stages`` empty).
    Its published weights are half precision, so float16 loses none of them; BGE-M3's 568 million
    weights as float32 exceed what one ONNX file holds. 256 tokens are about 180 English words:
    captions of the benchmarks have 40 to 120, and a batch is padded to its own longest text only.
    Two test views: such a tower has one size, and every further view costs another forward pass
    (0.4 TFLOP for the large one) an image.

    Adapters of rank 8 in every block of both towers: three experts with all their heads then train
    4.3 % of all parameters, rank 16 would pass the 5 % the method promises. Large towers want
    smaller steps than small ones (LoRA's own authors: 1e-4 to 4e-4); heads learn at half of that,
    1e-4 as in ``train.stage2``. GradCache in chunks of 4 holds 10 GB of activations as float32,
    half of it as bfloat16, whatever the batch (counted by ``benchmarks/flops.py``).
    """
    adapter = {"rank": 8, "alpha": 16.0}
    return {
        "towers": {
            "image": {
                "name": image,
                "weights": "timm",
                "stages": [],
                "size": size,
                "precision": "float16",
            },
            "text": {
                "name": "BAAI/bge-m3",
                "weights": "transformers",
                "pooling": "cls",
                "max_tokens": 256,
                "precision": "float16",
            },
        },
        "views": {"test": ["full", "flip"], "train": 4},
        "adapters": {"image": adapter, "text": adapter},
        "tuning": {
            "stage1": {"batch_size": 256, "learning_rate": 2e-4},
            "stage2": {"batch_size": 256, "learning_rate": 1e-4},
            "head_rate": 0.5,
            "chunk": 4,
            "cached_gradients": True,
        },
    }


# What makes up for small towers: six layers of MiniLM forget which words stood there, and what
# EfficientNet-Lite0 knows of the world are the classes of ImageNet.
_HELP: Mapping[str, Any] = {
    "towers": {"image": {"tuned": "shipped"}, "text": {"words": "wordllama"}}
}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "small": {**_HELP, "train": {"canonical": {"weight": 1.0}}},
    # Adapters in the text tower only: the images' features stay cached, so a CPU trains it.
    "small-lora": {**_HELP, "adapters": {"text": {"rank": 8, "layers": 2}}},
    "paper": _paper("eva02_large_patch14_clip_336.merged2b", 336),
    "paper-base": _paper("eva02_base_patch16_clip_224.merged2b", 224),
}
