"""Experts that answer together, with all that their answers depend on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from saywhere.classify import PlatformClassifier
from saywhere.config import Config, FusionMode
from saywhere.expert import Expert
from saywhere.fusion import UNKNOWN, Calibration, neutral
from saywhere.sharpness import Sharpness
from saywhere.types import PLATFORMS, FloatArray, IntArray, Platform


@dataclass(frozen=True, slots=True)
class ExpertSet:
    """Experts that answer together.

    Attributes:
        config: the resolved configuration they were trained with.
        experts: in the order of ``PLATFORMS``, a generalist last.
        calibrations: by fusion mode; a mode that was not fitted counts similarities as they are.
        image_classifier, word_classifier: platform from image features, from query features.
        towers: fingerprints of the ``image`` and the ``text`` tower.
        sharpness: of words asking for images, by fusion mode: what match probabilities need.
        provenance: seed, versions, git commit, data hash, timings.
        folder: where it was read from; None before it is saved.
    """

    config: Config
    experts: tuple[Expert, ...]
    calibrations: Mapping[str, Calibration]
    image_classifier: PlatformClassifier | None
    word_classifier: PlatformClassifier | None
    towers: Mapping[str, str]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    sharpness: Mapping[str, Sharpness] = field(default_factory=dict)

    @property
    def platforms(self) -> tuple[Platform | None, ...]:
        """The platform of each expert, None for a generalist."""
        return tuple(expert.platform for expert in self.experts)

    def in_domain(self, known: IntArray, features: Sequence[FloatArray]) -> IntArray:
        """``known``, but ``UNKNOWN`` where the platform's expert learned from other images.

        Without a generalist, whose such images would be, each stays its platform's.

        Args:
            known: (n,) index into ``PLATFORMS`` or ``UNKNOWN``.
            features: of the frozen tower, for each image (views, features) float32.
        """
        for expert in self.experts if None in self.platforms else ():
            if expert.platform is not None and expert.domain is not None:
                own = known == PLATFORMS.index(expert.platform)
                known = np.where(own & ~expert.domain.contains(features), UNKNOWN, known)
        return known

    def calibration(self, mode: FusionMode | None = None) -> Calibration:
        """The fitted calibration of ``mode`` (default: the configured one)."""
        wanted = mode or self.config.fusion.mode
        return self.calibrations.get(wanted, neutral(len(self.experts)))

    def with_mode(self, mode: FusionMode) -> ExpertSet:
        """The same experts, fused otherwise; their image vectors differ, and so does the hash."""
        fusion = self.config.fusion.model_copy(update={"mode": mode})
        return replace(self, config=self.config.model_copy(update={"fusion": fusion}))

    def with_views(self, count: int) -> ExpertSet:
        """The same experts, who see the first ``count`` of their test views; another hash, too."""
        views = self.config.views.model_copy(update={"test": self.config.views.test[:count]})
        return replace(self, config=self.config.model_copy(update={"views": views}))

    @property
    def hash(self) -> str:
        """Identifies the *image vectors*: heads, adapters, gates, views, towers; no calibration."""
        digest = hashlib.sha256()
        digest.update(json.dumps(dict(self.towers), sort_keys=True).encode())
        digest.update(self.config.views.model_dump_json(include={"test"}).encode())
        digest.update(f"{self.config.fusion.mode};{self.config.towers.image.size}".encode())
        for expert in self.experts:
            digest.update(expert.name.encode())
            for part in _packed(expert.arrays() | expert.adapter_arrays()):
                digest.update(part)
        if self.image_classifier is not None:
            for part in _packed(self.image_classifier.arrays()):
                digest.update(part)
        return digest.hexdigest()


def _packed(arrays: Mapping[str, FloatArray]) -> Iterator[bytes]:
    """Names, shapes and little-endian bytes, in an order of their own, for a digest."""
    for name in sorted(arrays):
        yield f"{name}{arrays[name].shape}".encode()
        yield arrays[name].astype("<f4").tobytes()
