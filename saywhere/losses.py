"""Symmetric InfoNCE with a mask of what may be a negative. Sees tensors only.

Source: CLIP (Radford et al. 2021), eq. in section 2.3; the mask follows supervised-contrastive
practice: a pair that is secretly positive is left out of the denominator, never pushed apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def negative_mask(places: Tensor, captions: Tensor) -> Tensor:
    """Which pairs of a batch are negatives of each other.

    Args:
        places: (n,) int64 place codes.
        captions: (n,) int64 caption codes; equal texts share a code.

    Returns:
        (n, n) bool, symmetric, False on the diagonal: True where neither place nor caption is equal.
    """
    same_place = places[:, None] == places[None, :]
    same_caption = captions[:, None] == captions[None, :]
    return ~(same_place | same_caption)


def info_nce(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    negatives: Tensor,
    *,
    extra_images: Tensor | None = None,
    extra_negatives: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Symmetric InfoNCE; row i of ``image`` and of ``text`` are a pair.

    Args:
        image, text: (n, d) float, unit length.
        logit_scale: scalar, already exponentiated.
        negatives: (n, n) bool from ``negative_mask``; everything else off the diagonal is ignored.
        extra_images: (m, d) mined images that join every text's denominator.
        extra_negatives: (n, m) bool, which of them are negatives of text i.
        label_smoothing: share of probability spread over the negatives that count.

    Returns:
        scalar mean of the text-to-image and the image-to-text loss.
    """
    import torch

    logits = logit_scale * text @ image.T  # (n texts, n images)
    allowed = negatives | torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    to_image = logits.masked_fill(~allowed, float("-inf"))
    to_text = logits.T.masked_fill(~allowed.T, float("-inf"))
    if extra_images is not None and extra_negatives is not None:
        extra = (logit_scale * text @ extra_images.T).masked_fill(~extra_negatives, float("-inf"))
        to_image = torch.cat([to_image, extra], 1)  # (n, n + m)
    return (
        _cross_entropy(to_image, label_smoothing) + _cross_entropy(to_text, label_smoothing)
    ) / 2


def _cross_entropy(logits: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy against the diagonal; -inf entries take no part."""
    import torch

    log_probability = torch.log_softmax(logits, 1)
    loss = -log_probability.diagonal().mean()
    if smoothing:
        counted = torch.isfinite(logits)
        spread = log_probability.masked_fill(~counted, 0).sum(1) / counted.sum(1)
        loss = (1 - smoothing) * loss - smoothing * spread.mean()
    return loss
