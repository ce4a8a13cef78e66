"""``kill -9`` over train and index: the same commands end with the same experts and index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kill import killed, leftovers, uninterrupted

pytestmark = pytest.mark.slow


def test_killed_again_and_again_the_line_ends_the_same(
    small_world: Path, small_experts: Path, tmp_path: Path
) -> None:
    towers = small_experts / "towers"
    expected, seconds = uninterrupted(small_world, tmp_path / "whole", towers)
    assert leftovers(tmp_path / "whole") == []
    # Once in the midst of training, then while it is being taken up: a third of that is imports.
    moments = [0.6 * seconds, *np.random.default_rng(5).uniform(0.2, 0.45, 2) * seconds]
    found = killed(small_world, tmp_path / "killed", towers, moments)
    assert found.outcome == expected, found.stages
    assert len(found.stages) >= 2, found.stages  # a fast run may end before its last moment
    assert found.resumed, found.stages
    assert leftovers(tmp_path / "killed") == []
