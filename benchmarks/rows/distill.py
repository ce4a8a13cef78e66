"""An ensemble of generalists folded into fewer heads, or into experts by platform.

A student matches the ensemble's similarities of a batch: Kullback-Leibler divergence of the softmax
over images of each text and over texts of each image (Hinton et al. 2015; between towers as in
TinyCLIP, Wu et al. 2023). Or it regresses on the ensemble's vectors, projected orthogonally to as
many dimensions as it has (PCA of the training vectors: what keeps most of their inner products).
Only trained members teach; the member in closed form stands beside student and ensemble alike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from rows.base import name_of
from rows.common import Row, Setting, closed, parameters, similarity
from rows.residual import JUDGES, ResidualModule, Shape, answer, closed_part, experts_of
from rows.steps import Loss, both_stages, run_stages
from saywhere.batches import Batch, TrainingSet
from saywhere.config import HeadConfig
from saywhere.expert import Expert
from saywhere.heads import MemberModule, create_member
from saywhere.types import FloatArray

TEACHERS = 6
MANY = 12
RESIDUALS = Shape(8, hidden=False, after=False)


@dataclass(frozen=True, slots=True)
class Teacher:
    """An ensemble, run once over the training set.

    Attributes:
        views, texts: (views, d), (texts, d) float32 of the training set, unit length.
        scale: mean of the members' logit scales.
        seconds: processor time of the members' training.
    """

    expert: Expert
    views: FloatArray
    texts: FloatArray
    scale: float
    seconds: float

    def projected(self, dimension: int) -> tuple[FloatArray, FloatArray]:
        """Views and texts in their first principal directions, unit length again."""
        joint = np.concatenate([self.views, self.texts])
        _, vectors = np.linalg.eigh(joint.T @ joint)
        basis = vectors[:, ::-1][:, :dimension]
        found = []
        for side in (self.views, self.texts):
            low = side @ basis
            found.append(np.asarray(low / np.linalg.norm(low, axis=1, keepdims=True), np.float32))
        return found[0], found[1]


def rows(setting: Setting) -> list[Row]:
    """One member's and three members' size, by similarity and by vector; then experts."""
    head = setting.material.config.head
    wide = head.model_copy(update={"hidden": 3 * head.hidden, "dimension": 3 * head.dimension})
    teach = cache(partial(_teach, setting))
    students = [
        ("one member's size", TEACHERS, head, 1, False),
        ("one member's size", MANY, head, 1, False),
        ("one member's size", TEACHERS, head, 1, True),
        ("one, three times as wide", TEACHERS, wide, 1, False),
        ("one, three times as wide", MANY, wide, 1, False),
        ("three members", TEACHERS, head, 3, False),
    ]
    made = []
    for size, count, *student in students:
        how = "vectors" if student[-1] else "similarities"
        name = f"{size}, distilled from {count}, {how}"
        of = partial(teach, count)
        made += setting.kept(name, partial(_student_row, setting, of, name, tuple(student)))
    name = "experts from an ensemble"
    return made + setting.kept(name, lambda: _expert_rows(setting, partial(teach, TEACHERS)))


def _teach(setting: Setting, count: int, seed: int) -> Teacher:
    """The ensemble of one seed."""
    data = setting.material.data.train
    members, seconds = setting.pool.members(setting.material.config, data, seed, count)
    expert = Expert(None, members)
    scale = float(np.mean([member.logit_scale for member in expert.members]))
    views = expert.encode_image(list(data.views[:, None]))
    return Teacher(expert, views, expert.encode_text(data.texts), scale, seconds)


def _student_row(
    setting: Setting,
    teach: Callable[[int], Teacher],
    name: str,
    student_of: tuple[HeadConfig, int, bool],
) -> list[Row]:
    head, members, vectors = student_of
    against = name_of(3 if head.hidden * members > setting.material.config.head.hidden else 1)
    row = Row(name, against)
    data = setting.material.data.train
    for seed in setting.seeds:
        teacher = teach(seed)
        seconds, frozen = teacher.seconds, []
        for k in range(members):
            number = 100 * seed + 50 + k
            student = create_member(data.views, data.texts, head, number)
            loss = _regression if vectors else _matching
            seconds += run_stages(
                student,
                loss(student, teacher, data),
                data,
                both_stages(setting.material.config),
                np.random.default_rng([number, 4]),
            )
            frozen.append(student.freeze())
        (expert,), more = closed([Expert(None, tuple(frozen))], setting.material.config, data)
        row.heads = parameters([expert])
        row.seconds += (seconds + more) / len(setting.seeds)
        for kind, question in setting.material.questions.items():
            row.add(kind, question.ranks(similarity(expert, question)))
    return [row]


def _matching(student: MemberModule, teacher: Teacher, data: TrainingSet) -> Loss:
    views, texts = torch.from_numpy(data.views), torch.from_numpy(data.texts)
    wanted = _wanted(teacher)

    def loss(batch: Batch) -> Tensor:
        image, text = student.image(views[batch.views]), student.text(texts[batch.texts])
        return divergence(student.scale * text @ image.T, wanted(batch))

    return loss


def _regression(student: MemberModule, teacher: Teacher, data: TrainingSet) -> Loss:
    views, texts = torch.from_numpy(data.views), torch.from_numpy(data.texts)
    projected = teacher.projected(student.image.second.out_features)
    image_goal, text_goal = (torch.from_numpy(side) for side in projected)

    def loss(batch: Batch) -> Tensor:
        image, text = student.image(views[batch.views]), student.text(texts[batch.texts])
        near = (image * image_goal[batch.views]).sum(1) + (text * text_goal[batch.texts]).sum(1)
        return 2 - near.mean()

    return loss


def _wanted(teacher: Teacher) -> Loss:
    """The ensemble's logits of a batch, (n texts, n images)."""
    views, texts = torch.from_numpy(teacher.views), torch.from_numpy(teacher.texts)
    return lambda batch: teacher.scale * texts[batch.texts] @ views[batch.views].T


def divergence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Mean KL divergence of (n texts, n images) logits from those wanted, both ways."""
    parts = [
        kl_div(log_softmax(own, 1), log_softmax(goal, 1), reduction="batchmean", log_target=True)
        for own, goal in ((logits, wanted), (logits.T, wanted.T))
    ]
    return torch.stack(parts).mean()


def _expert_rows(setting: Setting, teach: Callable[[int], Teacher]) -> list[Row]:
    """Residual experts on a trunk, both trained to match the ensemble."""
    material, data = setting.material, setting.material.data.train
    made = [
        Row(f"{RESIDUALS.name}, distilled from {TEACHERS}; {shown}", name_of(1))
        for _, shown in JUDGES
    ]
    for seed in setting.seeds:
        teacher, number = teach(seed), 100 * seed + 50
        trunk = create_member(data.views, data.texts, material.config.head, number)
        module = ResidualModule(trunk, RESIDUALS, number)
        seconds = teacher.seconds + run_stages(
            module,
            _matching_residuals(module, teacher, data),
            data,
            both_stages(material.config),
            np.random.default_rng([number, 4]),
        )
        experts, more = closed(experts_of([module]), material.config, data)
        size = module.size + parameters([closed_part(experts[0])])
        answer(setting, made, experts, (size, seconds + more))
    return made


def _matching_residuals(module: ResidualModule, teacher: Teacher, data: TrainingSet) -> Loss:
    views, texts = torch.from_numpy(data.views), torch.from_numpy(data.texts)
    platforms, wanted = torch.from_numpy(data.platforms), _wanted(teacher)

    def loss(batch: Batch) -> Tensor:
        own = platforms[batch.items]
        image, text = module.folded(views[batch.views], texts[batch.texts], own)
        return divergence(module.trunk.scale * text @ image.T, wanted(batch))

    return loss
