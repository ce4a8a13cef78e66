"""What changes scores and no heads' training: the prior from words, and hubness."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from rows.base import name_of
from rows.common import Row, Setting, parameters, say, similarity, value
from saywhere.banks import with_banks
from saywhere.batches import TrainingSet
from saywhere.data import read
from saywhere.embed import fold_image_features, fold_text_features
from saywhere.expert import Expert
from saywhere.expert_set import ExpertSet
from saywhere.fit import fit_fusion, fitting_items, train_experts
from saywhere.fusion import UNKNOWN
from saywhere.types import IntArray

MEMBERS = 3
PLAIN = "three experts, gated, uniform prior"
WEIGHTS = (0.25, 0.5, 1.0)


def hubness_rows(setting: Setting) -> list[Row]:
    """Three generalists averaged, less what is near every training caption."""
    return setting.kept("hubness", lambda: [_hubness_row(setting, weight) for weight in WEIGHTS])


def _hubness_row(setting: Setting, weight: float) -> Row:
    material, row = setting.material, Row(f"hubness, weight {weight:g}", name_of(MEMBERS))
    say(f"{row.name}, one member: {_held_out(setting, weight):.1f} on training places, "
        f"{_held_out(setting, 0.0):.1f} without")  # fmt: skip
    for seed in setting.seeds:
        data = material.data.train
        expert, seconds = setting.pool.ensemble(material.config, data, seed, MEMBERS)
        row.heads, row.seconds = parameters([expert]), row.seconds + seconds / len(setting.seeds)
        expert = _corrected(setting, expert, data, (seed, weight))
        for kind, question in material.questions.items():
            row.add(kind, question.ranks(similarity(expert, question)))
    return row


def _held_out(setting: Setting, weight: float) -> float:
    """Mean of both kinds on training places, five-fold, by one member a fold."""
    answers: dict[str, list[IntArray]] = {}
    for fold, (items, asked) in enumerate(setting.material.folds()):
        data = setting.material.data.train.take(items)
        expert, _ = setting.pool.ensemble(setting.material.config, data, 1000 + fold, 1)
        expert = _corrected(setting, expert, data, (fold, weight))
        for kind, question in asked.items():
            answers.setdefault(kind, []).append(question.ranks(similarity(expert, question)))
    return value({kind: [np.concatenate(found)] for kind, found in answers.items()})


def _corrected(
    setting: Setting, expert: Expert, data: TrainingSet, by: tuple[int, float]
) -> Expert:
    """The expert less hubness, ``by`` the seed of the banks and the weight."""
    seed, weight = by
    return with_banks(expert, data, weight, setting.material.config.train.bank, seed=seed)


def prior_rows(setting: Setting) -> list[Row]:
    """Three experts of one member, averaged, and gated without and with the prior from words."""
    return setting.kept("prior", lambda: _prior_rows(setting))


def _prior_rows(setting: Setting) -> list[Row]:
    average = Row("three experts, mean", PLAIN)
    plain = Row(PLAIN)
    words = Row("three experts, gated, prior from words", PLAIN)
    for seed in setting.seeds:
        started = time.process_time()
        told = _experts(setting, seed)
        seconds = time.process_time() - started
        for row, experts in (
            (average, told.with_mode("mean")),
            (plain, _without_words(setting, told)),
            (words, told),
        ):
            row.heads = parameters(experts.experts)
            row.seconds += seconds / len(setting.seeds)
            for kind, question in setting.material.questions.items():
                unknown = np.full(len(question.images), UNKNOWN)
                images = fold_image_features(experts, {"": question.images}, unknown)
                queries = fold_text_features(experts, {"": question.features})
                row.add(kind, question.ranks(queries @ images.T))
    say(f"words tell the platform of {_accuracy(setting, told)}")
    return [plain, words, average]


def _experts(setting: Setting, seed: int) -> ExpertSet:
    """Gated by the prior from words; as in the ladder not trained again with every place."""
    config = setting.material.config
    train = config.train.model_copy(update={"layout": "experts", "members": 1, "refit": False})
    fusion = config.fusion.model_copy(update={"mode": "gated", "prior": "words"})
    config = config.model_copy(update={"seed": seed, "train": train, "fusion": fusion})
    dataset = read(setting.data / "geotext-mini/train.json")
    return train_experts(dataset, config, setting.material.towers, lambda _line: None)


def _without_words(setting: Setting, experts: ExpertSet) -> ExpertSet:
    """The same experts, their fusion fitted under a uniform prior on the same places."""
    fusion = experts.config.fusion.model_copy(update={"prior": "uniform"})
    other = replace(experts, config=experts.config.model_copy(update={"fusion": fusion}))
    data = setting.material.data
    items = fitting_items(data, other.config)
    calibrations, _ = fit_fusion(other, data, items, setting.material.towers)
    return replace(other, calibrations=calibrations)


def _accuracy(setting: Setting, experts: ExpertSet) -> str:
    shares = []
    for kind, question in setting.material.questions.items():
        assert experts.word_classifier is not None
        found = experts.word_classifier.log_probability(question.features).argmax(1)
        right = np.mean(found == question.platforms[question.target])
        shares.append(f"{100 * right:.0f} % of {kind}")
    return ", ".join(shares)
