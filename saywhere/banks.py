"""Banks for an expert's hubness, drawn from what it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saywhere.batches import TrainingSet
from saywhere.expert import Expert
from saywhere.hubness import Hubness

TEMPERATURE = 0.1  # of the banks' softmax
_VIEWS = 2  # of an image: the first ones are fixed


def with_banks(expert: Expert, data: TrainingSet, weight: float, size: int, *, seed: int) -> Expert:
    """The expert, less what is near everything.

    Args:
        data: what it was trained on, over the features that its heads see.
        weight: of hubness; 0: the expert as it is.
        size: most images, and most texts, of the banks.
        seed: of the draw.
    """
    if not weight:
        return expert
    draw = np.random.default_rng([seed, 2])
    images = draw.permutation(len(data))[:size]
    texts = draw.permutation(len(data.texts))[:size]
    seen = [data.views[start : start + _VIEWS] for start in data.view_start[images]]
    bank = Hubness(
        images=expert.encode_image(seen),
        texts=expert.encode_text(data.texts[texts]),
        weight=weight,
        temperature=TEMPERATURE,
    )
    return replace(expert, hubness=bank)
