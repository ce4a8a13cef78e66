"""What a tower gives: pooled stages of an image model, pooled tokens of a text model, in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from saywhere.config import ImageTowerConfig, TextTowerConfig
from saywhere.errors import TowerError
from saywhere.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor, nn


def pooled_stages(module: nn.Module, config: ImageTowerConfig) -> nn.Module:
    """Wrap a timm model: average-pooled outputs of ``config.stages``, then the last layer.

    The last layer is the classifier's input; for CLIP towers it is the projection to the joint
    space, which timm keeps in the classifier's place.

    Returns:
        a module from (n, 3, h, w) float32, normalised, to (n, dimension) float32.

    Raises:
        TowerError: a stage that the model does not have.
    """
    import torch
    from torch import nn

    modules = dict(module.named_modules())
    missing = [name for name in config.stages if name not in modules]
    if missing:
        raise TowerError(
            f"image tower {config.name!r} has no module {missing[0]!r} (towers.image.stages); "
            f"its top modules are: {', '.join(name for name, _ in module.named_children())}"
        )
    before_head = not _is_projection(module)
    channels_last = getattr(module, "output_fmt", "NCHW") == "NHWC"  # Swin and its kin

    class PooledStages(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tower = module
            self._outputs: dict[str, Tensor] = {}
            for name in config.stages:
                modules[name].register_forward_hook(self._keep(name))

        def _keep(self, name: str) -> Callable[[nn.Module, object, Tensor], None]:
            def hook(_module: nn.Module, _inputs: object, output: Tensor) -> None:
                self._outputs[name] = output

            return hook

        def forward(self, pixels: Tensor) -> Tensor:
            features = self.tower.forward_features(pixels)  # type: ignore[operator]
            last = self.tower.forward_head(features, pre_logits=before_head)  # type: ignore[operator]
            pooled = [
                _pooled(name, self._outputs[name], channels_last=channels_last)
                for name in config.stages
            ]
            return torch.cat([*pooled, last], 1)

    return PooledStages().eval()


def pooled_tokens(
    module: nn.Module, config: TextTowerConfig, table: FloatArray | None = None
) -> nn.Module:
    """Wrap a Hugging Face encoder: mean or CLS pooling, L2-normalised.

    Args:
        table: (rows, d) float32 static vectors of the tokens; their sum, L2-normalised, follows.

    Returns:
        a module from ``ids`` and ``mask``, (n, tokens) int64, to (n, dimension) float32.
    """
    import torch
    from torch import nn

    class PooledTokens(nn.Module):
        words: Tensor | None

        def __init__(self) -> None:
            super().__init__()
            self.tower = module
            words = None if table is None else torch.from_numpy(table)
            self.register_buffer("words", words, persistent=False)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            hidden = self.tower(input_ids=ids, attention_mask=mask).last_hidden_state
            weights = mask.unsqueeze(-1).to(hidden.dtype)  # (n, tokens, 1)
            if config.pooling == "cls":
                pooled = hidden[:, 0]
            else:
                pooled = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            features = torch.nn.functional.normalize(pooled, dim=-1)
            if self.words is None:
                return features
            known = (torch.nn.functional.embedding(ids, self.words) * weights).sum(1)
            return torch.cat([features, torch.nn.functional.normalize(known, dim=-1)], 1)

    return PooledTokens().eval()


def _is_projection(module: nn.Module) -> bool:
    """Whether the model's head projects to CLIP's joint space, by timm's architecture and tag.

    A CLIP tower that was fine-tuned to classes ("…_ft_in1k") has a classifier there again.
    """
    settings = getattr(module, "pretrained_cfg", None) or {}
    name = f"{settings.get('architecture', '')}.{settings.get('tag', '')}"
    return "clip" in name and "_ft_in" not in name


def _pooled(name: str, output: Tensor, *, channels_last: bool) -> Tensor:
    """(n, c, h, w) or (n, h, w, c) maps, (n, tokens, c) sequences -> (n, c)."""
    shape = tuple(getattr(output, "shape", ()))
    if len(shape) == 4:
        return output.mean((1, 2) if channels_last else (2, 3))
    if len(shape) == 3:
        return output.mean(1)
    raise TowerError(
        f"stage {name!r} gives no map or sequence of features (its output is "
        f"{type(output).__name__}{list(shape) if shape else ''}); name another in "
        "towers.image.stages"
    )
