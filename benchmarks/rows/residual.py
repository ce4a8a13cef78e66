"""Experts as small residuals on a shared trunk: a generalist, and low-rank updates by platform.

An expert's head is the trunk's with ``up @ down`` added to the weights of a layer (as LoRA, Hu et
al. 2022). Query q scores image i under the updates of the image's platform e,
``<t_e(q), v_e(i)>``, in training as when asked: negatives come from all platforms, and each pushes
the pair of updates it is judged by. As in ``fusion`` that is one inner product of folded vectors,
so the product's loss serves. The member in closed form stands beside every expert's heads, where
the recipe has one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from rows.base import name_of
from rows.common import Question, Row, Setting, closed, parameters
from rows.steps import Loss, both_stages, run_stages
from saywhere.batches import Batch, TrainingSet
from saywhere.config import Config, StageConfig
from saywhere.expert import Expert, Head, Member
from saywhere.fusion import UNKNOWN, fold_images, fold_queries, image_gates, neutral
from saywhere.heads import MemberModule, ProjectionHead, create_member, thaw_member
from saywhere.losses import info_nce
from saywhere.negatives import batch_negatives, code_tensors
from saywhere.train import train_layout
from saywhere.types import PLATFORMS, FloatArray

MEMBERS = 1
SEPARATE = "three experts with heads of their own"
Judge = tuple[str, str]
JUDGES: tuple[Judge, ...] = (("own", "platforms known"), ("gated", "unknown"), ("mean", "mean"))


@dataclass(frozen=True, slots=True)
class Shape:
    """Rank; whether the hidden layer gets residuals, too; whether the trunk was trained before."""

    rank: int
    hidden: bool
    after: bool

    @property
    def name(self) -> str:
        """Of the rows."""
        where = "both layers" if self.hidden else "last layer"
        return (
            f"residuals of rank {self.rank}, {where}, {'after' if self.after else 'with'} the trunk"
        )


SHAPES = (
    Shape(8, hidden=False, after=True),
    Shape(32, hidden=True, after=True),
    Shape(8, hidden=False, after=False),
    Shape(32, hidden=True, after=False),
)


class LowRank(nn.Module):
    """One update of a layer for each platform; zero at first."""

    def __init__(self, layer: nn.Linear, rank: int) -> None:
        super().__init__()
        count, scale = len(PLATFORMS), 1 / math.sqrt(layer.in_features)
        self.down = nn.Parameter(scale * torch.randn(count, rank, layer.in_features))
        self.up = nn.Parameter(torch.zeros(count, layer.out_features, rank))

    def forward(self, inputs: Tensor, platforms: Tensor) -> Tensor:
        """(n, in) and (n,) platforms -> (n, out), what is added to the layer's output."""
        count, rank, width = self.down.shape
        low = (inputs @ self.down.reshape(count * rank, width).T).reshape(-1, count, rank)
        low = low[torch.arange(len(inputs)), platforms]  # (n, rank)
        out: Tensor = torch.einsum("nr,nor->no", low, self.up[platforms])
        return out

    @torch.no_grad()
    def of(self, platform: int) -> FloatArray:
        """(out, in) float32: the update of one platform."""
        return np.asarray((self.up[platform] @ self.down[platform]).numpy(), np.float32)


class Side(nn.Module):
    """A trunk's head of one side, and its residuals."""

    def __init__(self, trunk: ProjectionHead, shape: Shape) -> None:
        super().__init__()
        self.trunk = trunk
        first = trunk.first if shape.hidden else None
        self.first = None if first is None else LowRank(first, shape.rank)
        self.second = LowRank(trunk.second, shape.rank)
        for parameter in trunk.parameters():
            parameter.requires_grad_(not shape.after)

    def forward(self, features: Tensor, platforms: Tensor) -> Tensor:
        """(n, features), (n,) platforms whose updates count -> (n, dimension), unit length."""
        trunk = self.trunk
        hidden = trunk.input_dropout((features - trunk.mean) / trunk.std)
        if trunk.first is not None:
            added = 0 if self.first is None else self.first(hidden, platforms)
            hidden = nn.functional.gelu(trunk.first(hidden) + added, approximate="tanh")
            hidden = trunk.hidden_dropout(hidden)
        return nn.functional.normalize(
            trunk.second(hidden) + self.second(hidden, platforms), dim=-1
        )

    def freeze(self, platform: int) -> Head:
        """The head of one platform's expert."""
        head = self.trunk.freeze()
        head = replace(head, weight2=head.weight2 + self.second.of(platform))
        if self.first is None:
            return head
        return replace(head, weight1=head.weight1 + self.first.of(platform))


class ResidualModule(nn.Module):
    """A member with residuals."""

    def __init__(self, trunk: MemberModule, shape: Shape, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.image, self.text = Side(trunk.image, shape), Side(trunk.text, shape)
        self.trunk = trunk

    @property
    def size(self) -> int:
        """Numbers that have to be kept: the trunk's once, and the residuals."""
        return sum(parameter.numel() for parameter in self.parameters()) - 1  # the logit scale

    def clamp_scale(self) -> None:
        """As the trunk's."""
        self.trunk.clamp_scale()

    def folded(self, images: Tensor, texts: Tensor, platforms: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 3 dimension) of images and of texts, whose products are the scores.

        Args:
            platforms: (n,) of the images.
        """
        own = nn.functional.one_hot(platforms, len(PLATFORMS)).float()
        vectors = self.image(images, platforms)
        image = (own[:, :, None] * vectors[:, None, :]).flatten(1)
        every = [
            self.text(texts, torch.full_like(platforms, code)) for code in range(len(PLATFORMS))
        ]
        return image, torch.cat(every, 1)

    def freeze(self, platform: int) -> Member:
        """The member of one platform's expert."""
        scale = float(self.trunk.scale.detach())
        return Member(self.image.freeze(platform), self.text.freeze(platform), scale)


def rows(setting: Setting) -> list[Row]:
    """Each of ``SHAPES`` with platforms known, told by the classifier, and experts averaged."""
    return [
        row
        for shape in SHAPES
        for row in setting.kept(shape.name, partial(shape_rows, setting, shape))
    ]


def shape_rows(setting: Setting, shape: Shape) -> list[Row]:
    """The rows of one shape."""
    config, data = setting.material.config, setting.material.data.train
    made = [Row(f"{shape.name}; {shown}", name_of(MEMBERS)) for _, shown in JUDGES]
    for seed in setting.seeds:
        modules, seconds = _train(setting, shape, seed)
        experts, more = closed(experts_of(modules), config, data)
        size = sum(module.size for module in modules) + parameters([closed_part(experts[0])])
        answer(setting, made, experts, (size, seconds + more))
    return made


def closed_part(expert: Expert) -> Expert:
    """The expert without its trained members."""
    return replace(expert, members=expert.members[MEMBERS:])


def answer(
    setting: Setting, made: Sequence[Row], experts: Sequence[Expert], cost: tuple[int, float]
) -> None:
    """What experts of one seed answer, in the rows of ``JUDGES``.

    Args:
        cost: numbers to keep, and seconds of training.
    """
    material = setting.material
    for row, (mode, _) in zip(made, JUDGES, strict=True):
        row.heads, row.seconds = cost[0], row.seconds + cost[1] / len(setting.seeds)
        for kind, question in material.questions.items():
            known = mode == "own"
            log_probability = None if known else material.log_probability(question)
            row.add(kind, question.ranks(judged(experts, question, mode, log_probability)))


def separate_rows(setting: Setting) -> list[Row]:
    """The product's experts, each with heads of its own, trained on from a generalist's."""
    return setting.kept(SEPARATE, lambda: _separate_rows(setting))


def _separate_rows(setting: Setting) -> list[Row]:
    data, config = setting.material.data.train, setting.material.config
    made = [Row(f"{SEPARATE}; {shown}", name_of(MEMBERS)) for _, shown in JUDGES]
    for seed in setting.seeds:
        train = config.train.model_copy(update={"layout": "experts", "members": MEMBERS})
        own = config.model_copy(update={"train": train, "seed": 100 * seed, "threads": 1})
        started = time.process_time()
        experts = train_layout(data, own, lambda _line: None)
        seconds = time.process_time() - started
        again = parameters([closed_part(expert) for expert in experts[1:]])
        answer(setting, made, experts, (parameters(experts) - again, seconds))
    return made


def judged(
    experts: Sequence[Expert], question: Question, mode: str, log_probability: FloatArray | None
) -> FloatArray:
    """(q, n) scores by the product's fusion, uncalibrated.

    Args:
        mode: of fusion; with ``own`` platforms are told.
        log_probability: (n, 3) of the classifier.
    """
    unknown = np.full(len(question.images), UNKNOWN)
    known = question.platforms if mode == "own" else unknown
    gates = image_gates(mode, [e.platform for e in experts], known, log_probability)
    images = fold_images([e.encode_image(question.images) for e in experts], gates)
    texts = [expert.encode_text(question.features) for expert in experts]
    no_prior = np.zeros((len(question.texts), len(experts)), np.float32)
    return np.asarray(fold_queries(texts, neutral(len(experts)), no_prior) @ images.T)


def experts_of(modules: Sequence[ResidualModule]) -> list[Expert]:
    """One a platform."""
    return [
        Expert(platform, tuple(module.freeze(code) for module in modules))
        for code, platform in enumerate(PLATFORMS)
    ]


def contrastive(module: ResidualModule, data: TrainingSet) -> Loss:
    """InfoNCE of the folded vectors."""
    tensors = code_tensors(data)
    views, texts = torch.from_numpy(data.views), torch.from_numpy(data.texts)
    platforms = torch.from_numpy(data.platforms)

    def loss(batch: Batch) -> Tensor:
        own = platforms[batch.items]
        image, text = module.folded(views[batch.views], texts[batch.texts], own)
        negatives = batch_negatives(tensors, batch, batch.items)
        return info_nce(image, text, module.trunk.scale, negatives)

    return loss


def _train(setting: Setting, shape: Shape, seed: int) -> tuple[list[ResidualModule], float]:
    data, config = setting.material.data.train, setting.material.config
    modules, total = [], 0.0
    for k in range(MEMBERS):
        number = 100 * seed + k
        trunk, seconds = _trunk(setting, config, shape, number)
        module = ResidualModule(trunk, shape, number)
        after = StageConfig(epochs=15, batch_size=config.train.stage1.batch_size)
        stages = [after] if shape.after else list(both_stages(config))
        total += seconds + run_stages(
            module, contrastive(module, data), data, stages, np.random.default_rng([number, 3])
        )
        modules.append(module)
    return modules, total


def _trunk(
    setting: Setting, config: Config, shape: Shape, number: int
) -> tuple[MemberModule, float]:
    data = setting.material.data.train
    if not shape.after:
        return create_member(data.views, data.texts, config.head, number), 0.0
    expert, seconds = setting.pool.member(config, data, number)
    return thaw_member(expert.members[0], config.head, number), seconds
