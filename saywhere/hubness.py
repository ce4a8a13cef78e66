"""Hubness: images that are near every text, and captions that are near every image. Arrays only.

In a joint space some vectors are among the nearest neighbours of far too many others (Radovanović
et al. 2010); ranked by bare similarity they crowd out the right answers. What a vector scores on
average against a bank of training vectors of the other side tells how much of a hub it is, and is
taken off (inverted softmax, Smith et al. 2017; querybank normalisation, Bogolin et al. 2022):

    score(t, v) = <t, v> - w * (h_T(v) + h_V(t))
    h_B(x) = tau * log mean_{b in B} exp(<b, x> / tau)

It stays an inner product: images get the coordinates [h_T(v), 1], texts [-w, -w * h_V(t)]. For one
query h_V(t) moves all scores alike; it counts where captions are ranked for an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from saywhere.errors import ExpertError
from saywhere.types import FloatArray

COORDINATES = 2
_NAMES = ("hubness.images", "hubness.texts", "hubness.settings")
_BLOCK = 4096  # vectors scored against the bank at once: 16 MB for a bank of 1,000


@dataclass(frozen=True, slots=True)
class Hubness:
    """Two banks of training vectors.

    Attributes:
        images, texts: (m, d) float32, unit length.
        weight: w, 0 or more.
        temperature: tau, above 0.

    Raises:
        ExpertError: banks or numbers that no expert can have.
    """

    images: FloatArray
    texts: FloatArray
    weight: float
    temperature: float

    def __post_init__(self) -> None:
        shapes = (self.images.shape, self.texts.shape)
        fits = all(len(shape) == 2 and shape[0] for shape in shapes)
        numbers = np.isfinite([self.weight, self.temperature]).all()
        if not fits or shapes[0][1] != shapes[1][1] or not numbers:
            raise ExpertError(f"expert file: hubness banks {shapes} do not fit; train it anew")
        if self.weight < 0 or self.temperature <= 0:
            raise ExpertError(
                f"expert file: hubness weight {self.weight}, temperature {self.temperature} are "
                "out of range; train it anew"
            )

    def of_images(self, vectors: FloatArray) -> FloatArray:
        """(n, 2) float32: the coordinates that images get."""
        hub = self._hub(vectors, self.texts)
        return np.stack([hub, np.ones_like(hub)], 1)

    def of_texts(self, vectors: FloatArray) -> FloatArray:
        """(n, 2) float32: the coordinates that texts get."""
        hub = self._hub(vectors, self.images)
        return -np.float32(self.weight) * np.stack([np.ones_like(hub), hub], 1)

    def arrays(self) -> dict[str, FloatArray]:
        """Under flat names, for a safetensors file."""
        settings = np.asarray([self.weight, self.temperature], np.float32)
        return dict(zip(_NAMES, (self.images, self.texts, settings), strict=True))

    def _hub(self, vectors: FloatArray, bank: FloatArray) -> FloatArray:
        out = np.empty(len(vectors), np.float32)
        for start in range(0, len(vectors), _BLOCK):
            scaled = vectors[start : start + _BLOCK] @ bank.T / self.temperature  # (n, m)
            top = scaled.max(1)
            total = np.log(np.exp(scaled - top[:, None]).mean(1))
            out[start : start + _BLOCK] = self.temperature * (top + total)
        return out


def hubness_from_arrays(arrays: Mapping[str, FloatArray]) -> Hubness | None:
    """The inverse of ``Hubness.arrays``; None where no array of it is there.

    Raises:
        ExpertError: some of them only, or what ``Hubness`` refuses.
    """
    if not any(name in arrays for name in _NAMES):
        return None
    try:
        images, texts, settings = (arrays[name] for name in _NAMES)
    except KeyError as error:
        raise ExpertError(f"expert file: array {error} is missing; train it anew") from None
    if settings.shape != (2,):
        raise ExpertError(f"expert file: hubness settings {settings.shape}; train it anew")
    return Hubness(images, texts, float(settings[0]), float(settings[1]))
