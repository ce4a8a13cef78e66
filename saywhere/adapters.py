"""Adapters of an expert: low-rank updates of a tower's weights, as arrays.

At a *site*, a linear layer or 1 × 1 convolution called ``<module>``, the tower computes
``W x + B (A x)`` instead of ``W x`` (LoRA, Hu et al. 2022). The scale alpha / rank is part of B, so
nothing but the two arrays is needed to run an adapter. Many adapters share one tower: its exported
graph takes them as inputs (see ``towers.runtime``), so switching costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from saywhere.errors import ExpertError
from saywhere.files import hash_arrays
from saywhere.types import FloatArray

DOWN, UP = "A", "B"


@dataclass(frozen=True)
class Adapter:
    """The update of one tower.

    Attributes:
        arrays: ``<module>.A`` (rank, inputs) and ``<module>.B`` (outputs, rank) float32 for every
            site; convolutions' have two more axes of length 1.

    Raises:
        ExpertError: a site with one array, or two that don't belong together.
    """

    arrays: Mapping[str, FloatArray]

    def __post_init__(self) -> None:
        for name in self.arrays:
            site, _, side = name.rpartition(".")
            down = self.arrays.get(f"{site}.{DOWN}")
            up = self.arrays.get(f"{site}.{UP}")
            if side not in (DOWN, UP) or down is None or up is None:
                raise ExpertError(f"adapter: {name} has no partner; train it anew")
            fits = up.ndim == down.ndim >= 2 and up.shape[1] == down.shape[0] > 0
            if not fits or {up.dtype, down.dtype} != {np.dtype(np.float32)}:
                raise ExpertError(
                    f"adapter: {site} has A {down.dtype} {down.shape} and B {up.dtype} {up.shape}; "
                    "train it anew"
                )

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the arrays: features under this adapter are cached by it."""
        return hash_arrays(self.arrays)

    @property
    def parameters(self) -> int:
        """How many numbers were trained."""
        return sum(array.size for array in self.arrays.values())

    @property
    def sites(self) -> tuple[str, ...]:
        """Modules that are updated, sorted."""
        return tuple(sorted({name.rpartition(".")[0] for name in self.arrays}))


def check_sites(adapter: Adapter, sites: Mapping[str, tuple[int, ...]], tower: str) -> None:
    """Refuse an adapter of other sites or widths than a tower offers.

    Args:
        sites: shape of each array, the rank's axis as 0.
        tower: its name, for the error.

    Raises:
        ExpertError: sites missing or unexpected, or of other widths.
    """
    missing, unexpected = sites.keys() - adapter.arrays.keys(), adapter.arrays.keys() - sites.keys()
    wrong = [
        name
        for name in sites.keys() & adapter.arrays.keys()
        if any(
            expected not in (0, found)
            for expected, found in zip(sites[name], adapter.arrays[name].shape, strict=False)
        )
        or len(sites[name]) != adapter.arrays[name].ndim
    ]
    if missing or unexpected or wrong:
        raise ExpertError(
            f"adapter does not fit the tower {tower!r}: missing {sorted(missing)[:3]}, unexpected "
            f"{sorted(unexpected)[:3]}, other shape {sorted(wrong)[:3]}; use the experts' own "
            "towers folder, or train anew"
        )
