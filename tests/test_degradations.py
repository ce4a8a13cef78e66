"""Degradations: the same every time, worse by strength, alike at any size, named by their key."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from saywhere.degradations import KINDS, Degradation, degrade
from saywhere.errors import InputError


def scene(width: int, height: int) -> PIL.Image.Image:
    """Blocks of sixteen colours over the whole image, whatever its size."""
    blocks = np.random.default_rng(3).integers(20, 235, (4, 4, 3), np.uint8)
    return PIL.Image.fromarray(blocks).resize((width, height), PIL.Image.Resampling.NEAREST)


def away(one: PIL.Image.Image, other: PIL.Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_equal_arguments_give_equal_pixels(kind: str) -> None:
    image = scene(96, 64)
    found = degrade(image, Degradation(kind, 0.5, 7), 64)
    assert (found.size, found.mode) == ((96, 64), "RGB")
    assert away(found, degrade(image, Degradation(kind, 0.5, 7), 64)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_stronger_is_further_away(kind: str) -> None:
    image = scene(112, 112)
    distances = [
        np.mean([away(image, degrade(image, Degradation(kind, s, seed), 112)) for seed in range(8)])
        for s in (0.0, 0.5, 1.0)
    ]
    assert distances[0] > 0.3
    assert distances[0] < distances[1] < distances[2]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"jpeg", "contrast"}))
def test_seeds_differ(kind: str) -> None:
    image = scene(64, 64)
    found = [degrade(image, Degradation(kind, 0.5, seed), 64) for seed in range(6)]
    assert max(away(found[0], other) for other in found[1:]) > 0.5


@pytest.mark.parametrize("kind", ["blur", "motion", "coarse", "shimmer", "fall"])
def test_lengths_grow_with_the_edge(kind: str) -> None:
    """What a tower of larger images sees is spoiled as much: compared at one size."""
    image, ratios = scene(448, 448), []
    for seed in range(6):
        case = Degradation(kind, 0.6, seed)
        far = [away(image.resize((112, 112)), degrade(image, case, e).resize((112, 112)))
               for e in (112, 448)]  # fmt: skip
        ratios.append(far[1] / far[0])
    assert 0.6 < np.median(ratios) < 1.6


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (500, 20)])
@pytest.mark.parametrize("kind", KINDS)
def test_any_image_can_be_degraded(kind: str, size: tuple[int, int]) -> None:
    found = degrade(scene(*size), Degradation(kind, 1, 0), 32)
    assert min(found.size) == 32


@pytest.mark.parametrize(("kind", "strength"), [("moths", 0.5), ("haze", 1.1), ("haze", -0.1)])
def test_what_is_no_degradation_is_refused(kind: str, strength: float) -> None:
    with pytest.raises(InputError, match=r"is no degradation; choose from noise, .* 0 to 1"):
        Degradation(kind, strength, 0)


def test_keys_name_exactly_one_degradation() -> None:
    some = [Degradation(k, s, seed) for k in KINDS for s in (0.1, 0.2) for seed in (0, 1)]
    assert len({one.key for one in some}) == len(some)
    assert Degradation("haze", 0.12341, 1) == Degradation("haze", 0.12344, 1)


# Mean and deviation of the scene of 64 pixels under strength 0.6, seed 11.
PINNED = {
    "noise": (108.8, 82.0),
    "specks": (112.5, 80.7),
    "blur": (110.4, 67.4),
    "motion": (110.5, 66.4),
    "coarse": (110.5, 68.1),
    "jpeg": (110.1, 69.8),
    "contrast": (91.5, 27.5),
    "haze": (156.7, 32.9),
    "light": (187.3, 57.3),
    "cover": (120.2, 60.7),
    "shimmer": (111.0, 70.7),
    "fall": (144.1, 53.5),
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_done_and_its_key_belong_together(kind: str) -> None:
    """Cached features outlive this code: a change of these means needs another form of key."""
    assert Degradation(kind, 0.6, 11).key == f"{kind}:0.6:11"
    pixels = np.asarray(degrade(scene(64, 64), Degradation(kind, 0.6, 11), 64), float)
    assert (pixels.mean(), pixels.std()) == pytest.approx(PINNED[kind], abs=1.5)
