"""The paper's towers, tiny: the same architectures, file names and key names, random weights.

Both folders look as their published repositories do: timm's config.json with model.safetensors,
and BGE-M3's config.json, sentencepiece vocabulary and pickle. The vocabulary is a real unigram
model trained on captions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

EVA = {
    "img_size": 56,
    "embed_dim": 48,
    "depth": 2,
    "num_heads": 2,
    "qkv_fused": False,
}
BASE, LARGE = "eva02_base_patch16_clip_224", "eva02_large_patch14_clip_336"


def write_eva(folder: Path, *, architecture: str = LARGE, size: int = 56) -> Any:
    """A tiny EVA02 in timm's hub format; returns the module."""
    import timm
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    arguments: dict[str, Any] = {**EVA, "img_size": size}
    torch.manual_seed(5)
    module = timm.create_model(architecture, num_classes=24, **arguments).eval()
    published: Any = timm.get_pretrained_cfg(f"{architecture}.merged2b")
    known = published.to_dict()
    known |= {"input_size": [3, size, size], "num_classes": 24, "pool_size": None}
    config = {
        "architecture": architecture,
        "num_classes": 24,
        "num_features": 48,
        "model_args": arguments,
        "pretrained_cfg": {key: value for key, value in known.items() if value is not None},
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(module.state_dict(), folder / "model.safetensors")
    return module


def write_xlmr(folder: Path, texts: Sequence[str], *, pieces: int = 160) -> Any:
    """A tiny XLM-R as BGE-M3 publishes it, weights as a pickle; returns the module."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder, texts, pieces)
    tokenizer: Any = transformers.XLMRobertaTokenizer.from_pretrained(folder)
    tokenizer.save_pretrained(folder)
    settings = transformers.XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=48, max_position_embeddings=258 + 2, type_vocab_size=1,
        layer_norm_eps=1e-5, architectures=["XLMRobertaModel"],
    )  # fmt: skip
    settings.save_pretrained(folder)
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special), "utf-8")
    torch.manual_seed(7)
    module: Any = transformers.XLMRobertaModel(settings)
    module.eval()
    torch.save(module.state_dict(), folder / "pytorch_model.bin")
    return module


def write_vocabulary(folder: Path, texts: Sequence[str], pieces: int) -> None:
    """``sentencepiece.bpe.model``: unigram, as XLM-R's, of at most ``pieces`` pieces."""
    import io

    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="unigram",
        vocab_size=pieces, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "sentencepiece.bpe.model").write_bytes(model.getvalue())
