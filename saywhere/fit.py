"""The whole of ``saywhere train``: prepare, train, fit the fusion, train again with every place.

Everything fitted (platform classifiers' use, calibration, prior weight) is fitted on places that
the experts of that moment have not seen: ``train.fit_places_ending_in``.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from saywhere.batches import TrainingSet
from saywhere.checkpoints import Training, WorkFolder
from saywhere.classify import fit_classifier
from saywhere.config import Config, FusionMode
from saywhere.embed import query_prior
from saywhere.errors import InputError
from saywhere.expert import Expert
from saywhere.expert_set import ExpertSet
from saywhere.features import Progress, image_features, text_features
from saywhere.fusion import (
    UNKNOWN,
    Calibration,
    FitProblem,
    fit_calibration,
    fused_scores,
    image_gates,
)
from saywhere.match import evenly_spaced, fit_matches
from saywhere.more import check_more, view_config, with_more
from saywhere.provenance import origin
from saywhere.sharpness import FEWEST, FOLDS, NONE_SHARE, Sharpness
from saywhere.towers import ImageTower, TextTower
from saywhere.train import train_layout, training_key
from saywhere.trainset import PreparedData, kept_for_fitting, prepare
from saywhere.tune import Material, tune_experts
from saywhere.types import Dataset, FloatArray, IntArray, Log

MODES: tuple[FusionMode, ...] = ("own", "mean", "weighted", "gated", "known")
# Inverse regularisation of the platform classifiers: the least log-loss on fitting places wins.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True, slots=True)
class _Strengths:
    """Chosen inverse regularisation of the image and the word classifier."""

    image: float = 1e-2
    words: float = 1e-2


@dataclass(frozen=True, slots=True)
class _Job:
    """What every part of one training shares."""

    data: PreparedData
    more: TrainingSet | None
    config: Config
    towers: tuple[ImageTower, TextTower]
    training: Training | None
    log: Log


def train_experts(
    dataset: Dataset,
    config: Config,
    towers: tuple[ImageTower, TextTower],
    log: Log,
    progress: Progress | None = None,
    work: WorkFolder | None = None,
    more: Dataset | None = None,
) -> ExpertSet:
    """Train experts on a captioned dataset and fit their fusion.

    Args:
        towers: the image and the text tower of ``config``.
        log: called with one line a step.
        work: where checkpoints are kept, and where a killed training is taken up; None: nowhere.
        more: captioned images that only the experts of their platforms see, see ``more``.

    Raises:
        InputError: nothing to train on, too few places to fit on, or a full disk.
        ImageError: an image that cannot be decoded.
    """
    started = time.perf_counter()
    log(f"features: {len(dataset.records)} images, {len(dataset.captions)} captions")
    data = prepare(dataset, config, towers, progress)
    fitting = fitting_items(data, config)
    learning = np.setdiff1d(np.arange(len(data.train)), fitting)
    _check_split(dataset, learning)
    extra = _prepare_more(more, config, towers, progress) if more else None
    prints = [tower.fingerprint for tower in towers] + ([extra.data_hash] if extra else [])
    key = training_key(data.train, data.place_ids, config, prints)
    training = work.training(key) if work else None
    job = _Job(data, extra.train if extra else None, config, towers, training, log)
    strengths = _choose_strengths(data, learning, fitting) if len(fitting) else _Strengths()
    experts = _assemble(job, "fit", learning, strengths)
    if len(fitting):
        places = len({data.place_ids[index] for index in fitting})
        log(f"fusion: fitted on {len(fitting)} images of {places} places kept apart")
        calibrations, sharpness = fit_fusion(experts, data, fitting, towers)
        if not sharpness:
            log("match probabilities: too few fitting places, so searches will give none")
        experts = replace(experts, calibrations=calibrations, sharpness=sharpness)
        if config.train.refit:
            log("refit: training again with every place")
            full = _assemble(job, "refit", np.arange(len(data.train)), strengths)
            experts = replace(full, calibrations=calibrations, sharpness=sharpness)
    elapsed = time.perf_counter() - started
    data_of = {**_described(dataset, data), "fitting_images": len(fitting)}
    made = {**origin(config), "data": data_of, "seconds": round(elapsed, 1)}
    if more and extra:
        made["more"] = _described(more, extra)
    resumed = job.training.resumed if job.training else 0
    return replace(experts, provenance={**made, "training": key, "resumed_members": resumed})


def _prepare_more(
    more: Dataset,
    config: Config,
    towers: tuple[ImageTower, TextTower],
    progress: Progress | None,
) -> PreparedData:
    check_more(config)
    return prepare(more, view_config(config), towers, progress)


def fitting_items(data: PreparedData, config: Config) -> IntArray:
    """Items of the places kept for fitting; empty where none are."""
    ending = config.train.fit_places_ending_in
    chosen = [i for i, place in enumerate(data.place_ids) if kept_for_fitting(place, ending)]
    return np.asarray(chosen, np.int64)


def fit_fusion(
    experts: ExpertSet,
    data: PreparedData,
    items: IntArray,
    towers: tuple[ImageTower, TextTower],
) -> tuple[dict[str, Calibration], dict[str, Sharpness]]:
    """Calibrations and sharpness of every mode, fitted on ``items``.

    Their platforms are taken for unknown, but for the mode that only knowing them makes. Sharpness
    is left out where there are too few texts or places.
    """
    features = [data.test_features[index] for index in items]
    subset = data.train.take(items)
    texts = subset.texts
    owner = _text_owner(subset)  # (q,)
    positives = owner[:, None] == np.arange(len(items))[None, :]
    same_place = subset.places[owner][:, None] == subset.places[None, :]
    similarity = np.stack([_similarity(expert, data, items, towers) for expert in experts.experts])
    scales = np.asarray([_mean_scale(expert) for expert in experts.experts], np.float32)
    rows = evenly_spaced(len(owner), len(items))
    enough = len(owner) >= FEWEST and len(np.unique(subset.places)) >= FOLDS
    calibrations: dict[str, Calibration] = {}
    sharpness: dict[str, Sharpness] = {}
    for mode in MODES:
        problem = FitProblem(
            similarity=similarity,
            gates=_gates(experts, mode, features, subset.platforms),
            log_prior=query_prior(experts, texts),
            positives=positives,
            ignored=same_place & ~positives,
        )
        calibrations[mode] = fit_calibration(problem, mode, scales)
        if enough:
            scores = fused_scores(problem, calibrations[mode])[rows]
            ladder = fit_matches(scores, owner[rows])
            sharpness[mode] = ladder.sharpness(np.arange(len(rows)), NONE_SHARE)
    return calibrations, sharpness


def _similarity(
    expert: Expert, data: PreparedData, items: IntArray, towers: tuple[ImageTower, TextTower]
) -> FloatArray:
    """(texts, images) float32 of ``items`` by one expert, its adapters at work."""
    images = [data.test_features[index] for index in items]
    texts = data.train.take(items).texts
    if expert.image_adapter is not None:
        fixed = len(images[0])
        requests = [data.requests[index] for index in items]
        seen = [replace(request, views=request.views[:fixed]) for request in requests]
        images = image_features(towers[0], seen, data.size, adapter=expert.image_adapter)
    if expert.text_adapter is not None:
        words = [data.texts[row] for row in data.train.rows(items)[1]]
        texts = text_features(towers[1], words, adapter=expert.text_adapter)
    return np.asarray(expert.encode_text(texts) @ expert.encode_image(images).T, np.float32)


def _gates(
    experts: ExpertSet, mode: FusionMode, features: list[FloatArray], platforms: IntArray
) -> FloatArray:
    known = np.full(len(features), UNKNOWN, np.int64)
    if mode == "known":
        known = experts.in_domain(platforms, features)
    log_probability = None
    if experts.image_classifier is not None:
        means = np.stack([views.mean(0) for views in features])
        log_probability = experts.image_classifier.log_probability(means)
    return image_gates(mode, experts.platforms, known, log_probability)


def _mean_scale(expert: Expert) -> float:
    return float(np.mean([member.logit_scale for member in expert.members]))


def _choose_strengths(data: PreparedData, learning: IntArray, fitting: IntArray) -> _Strengths:
    """Regularisation with the least log-loss on the fitting places, for images and for words."""
    (images, codes), (texts, text_codes) = _platform_samples(data, learning)
    (fit_images, fit_codes), (fit_texts, fit_text_codes) = _platform_samples(data, fitting)
    return _Strengths(
        image=_least_loss(images, codes, fit_images, fit_codes),
        words=_least_loss(texts, text_codes, fit_texts, fit_text_codes),
    )


def _least_loss(
    features: FloatArray, codes: IntArray, fit_features: FloatArray, fit_codes: IntArray
) -> float:
    def loss(strength: float) -> float:
        found = fit_classifier(features, codes, c=strength).log_probability(fit_features)
        return float(-found[np.arange(len(fit_codes)), fit_codes].mean())

    return min(_STRENGTHS, key=loss)


def _platform_samples(
    data: PreparedData, items: IntArray
) -> tuple[tuple[FloatArray, IntArray], tuple[FloatArray, IntArray]]:
    """((image features, codes), (text features, codes)) of some items."""
    subset = data.train.take(items)
    means = np.stack([data.test_features[index].mean(0) for index in items])
    return (means, subset.platforms), (subset.texts, subset.platforms[_text_owner(subset)])


def _text_owner(data: TrainingSet) -> IntArray:
    """(texts,) int64: the item each text belongs to."""
    return np.repeat(np.arange(len(data)), np.diff(data.text_start))


def _assemble(job: _Job, part: str, items: IntArray, strengths: _Strengths) -> ExpertSet:
    """Experts and platform classifiers from ``items``; nothing fitted yet.

    Args:
        part: of the training, by which its checkpoints are told from another part's.
    """
    find = partial(job.training.member, part) if job.training else None
    own = job.data.train.take(items)
    experts = train_layout(own, job.config, job.log, find)
    if job.more is not None:
        experts = with_more(experts, own, job.more, job.config, job.log, find)
    if job.config.adapters.on:
        material = Material(job.data, items, job.towers)
        experts = tune_experts(experts, material, job.config, job.log, find)
    (images, codes), (texts, text_codes) = _platform_samples(job.data, items)
    return ExpertSet(
        config=job.config,
        experts=experts,
        calibrations={},
        image_classifier=fit_classifier(images, codes, c=strengths.image),
        word_classifier=fit_classifier(texts, text_codes, c=strengths.words),
        towers={"image": job.towers[0].fingerprint, "text": job.towers[1].fingerprint},
    )


def _check_split(dataset: Dataset, learning: IntArray) -> None:
    if len(learning) < 4:
        raise InputError(
            f"{dataset.source}: {len(learning)} images are left to train on after the fitting "
            "places; add images, or set train.fit_places_ending_in to another digit"
        )


def _described(dataset: Dataset, data: PreparedData) -> dict[str, Any]:
    return {
        "source": dataset.source.name,
        "hash": data.data_hash,
        "images": len(dataset.records),
        "captions": len(dataset.captions),
        "origins": dict(Counter(caption.origin for caption in dataset.captions)),
    }
