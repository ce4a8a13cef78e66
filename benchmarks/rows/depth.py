"""Text features from earlier layers of MiniLM, and a layer chosen by what the query looks like.

Word vectors stay what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from rows.base import name_of
from rows.common import Material, Question, Row, Setting, parameters, similarity
from saywhere.expert import Expert
from saywhere.text.orientation import has_orientation
from saywhere.towers import TextTower
from saywhere.towers.weights import load_text_module
from saywhere.types import BoolArray, FloatArray

CHOSEN = 3  # by the prototype, on RSICD
LAYERS = (CHOSEN, 2, 4, 5)
_MOST_WORDS = 25  # of an operator's query, as in text.variants


class Depths:
    """Mean-pooled hidden states of the text tower's layers, each text once."""

    def __init__(self, material: Material) -> None:
        self._tower: TextTower = material.towers[1]
        self._module, _, _ = load_text_module(material.config.towers.text)
        self._known: dict[str, FloatArray] = {}
        torch.set_num_threads(1)

    def features(self, texts: Sequence[str], layer: int) -> FloatArray:
        """(n, dimension) float32, unit length."""
        missing = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(missing), 64):
            part = missing[start : start + 64]
            ids, mask = (torch.from_numpy(array) for array in self._tower.tokenize(part))
            with torch.inference_mode():
                found = self._module(input_ids=ids, attention_mask=mask, output_hidden_states=True)
            weights = mask[..., None] / mask.sum(1)[:, None, None]
            pooled = torch.stack([(h * weights).sum(1) for h in found.hidden_states], 1)
            unit = torch.nn.functional.normalize(pooled, dim=-1).numpy()
            self._known |= dict(zip(part, unit, strict=True))
        return np.stack([self._known[text][layer] for text in texts])

    def of(self, texts: Sequence[str], layer: int, last: FloatArray) -> FloatArray:
        """``last`` with the sentences of that layer in the place of the last one's."""
        own = self.features(texts, layer)
        return np.concatenate([own, last[:, own.shape[1] :]], 1)

    def asked(self, question: Question, layer: int) -> Question:
        """The question with features of that layer."""
        return replace(question, features=self.of(question.texts, layer, question.features))


def rows(setting: Setting) -> list[Row]:
    """Each layer alone; ``CHOSEN`` also beside the last one, and by rule."""
    depths = Depths(setting.material)
    return [
        row
        for layer in LAYERS
        for row in setting.kept(f"text layer {layer}", partial(_make, setting, depths, layer))
    ]


def _make(setting: Setting, depths: Depths, layer: int) -> list[Row]:
    material = setting.material
    alone = Row(f"text layer {layer} instead of 6", name_of(1))
    both = Row(f"layers {layer} and 6 averaged", name_of(2))
    rule = Row(f"layer {layer} for long queries or with positions, else 6", name_of(1))
    made = [alone, both, rule] if layer == CHOSEN else [alone]
    for seed in setting.seeds:
        last, seconds = setting.pool.ensemble(material.config, material.data.train, seed, 1)
        expert, own = _train(setting, depths, layer, seed)
        for row in made:
            row.heads = parameters([expert] if row is alone else [expert, last])
            row.seconds += (own if row is alone else own + seconds) / len(setting.seeds)
        for kind, question in material.questions.items():
            scores = similarity(expert, depths.asked(question, layer))
            others = similarity(last, question)
            alone.add(kind, question.ranks(scores))
            both.add(kind, question.ranks((scores + others) / 2))
            rule.add(kind, question.ranks(np.where(_captionlike(question), scores, others)))
    return made


def _captionlike(question: Question) -> BoolArray:
    """(q, 1): longer than operators type, or naming positions."""
    found = [len(t.split()) > _MOST_WORDS or has_orientation(t) for t in question.texts]
    return np.asarray(found)[:, None]


def _train(setting: Setting, depths: Depths, layer: int, seed: int) -> tuple[Expert, float]:
    data = setting.material.data
    train = replace(data.train, texts=depths.of(data.texts, layer, data.train.texts))
    return setting.pool.ensemble(setting.material.config, train, seed, 1)
