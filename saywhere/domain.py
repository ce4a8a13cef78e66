"""Whether an image is of the kind that an expert learned from. Arrays only.

An expert trained on one dataset's satellite images errs on another's. A logistic regression on
image features tells the two kinds apart, so that an image of a known platform is its expert's only
where it is of the expert's kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saywhere.errors import ExpertError
from saywhere.types import BoolArray, FloatArray

_NAMES = ("domain.mean", "domain.std", "domain.weight", "domain.bias")
_VIEWS = 2  # of an image, the first: those that both kinds of training images have
_C = 0.01  # scikit-learn's inverse strength; 0.001 to 0.1 tell them apart equally well
_MOST_STEPS = 2000


@dataclass(frozen=True, slots=True)
class Domain:
    """Logistic regression of one kind of image against another.

    Attributes:
        mean, std: (features,) float32 of the training features.
        weight, bias: (features,), (1,) float32; positive logits are inside.

    Raises:
        ExpertError: shapes that do not fit each other.
    """

    mean: FloatArray
    std: FloatArray
    weight: FloatArray
    bias: FloatArray

    def __post_init__(self) -> None:
        shapes = (self.mean.shape, self.std.shape, self.weight.shape, self.bias.shape)
        if len(shapes[0]) != 1 or shapes[1:] != (shapes[0], shapes[0], (1,)):
            raise ExpertError(f"expert file: arrays of its domain {shapes}; train it anew")

    def contains(self, features: Sequence[FloatArray]) -> BoolArray:
        """(n,) bool, of the features of each image's test views, (views, features) float32."""
        if not len(features):
            return np.zeros(0, np.bool_)
        inside: BoolArray = ((_means(features) - self.mean) / self.std) @ self.weight > -self.bias
        return inside

    def arrays(self) -> dict[str, FloatArray]:
        """Under flat names, for a safetensors file."""
        return dict(zip(_NAMES, (self.mean, self.std, self.weight, self.bias), strict=True))


def domain_from_arrays(arrays: Mapping[str, FloatArray]) -> Domain | None:
    """The inverse of ``Domain.arrays``; None where no array of it is there.

    Raises:
        ExpertError: some of them only, or what ``Domain`` refuses.
    """
    if not any(name in arrays for name in _NAMES):
        return None
    try:
        return Domain(*(arrays[name] for name in _NAMES))
    except KeyError as error:
        raise ExpertError(f"expert file: array {error} is missing; train it anew") from None


def fit_domain(inside: Sequence[FloatArray], outside: Sequence[FloatArray]) -> Domain:
    """Fit on the features of images of both kinds, of each (views, features); both count alike.

    Args:
        inside, outside: at least one image each.
    """
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([_means(inside), _means(outside)])
    labels = np.repeat([1, 0], [len(inside), len(outside)])
    mean, std = features.mean(0), np.maximum(features.std(0), 1e-4)
    model = LogisticRegression(C=_C, class_weight="balanced", max_iter=_MOST_STEPS)
    model.fit((features - mean) / std, labels)
    weight, bias = model.coef_[0].astype(np.float32), model.intercept_.astype(np.float32)
    return Domain(mean.astype(np.float32), std.astype(np.float32), weight, bias)


def _means(features: Sequence[FloatArray]) -> FloatArray:
    return np.stack([views[:_VIEWS].mean(0) for views in features])
