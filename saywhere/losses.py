"""Symmetric InfoNCE with a mask of what may be a negative. Sees tensors only.

Source: CLIP (Radford et al. 2021), figure 3; the mask follows supervised-contrastive practice: a
pair that is secretly positive is left out of the denominator, never pushed apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def negative_mask(
    text_places: Tensor, text_codes: Tensor, image_places: Tensor, image_codes: Tensor
) -> Tensor:
    """Which images are certainly wrong for which texts.

    Args:
        text_places: (n,) int64 place codes of the texts' own images.
        text_codes: (n,) int64 caption codes; equal texts share a code.
        image_places: (m,) int64 place codes.
        image_codes: (m, t) int64 codes of every text of an image, padded with -1.

    Returns:
        (n, m) bool: True where the image is of another place and the text is none of its texts.
    """
    same_place = text_places[:, None] == image_places[None, :]
    same_caption = (text_codes[:, None, None] == image_codes[None, :, :]).any(-1)
    return ~(same_place | same_caption)


def info_nce(
    image: Tensor,
    text: Tensor,
    logit_scale: Tensor,
    negatives: Tensor,
    *,
    extra: tuple[Tensor, Tensor] | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Symmetric InfoNCE; row i of ``image`` and of ``text`` are a pair.

    Args:
        image, text: (n, d) float, unit length.
        logit_scale: scalar, already exponentiated.
        negatives: (n texts, n images) bool from ``negative_mask``; the diagonal always counts,
            every other pair that is not a negative is left out.
        extra: (m, d) further images, unit length, that join the texts' denominators, and (n, m)
            bool, of which texts they are negatives.
        label_smoothing: share of probability spread evenly over what counts, the positive included.

    Returns:
        scalar mean of the text-to-image and the image-to-text loss.
    """
    import torch

    logits = logit_scale * text @ image.T  # (n texts, n images)
    counted = negatives | torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    to_text = _cross_entropy(logits.T, counted.T, label_smoothing)
    if extra is not None:
        images, extra_counted = extra
        logits = torch.cat([logits, logit_scale * text @ images.T], 1)  # (n, n + m)
        counted = torch.cat([counted, extra_counted], 1)
    return (_cross_entropy(logits, counted, label_smoothing) + to_text) / 2


def _cross_entropy(logits: Tensor, counted: Tensor, smoothing: float) -> Tensor:
    """Mean cross-entropy against the diagonal over the counted entries of each row."""
    import torch

    log_probability = torch.log_softmax(logits.masked_fill(~counted, float("-inf")), 1)
    loss = -log_probability.diagonal().mean()
    if smoothing:
        spread = log_probability.masked_fill(~counted, 0).sum(1) / counted.sum(1)
        loss = (1 - smoothing) * loss - smoothing * spread.mean()
    return loss
