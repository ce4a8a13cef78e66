"""What the rows for better experts compute, on arrays small enough to check by hand."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from saywhere.config import load_config
from saywhere.heads import create_member
from saywhere.types import FloatArray

Import = Callable[[str], Any]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Import:
    """Imports a module of ``benchmarks``, as its scripts do."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    return importlib.import_module


def features(rows: int, width: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((rows, width), dtype=np.float32)


@pytest.mark.parametrize("hidden", [False, True])
def test_residual_experts_score_as_they_were_trained(part: Import, *, hidden: bool) -> None:
    residual, common = part("rows.residual"), part("rows.common")
    images, texts = features(9, 12, 0), features(5, 7, 1)
    platforms = np.arange(9) % 3
    head = load_config(overrides=["head.hidden=10", "head.dimension=8"]).head
    shape = residual.Shape(2, hidden=hidden, after=True)
    module = residual.ResidualModule(create_member(images, texts, head, 0), shape, 0).eval()
    plain = module.freeze(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(".up"):
                parameter.copy_(
                    torch.from_numpy(features(parameter.numel(), 1, 2)).view_as(parameter)
                )
        trained = [
            tensor.numpy()
            for tensor in module.folded(
                torch.from_numpy(images),
                torch.from_numpy(images[:, :7].copy()),
                torch.from_numpy(platforms),
            )
        ]
    question = common.Question(
        texts=("",) * 9, features=images[:, :7].copy(), images=list(images[:, None]),
        platforms=platforms, target=np.arange(9), places=np.arange(9),
    )  # fmt: skip
    asked = residual.judged(residual.experts_of([module]), question, "own", None)
    np.testing.assert_allclose(asked, trained[1] @ trained[0].T, atol=1e-5)
    changed = module.freeze(0)
    assert not np.allclose(plain.image.weight2, changed.image.weight2)
    assert np.allclose(plain.image.weight1, changed.image.weight1) != hidden


def test_residuals_after_the_trunk_leave_it_alone(part: Import) -> None:
    residual = part("rows.residual")
    images, texts = features(9, 12, 0), features(5, 7, 1)
    head = load_config(overrides=["head.hidden=10", "head.dimension=8"]).head
    for after in (True, False):
        trunk = create_member(images, texts, head, 0)
        module = residual.ResidualModule(trunk, residual.Shape(2, hidden=False, after=after), 0)
        free = {name for name, p in module.named_parameters() if p.requires_grad}
        assert ("image.trunk.first.weight" in free) is not after
        assert "image.second.up" in free


def test_reranking_lifts_the_cluster_that_the_best_hit_is_in(part: Import) -> None:
    rerank = part("rows.rerank")
    # Images 0, 1, 2 are alike and so are 3, 4, 5; the query likes 0 and 1, then 3 before 2.
    images = np.full((6, 6), 0.1) + 0.8 * np.kron(np.eye(2), np.ones((3, 3)))
    images += 0.1 * np.eye(6)
    queries = np.array([[0.9, 0.8, 0.50, 0.51, 0.2, 0.1]])
    bank = np.concatenate([queries, np.array([[0.1, 0.2, 0.3, 0.9, 0.8, 0.7]])])
    scores = rerank.Scores(queries, images, bank)
    for method, options in (
        (rerank.k_reciprocal, {"k": 2, "k2": 1, "weight": 0.3}),
        (rerank.query_expansion, {"k": 2, "alpha": 0.0, "weight": 0.5}),
        (rerank.diffusion, {"k": 2, "alpha": 0.5}),
    ):
        found = method(scores, **options)
        assert set(np.argsort(-found[0])[:3]) == {0, 1, 2}, method.__name__
    as_it_was = rerank.k_reciprocal(scores, k=2, k2=1, weight=1.0)
    np.testing.assert_array_equal(np.argsort(-as_it_was[0]), np.argsort(-queries[0]))


def test_a_student_that_agrees_has_nothing_to_learn(part: Import) -> None:
    distill = part("rows.distill")
    wanted = torch.from_numpy(features(4, 4, 3))
    assert float(distill.divergence(wanted, wanted)) == pytest.approx(0, abs=1e-6)
    other = wanted.clone()
    other[1, 2] += 1
    assert float(distill.divergence(other, wanted)) > 0.01


def test_the_ensemble_s_vectors_are_projected_to_what_keeps_their_products(part: Import) -> None:
    distill = part("rows.distill")
    low = features(40, 3, 4)
    low /= np.linalg.norm(low, axis=1, keepdims=True)
    basis = np.linalg.qr(features(8, 3, 5))[0]
    views, texts = (low @ basis.T)[:25], (low @ basis.T)[25:]
    teacher = distill.Teacher(None, views, texts, 1.0, 0.0)
    found = teacher.projected(3)
    np.testing.assert_allclose(found[1] @ found[0].T, texts @ views.T, atol=1e-5)
