"""The shipped recipe with one part taken out or exchanged at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rows.base import name_of
from rows.common import Material, Question, Row, Setting, load, parameters, similarity
from saywhere.batches import TrainingSet, starts_of
from saywhere.config import Config
from saywhere.hardware import Runtime
from saywhere.towers import image_tower
from saywhere.types import FloatArray

_LAST = 1280  # width of EfficientNet-Lite0's last layer; the earlier stages stand before it
_LITE2 = "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"  # the package's weights
Change = Callable[[Setting], Material]


def rows(setting: Setting) -> list[Row]:
    """One generalist each, compared with the whole recipe's.

    Another tower has no tuned blocks: it is compared with the published one alone.
    """
    plain = not setting.material.config.towers.image.tuned
    return [
        row
        for name, change in (CHANGES | (TOWERS if plain else {})).items()
        for row in setting.kept(name, partial(_make, setting, name, change))
    ]


def _make(setting: Setting, name: str, change: Change) -> list[Row]:
    material, row = change(setting), Row(name, name_of(1))
    for seed in setting.seeds:
        data = material.data.train
        expert, seconds = setting.pool.ensemble(material.config, data, seed, 1)
        row.heads, row.seconds = parameters([expert]), row.seconds + seconds / len(setting.seeds)
        for kind, question in material.questions.items():
            row.add(kind, question.ranks(similarity(expert, question)))
    return [row]


def _last_layer(setting: Setting) -> Material:
    return _with_images(setting.material, lambda views: views[:, -_LAST:])


def _one_view_asked(setting: Setting) -> Material:
    """Trained as always, each image of the gallery seen once."""
    return replace(setting.material, questions=_first_views(setting.material))


def _one_view(setting: Setting) -> Material:
    """Each image seen once, in training, too."""
    material, data = setting.material, setting.material.data.train
    starts = data.view_start[:-1]
    only = replace(data, views=data.views[starts], view_start=np.arange(len(starts) + 1))
    return replace(
        material, questions=_first_views(material), data=replace(material.data, train=only)
    )


def _fixed_views(setting: Setting) -> Material:
    """No random views in training, those of the gallery alone."""
    material, data = setting.material, setting.material.data.train
    fixed = len(material.config.views.test)
    wanted = (data.view_start[:-1, None] + np.arange(fixed)).ravel()
    counts = starts_of(fixed for _ in range(len(data)))
    only = replace(data, views=data.views[wanted], view_start=counts)
    return replace(material, data=replace(material.data, train=only))


def _configured(part: str, values: Mapping[str, Any]) -> Change:
    """The recipe with other values in one table of its configuration."""

    def change(setting: Setting) -> Material:
        material = setting.material
        table = getattr(material.config, part).model_copy(update=values)
        config = material.config.model_copy(update={part: table})
        if part != "text":
            return replace(material, config=config)
        return load(setting.data, config, material.towers)

    return change


def _lite2(setting: Setting) -> Material:
    config: Config = setting.material.config
    image = type(config.towers.image)(name="tf_efficientnet_lite2", sha256=_LITE2, size=256)
    towers = config.towers.model_copy(update={"image": image})
    config = config.model_copy(update={"towers": towers})
    tower = image_tower(image, runtime=Runtime(1))
    return load(setting.data, config, (tower, setting.material.towers[1]))


def _first_views(material: Material) -> dict[str, Question]:
    return {
        kind: replace(question, images=[views[:1] for views in question.images])
        for kind, question in material.questions.items()
    }


def _with_images(material: Material, of: Callable[[FloatArray], FloatArray]) -> Material:
    data: TrainingSet = material.data.train
    questions = {
        kind: replace(question, images=[of(views) for views in question.images])
        for kind, question in material.questions.items()
    }
    train = replace(data, views=np.ascontiguousarray(of(data.views)))
    return replace(material, questions=questions, data=replace(material.data, train=train))


CHANGES: Mapping[str, Change] = {
    "− earlier stages (last layer alone)": _last_layer,
    "− views of the gallery (one an image)": _one_view_asked,
    "− random views in training": _fixed_views,
    "− all views (one an image)": _one_view,
    "− dropout": _configured(
        "head", {"image_dropout": 0.0, "text_dropout": 0.0, "hidden_dropout": 0.0}
    ),
    "− full captions (orientation-free alone)": _configured("text", {"keep_full": False}),
    "− orientation-free captions (full alone)": _configured("text", {"remove_orientation": ()}),
}
TOWERS: Mapping[str, Change] = {"Lite2 at 256 px instead of Lite0": _lite2}
