"""The method's promise, at full size: under 5 % of all parameters are trained.

Counted by the code behind ``saywhere expert show``, on arrays that have the shapes of the paper's
towers and take no memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from saywhere.adapters import DOWN, UP, Adapter
from saywhere.classify import PlatformClassifier
from saywhere.config import AdapterConfig, Config, HeadConfig, load_config
from saywhere.expert import Expert, Head, Member
from saywhere.expert_set import ExpertSet
from saywhere.fusion import neutral
from saywhere.summary import Summary, TowerSummary, _trained, summarise_expert
from saywhere.towers.lora import find_sites
from saywhere.types import PLATFORMS, FloatArray

PARAMETERS = {"paper": 304_432_832, "paper-base": 86_263_040}  # timm's own counts
BGE_M3 = 566_705_152  # without the pooler, which CLS pooling does not use
BLOCKS = {"paper": 24, "paper-base": 12}


def empty(*shape: int) -> FloatArray:
    """An array of that shape in four bytes."""
    return np.broadcast_to(np.float32(0), shape)


def bge_m3() -> nn.Module:
    import transformers

    settings = transformers.XLMRobertaConfig(
        vocab_size=250_002, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
        intermediate_size=4096, max_position_embeddings=8194, type_vocab_size=1,
    )  # fmt: skip
    module: Any = transformers.XLMRobertaModel(settings, add_pooling_layer=False)
    return module  # type: ignore[no-any-return]


def adapter_of(module: nn.Module, config: AdapterConfig) -> Adapter:
    parts = dict(module.named_modules())
    arrays = {}
    for site in find_sites(module, config, "tower"):
        layer: Any = parts[site]
        arrays[f"{site}.{DOWN}"] = empty(config.rank, layer.in_features)
        arrays[f"{site}.{UP}"] = empty(layer.out_features, config.rank)
    return Adapter(arrays)


def head(features: int, config: HeadConfig) -> Head:
    hidden, out = config.hidden, config.dimension
    return Head(
        empty(features), empty(features), empty(hidden, features), empty(hidden),
        empty(out, hidden), empty(out),
    )  # fmt: skip


def summary_of(config: Config, towers: Mapping[str, nn.Module], features: int) -> Summary:
    """Three experts over ``towers`` as training would make them."""
    member = Member(head(features, config.head), head(1024, config.head), 1.0)
    adapters = (
        adapter_of(towers["image"], config.adapters.image),
        adapter_of(towers["text"], config.adapters.text),
    )
    experts = [
        Expert(platform, (member,) * config.train.members, *adapters) for platform in PLATFORMS
    ]
    by_image, by_words = (
        PlatformClassifier(empty(width), empty(width), empty(3, width), empty(3))
        for width in (features, 1024)
    )
    modes = dict.fromkeys(("own", "mean", "weighted", "gated"), neutral(3))
    made = ExpertSet(config, tuple(experts), modes, by_image, by_words, towers={})
    counts = {side: sum(p.numel() for p in module.parameters()) for side, module in towers.items()}
    parts = tuple(summarise_expert(expert) for expert in experts)
    found = {side: TowerSummary(side, "", "", 0, count, False) for side, count in counts.items()}
    frozen = {f"{side}_tower": count for side, count in counts.items()}
    return Summary(Path(), made, parts, found, _trained(made, parts), frozen, 0, 0)


@pytest.mark.parametrize(("preset", "features"), [("paper", 768), ("paper-base", 512)])
def test_the_papers_presets_train_under_five_percent(preset: str, features: int) -> None:
    import timm

    config = load_config(preset)
    with torch.device("meta"):
        image: nn.Module = timm.create_model(config.towers.image.name)
        text = bge_m3()
    found = summary_of(config, {"image": image, "text": text}, features)
    assert found.frozen == {"image_tower": PARAMETERS[preset], "text_tower": BGE_M3}
    assert 0.03 < found.trainable_share < 0.05
    shares = found.trainable_shares
    assert shares.keys() == {
        "image_heads", "text_heads", "logit_scales", "image_adapters", "text_adapters",
        "platform_classifiers", "fusion",
    }  # fmt: skip
    assert sum(shares.values()) == pytest.approx(found.trainable_share)
    assert max(shares.values()) < 0.02
    assert min(shares["image_adapters"], shares["text_adapters"]) > 0.005
    # Also within each tower: all experts' adapters against the tower they sit in.
    for side, adapters in (("image", "image_adapters"), ("text", "text_adapters")):
        assert found.trained[adapters] < 0.05 * found.frozen[f"{side}_tower"]
    sites = found.experts.experts[0].image_adapter
    assert sites is not None
    assert len(sites.sites) == 7 * BLOCKS[preset]
