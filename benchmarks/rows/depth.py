"""Text features from earlier layers of MiniLM, and a layer chosen by what the query looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from rows.base import name_of
from rows.common import KINDS, Material, Question, Row, Setting, parameters, say, similarity
from saywhere.ablation.compare import query_values
from saywhere.expert import Expert
from saywhere.text.orientation import has_orientation
from saywhere.towers import TextTower
from saywhere.towers.weights import load_text_module
from saywhere.types import BoolArray, FloatArray

LAYERS = (2, 3, 4, 5)
CHOOSING = 1  # folds by which a layer is chosen: each is another four trainings
_MOST_WORDS = 25  # of an operator's query, as in text.variants


class Depths:
    """Mean-pooled hidden states of the text tower's layers, each text once."""

    def __init__(self, material: Material) -> None:
        self._tower: TextTower = material.towers[1]
        self._module, _, _ = load_text_module(material.config.towers.text)
        self._known: dict[str, FloatArray] = {}

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

    def asked(self, question: Question, layer: int) -> Question:
        """The question with features of that layer."""
        return replace(question, features=self.features(question.texts, layer))


def rows(setting: Setting) -> list[Row]:
    """Each layer alone, then the last one with the one that training captions choose."""
    return setting.kept("text depth", lambda: _make(setting))


def _make(setting: Setting) -> list[Row]:
    material, torch_threads = setting.material, torch.get_num_threads()
    torch.set_num_threads(1)
    depths = Depths(material)
    made = {layer: Row(f"text layer {layer} instead of 6", name_of(1)) for layer in LAYERS}
    chosen = _choose(setting, depths)
    both = Row(f"layers {chosen} and 6 averaged", name_of(2))
    rule = Row(f"layer {chosen} for long queries or with positions, else 6", name_of(1))
    for seed in setting.seeds:
        last, seconds = setting.pool.ensemble(material.config, material.data.train, seed, 1)
        for layer, row in made.items():
            expert, own = _train(setting, depths, layer, seed)
            row.heads, row.seconds = parameters([expert]), row.seconds + own / len(setting.seeds)
            for kind, question in material.questions.items():
                scores = similarity(expert, depths.asked(question, layer))
                row.add(kind, question.ranks(scores))
                if layer != chosen:
                    continue
                others = similarity(last, question)
                both.add(kind, question.ranks((scores + others) / 2))
                rule.add(kind, question.ranks(np.where(_captionlike(question), scores, others)))
                for joined in (both, rule):
                    joined.heads = 2 * row.heads
                    joined.seconds += (own + seconds) / len(setting.seeds) / len(KINDS)
        say(f"text depth, seed {seed}")
    torch.set_num_threads(torch_threads)
    return [*made.values(), both, rule]


def _captionlike(question: Question) -> BoolArray:
    """(q, 1): longer than operators type, or naming positions."""
    found = [len(t.split()) > _MOST_WORDS or has_orientation(t) for t in question.texts]
    return np.asarray(found)[:, None]


def _train(setting: Setting, depths: Depths, layer: int, seed: int) -> tuple[Expert, float]:
    data = setting.material.data
    train = replace(data.train, texts=depths.features(data.texts, layer))
    return setting.pool.ensemble(setting.material.config, train, seed, 1)


def _choose(setting: Setting, depths: Depths) -> int:
    """The layer that answers held-out training captions best."""
    material, found = setting.material, dict[int, float]()
    for layer in LAYERS:
        texts = depths.features(material.data.texts, layer)
        answers = []
        for fold, (items, asked) in enumerate(material.folds()[:CHOOSING]):
            data = replace(material.data.train, texts=texts).take(items)
            expert, _ = setting.pool.ensemble(material.config, data, 1000 + fold, 1)
            question = depths.asked(asked["captions"], layer)
            answers.append(question.ranks(similarity(expert, question)))
        found[layer] = float(query_values([np.concatenate(answers)]).mean())
    say(f"text layers on held-out training captions: {found}")
    return max(found, key=lambda layer: found[layer])
