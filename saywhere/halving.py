"""Experts in half precision: half the bytes, the same answers but for rounding.

Their numbers are rounded once, here, and stay what a float16 can hold: files keep such arrays in
two bytes a number (``bundle``), and whoever loads them computes in float32 as always.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from saywhere.classify import PlatformClassifier, classifier_from_arrays
from saywhere.errors import ExpertError
from saywhere.expert import expert_from_arrays
from saywhere.expert_set import ExpertSet
from saywhere.types import FloatArray


def halved(experts: ExpertSet) -> ExpertSet:
    """``experts`` with every trained number rounded to half precision; another hash.

    Raises:
        ExpertError: a number that half precision cannot hold (beyond 65,504).
    """
    return replace(
        experts,
        experts=tuple(
            expert_from_arrays(
                expert.platform,
                _rounded(expert.name, expert.arrays()),
                _rounded(expert.name, expert.adapter_arrays()),
            )
            for expert in experts.experts
        ),
        image_classifier=_classifier("image classifier", experts.image_classifier),
        word_classifier=_classifier("word classifier", experts.word_classifier),
    )


def _classifier(name: str, classifier: PlatformClassifier | None) -> PlatformClassifier | None:
    if classifier is None:
        return None
    return classifier_from_arrays(_rounded(name, classifier.arrays()))


def _rounded(name: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    out = {}
    for key, array in arrays.items():
        with np.errstate(over="ignore"):
            out[key] = array.astype(np.float16).astype(np.float32)
        if not np.isfinite(out[key]).all():
            raise ExpertError(
                f"{name}: {key} reaches {np.abs(array).max():.3g}, beyond half precision; "
                "export without --half"
            )
    return out
