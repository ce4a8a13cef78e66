"""InfoNCE against a naive double loop, and what its mask must and must not let through."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from saywhere.losses import info_nce, negative_mask

# Items 0 and 1 share a place, 2 and 3 a caption; text 4 is also a text of image 0.
PLACES = torch.tensor([0, 0, 1, 2, 3])
CODES = torch.tensor([10, 11, 12, 12, 13])
ITEM_CODES = torch.tensor([[10, 13], [11, -1], [12, -1], [12, -1], [13, -1]])
MASKED = {(0, 1), (1, 0), (2, 3), (3, 2), (4, 0)}  # (text, image) that are no negatives
SCALE = torch.tensor(7.0, dtype=torch.float64)


def unit(shape: tuple[int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(values, dim=1)


def in_batch_mask() -> Tensor:
    return negative_mask(PLACES, CODES, PLACES, ITEM_CODES)


def naive(
    image: Tensor,
    text: Tensor,
    negatives: Tensor,
    extra: tuple[Tensor, Tensor] | None,
    smoothing: float,
) -> float:
    """Both directions, pair by pair, in Python floats."""
    count, scale = len(image), float(SCALE)

    def score(i: int, vectors: Tensor, j: int) -> float:
        return scale * math.fsum(
            a * b for a, b in zip(text[i].tolist(), vectors[j].tolist(), strict=True)
        )

    def loss(positive: float, others: list[float]) -> float:
        every = [positive, *others]
        total = math.log(sum(math.exp(value) for value in every))
        even = sum(total - value for value in every) / len(every)
        return (1 - smoothing) * (total - positive) + smoothing * even

    losses = []
    for i in range(count):
        to_image = [score(i, image, j) for j in range(count) if j != i and negatives[i, j]]
        if extra is not None:
            to_image += [score(i, extra[0], j) for j in range(len(extra[0])) if extra[1][i, j]]
        to_text = [score(j, image, i) for j in range(count) if j != i and negatives[j, i]]
        losses += [loss(score(i, image, i), to_image), loss(score(i, image, i), to_text)]
    return sum(losses) / len(losses)


def test_mask_leaves_out_same_place_and_same_caption_only() -> None:
    mask = in_batch_mask()
    expected = [[i != j and (i, j) not in MASKED for j in range(5)] for i in range(5)]
    assert mask.tolist() == expected


def test_mask_of_other_images_need_not_be_square() -> None:
    mask = negative_mask(PLACES, CODES, torch.tensor([0, 9]), torch.tensor([[99, 98], [13, -1]]))
    assert mask.tolist() == [
        [False, True],
        [False, True],
        [True, True],
        [True, True],
        [True, False],
    ]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("with_extra", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_the_naive_loss(smoothing: float, with_extra: bool, masked: bool) -> None:
    image, text = unit((5, 4), 1), unit((5, 4), 2)
    negatives = in_batch_mask() if masked else ~torch.eye(5, dtype=torch.bool)
    extra = (unit((3, 4), 3), torch.rand((5, 3)) < 0.6) if with_extra else None
    found = info_nce(image, text, SCALE, negatives, extra=extra, label_smoothing=smoothing)
    assert found.item() == pytest.approx(naive(image, text, negatives, extra, smoothing), abs=1e-12)


def test_gradients_are_right() -> None:
    image, text, extra = unit((5, 3), 4), unit((5, 3), 5), unit((2, 3), 6)
    allowed = torch.tensor([[True, False]] * 5)
    negatives = in_batch_mask()
    for tensor in (image, text, extra):
        tensor.requires_grad_()
    scale = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)

    def loss(*parts: Tensor) -> Any:
        return info_nce(
            parts[0], parts[1], parts[2], negatives, extra=(parts[3], allowed), label_smoothing=0.1
        )

    assert torch.autograd.gradcheck(loss, (image, text, scale, extra))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_masked_pairs_have_no_influence(smoothing: float) -> None:
    """Only image 0 counts against text 0, so turning the others changes nothing in its terms."""
    image, text = unit((3, 4), 7), unit((3, 4), 8)
    none = torch.zeros((3, 3), dtype=torch.bool)
    image.requires_grad_()
    extra = unit((2, 4), 9).requires_grad_()
    no_extra = torch.zeros((3, 2), dtype=torch.bool)
    loss = info_nce(image, text, SCALE, none, extra=(extra, no_extra), label_smoothing=smoothing)
    assert loss.item() == 0  # the positive alone: probability one
    loss.backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    assert extra.grad is not None
    assert image.grad.abs().max() == 0
    assert extra.grad.abs().max() == 0


def test_turning_a_masked_image_changes_only_the_terms_it_counts_in() -> None:
    """Two pairs of one place: turning image 1 costs neither anything, unless places differ."""
    text, image, turned = unit((2, 4), 10), unit((2, 4), 11), unit((2, 4), 12)
    turned[0] = image[0]
    places, codes = torch.tensor([5, 5]), torch.tensor([0, 1])
    masked = negative_mask(places, codes, places, codes[:, None])
    assert info_nce(image, text, SCALE, masked) == info_nce(turned, text, SCALE, masked) == 0
    apart = torch.tensor([5, 6])
    free = negative_mask(apart, codes, apart, codes[:, None])
    assert info_nce(image, text, SCALE, free) != info_nce(turned, text, SCALE, free)


def test_order_of_the_pairs_does_not_matter() -> None:
    image, text, extra = unit((5, 4), 13), unit((5, 4), 14), unit((2, 4), 15)
    allowed = torch.tensor([[True, False], [False, True], [True, True], [False] * 2, [True, False]])
    order = torch.tensor([3, 0, 4, 1, 2])
    mask = in_batch_mask()
    found = info_nce(
        image[order], text[order], SCALE, mask[order][:, order], extra=(extra, allowed[order])
    )
    expected = info_nce(image, text, SCALE, mask, extra=(extra, allowed))
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_diagonal_counts_whatever_the_mask_says() -> None:
    image, text = unit((4, 3), 16), unit((4, 3), 17)
    off = ~torch.eye(4, dtype=torch.bool)
    everything = torch.ones((4, 4), dtype=torch.bool)
    assert info_nce(image, text, SCALE, off) == info_nce(image, text, SCALE, everything)


def test_inputs_are_not_written_to() -> None:
    image, text, mask = unit((5, 4), 18), unit((5, 4), 19), in_batch_mask()
    before = [tensor.clone() for tensor in (image, text, mask)]
    info_nce(image, text, SCALE, mask, label_smoothing=0.1)
    for tensor, kept in zip((image, text, mask), before, strict=True):
        assert np.array_equal(tensor.numpy(), kept.numpy())
