"""The member in closed form: its correlations are the largest there are, and it finds what fits."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saywhere.batches import TrainingSet
from saywhere.canonical import canonical_member
from saywhere.config import CanonicalConfig, load_config
from saywhere.errors import ExpertError
from saywhere.expert import Expert, Head, expert_from_arrays
from saywhere.train import train_layout
from saywhere.types import FloatArray

VIEWS, TEXTS, IMAGE, TEXT, SHARED = 3, 2, 30, 20, 4
FREE = CanonicalConfig(weight=1, dimension=SHARED, image_ridge=1e-6, text_ridge=1e-6, power=0)


def planted(count: int, seed: int) -> TrainingSet:
    """Both sides hold four common numbers, mixed and of very different scales, under noise."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(7)
    to_image, to_text = fixed.standard_normal((2, SHARED, IMAGE))
    common = rng.standard_normal((count, SHARED))
    views = np.repeat(common @ to_image, VIEWS, 0) * fixed.uniform(0.1, 9, IMAGE) + 5
    texts = np.repeat(common @ to_text[:, :TEXT], TEXTS, 0) - 2
    numbers = np.arange(count)
    return TrainingSet(
        views=(views + rng.normal(0, 0.3, views.shape)).astype(np.float32),
        view_start=np.arange(count + 1) * VIEWS,
        texts=(texts + rng.normal(0, 0.3, texts.shape)).astype(np.float32),
        text_start=np.arange(count + 1) * TEXTS,
        text_codes=np.arange(count * TEXTS),
        places=numbers,
        platforms=numbers % 3,
    )


def projected(head: Head, rows: FloatArray) -> FloatArray:
    """What a linear head gives before it is brought to unit length."""
    return np.asarray((rows - head.mean) / head.std @ head.weight2.T + head.bias2)


def pairs(data: TrainingSet) -> tuple[FloatArray, FloatArray]:
    """Every view beside every text of its item."""
    views = np.arange(len(data.views)).reshape(-1, VIEWS)
    texts = np.arange(len(data.texts)).reshape(-1, TEXTS)
    left = np.repeat(views, TEXTS, axis=1).ravel()
    right = np.tile(texts, (1, VIEWS)).ravel()
    return data.views[left], data.texts[right]


def test_directions_are_those_of_scikit_learn() -> None:
    from sklearn.cross_decomposition import CCA

    data = planted(200, 0)
    member = canonical_member(data, FREE)
    left, right = pairs(data)
    ours = projected(member.image, left), projected(member.text, right)
    theirs = CCA(SHARED, max_iter=5000, tol=1e-10).fit(left, right).transform(left, right)
    for k in range(SHARED):
        found = np.corrcoef(ours[0][:, k], ours[1][:, k])[0, 1]
        expected = np.corrcoef(theirs[0][:, k], theirs[1][:, k])[0, 1]
        assert found == pytest.approx(expected, abs=2e-4)
        assert abs(np.corrcoef(ours[0][:, k], theirs[0][:, k])[0, 1]) > 0.999


def test_directions_count_by_their_correlation() -> None:
    data = planted(200, 0)
    plain = canonical_member(data, FREE)
    scaled = canonical_member(data, FREE.model_copy(update={"power": 2.0}))
    ratio = np.linalg.norm(scaled.text.weight2, axis=1) / np.linalg.norm(plain.text.weight2, axis=1)
    left, right = pairs(data)
    for k in range(SHARED):
        a, b = projected(plain.image, left)[:, k], projected(plain.text, right)[:, k]
        assert ratio[k] == pytest.approx(np.corrcoef(a, b)[0, 1] ** 2, abs=1e-3)


def test_what_fits_is_found_among_unseen_items() -> None:
    member = canonical_member(planted(120, 0), CanonicalConfig(weight=1))
    unseen = planted(60, 1)
    expert = Expert(None, (member,))
    images = expert.encode_image(list(unseen.views.reshape(60, VIEWS, -1)))
    texts = expert.encode_text(unseen.texts[::TEXTS])
    assert (np.argmax(texts @ images.T, 1) == np.arange(60)).mean() > 0.8  # chance: 0.02


def test_fewer_items_than_features_and_narrow_sides_are_no_trouble() -> None:
    data = planted(5, 0)
    member = canonical_member(data, CanonicalConfig(weight=1, dimension=500))
    assert member.image.weight2.shape == (TEXT, IMAGE)  # the narrower side's width
    assert np.isfinite(Expert(None, (member,)).encode_text(data.texts)).all()


def test_every_expert_gets_it_with_the_weight_asked_for() -> None:
    config = load_config(overrides=[
        "threads=1", "head.hidden=8", "head.dimension=8", "train.members=2", "train.layout=both",
        "train.stage1.epochs=1", "train.fine_tune.epochs=1", "train.stage2.epochs=0",
        "train.canonical.weight=0.5",
    ])  # fmt: skip
    data = planted(60, 0)
    experts = train_layout(data, config, lambda _line: None)
    assert len(experts) == 4
    closed = canonical_member(data, config.train.canonical)
    for expert in experts:
        assert [member.weight for member in expert.members] == [1, 1, 1.0]  # half of two
        np.testing.assert_array_equal(expert.members[-1].image.weight2, closed.image.weight2)


def test_weights_shape_the_average_and_survive_a_file() -> None:
    data = planted(60, 0)
    one = canonical_member(data, CanonicalConfig(weight=1, dimension=3))
    two = canonical_member(planted(60, 5), CanonicalConfig(weight=1, dimension=5))
    both = Expert(None, (one, replace(two, weight=3.0)))
    views = list(data.views.reshape(60, VIEWS, -1))

    def similarity(expert: Expert) -> FloatArray:
        return np.asarray(expert.encode_text(data.texts) @ expert.encode_image(views).T)

    expected = (similarity(Expert(None, (one,))) + 3 * similarity(Expert(None, (two,)))) / 4
    np.testing.assert_allclose(similarity(both), expected, atol=1e-5)
    again = expert_from_arrays(None, both.arrays())
    assert [member.weight for member in again.members] == [1, 3]
    np.testing.assert_array_equal(similarity(again), similarity(both))
    spoilt = both.arrays() | {"1.weight": np.zeros(1, np.float32)}
    with pytest.raises(ExpertError, match="weight of member 1"):
        expert_from_arrays(None, spoilt)


def test_with_adapters_there_is_none() -> None:
    config = load_config(overrides=[
        "threads=1", "head.hidden=8", "head.dimension=8", "train.members=1", "adapters.text.rank=4",
        "train.layout=generalist", "train.stage1.epochs=1", "train.stage2.epochs=0",
    ])  # fmt: skip
    lines: list[str] = []
    [expert] = train_layout(planted(60, 0), config, lines.append)
    assert len(expert.members) == 1
    assert any("adapters" in line for line in lines)


def test_numbers_do_not_depend_on_threads() -> None:
    script = (
        "import hashlib; from test_canonical import *; "
        "m = canonical_member(planted(80, 0), CanonicalConfig(weight=1)); "
        "print(hashlib.sha256(m.image.weight2.tobytes() + m.text.weight2.tobytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "OPENBLAS_NUM_THREADS": count},
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
        ).stdout
        for count in ("1", "2")
    }
    assert len(found) == 1
