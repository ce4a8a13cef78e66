"""Experts in half precision: half the size, the same answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saywhere.bundle import load_experts, save_experts
from saywhere.embed import embed_queries
from saywhere.errors import ExpertError
from saywhere.expert import Expert
from saywhere.halving import halved
from saywhere.hardware import Runtime
from saywhere.portable import Form, export_folder
from saywhere.types import Query


def test_half_the_bytes_and_the_same_answers(small_experts: Path, tmp_path: Path) -> None:
    full = load_experts(small_experts)
    out = export_folder(small_experts, tmp_path / "half", form=Form(half=True, towers=False))
    half = load_experts(out)
    assert half.hash != full.hash
    assert half.hash == halved(full).hash == halved(half).hash
    assert half.calibrations == full.calibrations
    assert not list((out / "towers").glob("*"))
    for expert in full.experts:
        name = f"{expert.name}.safetensors"
        sizes = [(folder / name).stat().st_size for folder in (out, small_experts)]
        assert sizes[0] < 0.53 * sizes[1]
    queries = [Query("q1", "a red roof by a pond"), Query("q2", "a tower")]
    vectors = [embed_queries(one, queries, runtime=Runtime(1)).vectors for one in (full, half)]
    np.testing.assert_allclose(vectors[1], vectors[0], atol=5e-3)
    assert not np.array_equal(vectors[0], vectors[1])


def test_full_precision_stays_to_the_bit(small_experts: Path, tmp_path: Path) -> None:
    full = load_experts(small_experts)
    again = load_experts(save_experts(full, tmp_path / "again", {}))
    assert again.hash == full.hash
    for before, after in zip(full.experts, again.experts, strict=True):
        for name, array in before.arrays().items():
            np.testing.assert_array_equal(after.arrays()[name], array)
            assert after.arrays()[name].dtype == np.float32


def test_numbers_beyond_half_precision_are_refused(small_experts: Path) -> None:
    full = load_experts(small_experts)
    member = full.experts[0].members[0]
    bias = member.image.bias2 + np.float32(1e6)
    member = replace(member, image=replace(member.image, bias2=bias))
    broken = replace(full, experts=(Expert(full.experts[0].platform, (member,)),))
    with pytest.raises(ExpertError, match=r"image\.bias2 reaches 1e\+06.*without --half"):
        halved(broken)
