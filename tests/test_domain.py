"""Which images of a platform its expert learned from, and what becomes of the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_more import MORE
from test_train import config, planted, silent

from saywhere.domain import Domain, domain_from_arrays, fit_domain
from saywhere.embed import fold_image_features
from saywhere.errors import ExpertError
from saywhere.expert import Expert, expert_from_arrays
from saywhere.expert_set import ExpertSet
from saywhere.fusion import UNKNOWN
from saywhere.halving import halved
from saywhere.more import with_more
from saywhere.train import train_layout
from saywhere.types import FloatArray, Platform


def images(count: int, seed: int, shift: float = 0.0, views: int = 3) -> list[FloatArray]:
    """Features of ``count`` images; the second kind lies off by ``shift`` in half of them."""
    draw = np.random.default_rng(seed).normal(size=(count, views, 6)).astype(np.float32)
    draw[..., :3] += shift
    return list(draw)


def test_it_tells_two_kinds_apart_by_the_first_two_views() -> None:
    domain = fit_domain(images(400, 0, 2.0), images(40, 1))
    assert domain.contains(images(50, 2, 2.0)).mean() > 0.9
    assert domain.contains(images(50, 3)).mean() < 0.1  # rare in training, and yet recognised
    # A third view, such as a large one that only one kind has, says nothing.
    odd = [np.concatenate([views[:2], 99 + views[2:]]) for views in images(50, 2, 2.0)]
    np.testing.assert_array_equal(domain.contains(odd), domain.contains(images(50, 2, 2.0)))
    assert domain.contains([]).shape == (0,)


def test_it_travels_with_its_expert_and_shapes_the_hash() -> None:
    (expert,) = train_layout(planted(30, 0), config("train.layout=generalist"), silent)
    expert = Expert(Platform.SATELLITE, expert.members)
    domain = fit_domain(images(20, 0, 2.0), images(20, 1))
    told = replace(expert, domain=domain)
    again = expert_from_arrays(Platform.SATELLITE, told.arrays())
    assert again.domain is not None
    for name, values in domain.arrays().items():
        np.testing.assert_array_equal(again.domain.arrays()[name], values)
    assert expert_from_arrays(Platform.SATELLITE, expert.arrays()).domain is None
    assert experts(told).hash != experts(expert).hash
    assert halved(experts(told)).experts[0].domain is not None


@pytest.mark.parametrize(
    "change",
    [{"domain.bias": None}, {"domain.std": np.ones(2, np.float32)}, {"domain.bias": np.ones(2)}],
)
def test_broken_ones_are_refused(change: dict[str, FloatArray | None]) -> None:
    arrays = fit_domain(images(20, 0, 2.0), images(20, 1)).arrays() | change
    with pytest.raises(ExpertError, match="domain"):
        domain_from_arrays({k: v for k, v in arrays.items() if v is not None})


def test_an_image_of_another_kind_is_the_generalists() -> None:
    settings = config(*MORE, "more.stage.epochs=1", "fusion.mode=known")
    main, extra = planted(30, 0), planted(60, 7, platforms=1)
    extra = replace(extra, views=extra.views + 3)
    made = with_more(train_layout(main, settings, silent), main, extra, settings, silent)
    assert made[0].domain is not None
    assert made[1].domain is None
    both = replace(experts(*made), config=settings)
    own, more = main.of_platform(Platform.SATELLITE), extra
    features = [*np.split(own.views, own.view_start[1:-1])[:5],
                *np.split(more.views, more.view_start[1:-1])[:5]]  # fmt: skip
    satellite, drone = np.zeros(10, np.int64), np.ones(10, np.int64)
    folded = {
        name: fold_image_features(both, {"": features}, known)
        for name, known in (
            ("satellite", satellite), ("drone", drone), ("unknown", np.full(10, UNKNOWN)),
        )
    }  # fmt: skip
    gates = folded["satellite"][:, -3:-1]
    assert gates.tolist() == [[0, 1]] * 5 + [[1, 0]] * 5
    for name in ("drone", "unknown"):  # the domain is asked of its own platform alone
        assert folded[name][:, -3:-1].tolist() == [[0, 1]] * 10
    plain = replace(both, experts=(replace(made[0], domain=None), made[1]))
    every = fold_image_features(plain, {"": features}, satellite)
    assert every[:, -3:-1].tolist() == [[1, 0]] * 10


def test_without_a_generalist_it_stays_its_platforms() -> None:
    """Else it would be judged by whichever platform's expert comes first."""
    (expert,) = train_layout(planted(30, 0), config("train.layout=generalist"), silent)
    domain = fit_domain(images(20, 0, 2.0), images(20, 1))
    made = [Expert(platform, expert.members) for platform in (Platform.SATELLITE, Platform.DRONE)]
    told, drone = experts(made[0], replace(made[1], domain=domain)), np.ones(5, np.int64)
    np.testing.assert_array_equal(told.in_domain(drone, images(5, 3)), drone)
    both = experts(*told.experts, expert)
    np.testing.assert_array_equal(both.in_domain(drone, images(5, 3)), np.full(5, UNKNOWN))


def experts(*made: Expert) -> ExpertSet:
    return ExpertSet(config(), made, {}, None, None, {"image": "a", "text": "b"})


def test_numbers_that_are_no_domain_are_refused() -> None:
    with pytest.raises(ExpertError, match="domain"):
        Domain(*(np.zeros((2, 2), np.float32) for _ in range(4)))
