"""The rows of an ablation: which parts are switched off, and what each row is compared with."""

from __future__ import annotations

from dataclasses import dataclass

from saywhere.ablation.config import AblationConfig, Section
from saywhere.config import Config, FusionMode
from saywhere.errors import ConfigError

EVERYTHING = "everything"
_MOST_MEMBERS = 16

_EXPERTS, _AUGMENTATION = "platform experts", "satellite augmentation"
_ORIENTATION, _VARIANTS, _HARD = "orientation removal", "rule variants", "hard negatives"
_REFINED = "refined captions"
# What switches a part off. The order is that of the rungs.
_OFF: dict[str, tuple[str, ...]] = {
    _EXPERTS: ("train.layout=generalist",),
    _AUGMENTATION: ("views.satellite_augmentation=false",),
    _ORIENTATION: ("text.remove_orientation=[]",),
    _VARIANTS: ("text.rule_variants=0", "text.refined=off"),
    _HARD: ("train.stage2.epochs=0",),
}
# What the method stands on here, and the paper does not know; each left out once.
_BASIS: dict[str, tuple[str, ...]] = {
    "tuned blocks": ('towers.image.tuned=""',),
    "static words": ('towers.text.words=""',),
    "member in closed form": ("train.canonical.weight=0",),
}


@dataclass(frozen=True, slots=True)
class Step:
    """One row.

    Attributes:
        against: name of the row it is compared with; None for the first.
        overrides: over the recipe.
        mode: how the experts are fused; a generalist alone is the same in all.
    """

    name: str
    section: Section
    against: str | None
    overrides: tuple[str, ...]
    mode: FusionMode


def steps(ablation: AblationConfig) -> tuple[Step, ...]:
    """The rows of its sections: the ladder, everything but one part, and the controls.

    Raises:
        ConfigError: three times the recipe's members are more than there may be.
    """
    mode = ablation.recipe().fusion.mode
    rows = (*_ladder(ablation), *_without(ablation, mode), *_controls(ablation, mode))
    return tuple(step for step in rows if step.section in ablation.sections)


def _ladder(ablation: AblationConfig) -> list[Step]:
    parts = list(_OFF)
    rows = [Step("generalist", "ladder", None, _switched_off(parts), "mean")]
    for rung, part in enumerate(parts, start=1):
        name = f"+ {_shown(part, ablation)}"
        rows.append(Step(name, "ladder", rows[-1].name, _switched_off(parts[rung:]), "own"))
    last = rows[-1].name
    return rows + [Step(f"+ fusion: {m}", "ladder", last, (), m) for m in ablation.modes]


def _without(ablation: AblationConfig, mode: FusionMode) -> list[Step]:
    section: Section = "leave one out"
    rows = [Step(EVERYTHING, section, None, (), mode)]
    rows += [
        Step(f"− {_shown(part, ablation)}", section, EVERYTHING, _OFF[part], mode) for part in _OFF
    ]
    rows += [Step("− fusion (own expert)", section, EVERYTHING, (), "own")]
    basis = _basis(ablation.recipe())
    rows += [Step(f"− {part}", section, EVERYTHING, basis[part], mode) for part in basis]
    if len(basis) > 1:
        every = tuple(override for overrides in basis.values() for override in overrides)
        rows += [Step(f"− {' and '.join(basis)}", section, EVERYTHING, every, mode)]
    return rows


def _basis(recipe: Config) -> dict[str, tuple[str, ...]]:
    """Those parts of ``_BASIS`` that the recipe has."""
    towers = recipe.towers
    present = bool(towers.image.tuned), bool(towers.text.words), bool(recipe.train.canonical.weight)
    return {part: _BASIS[part] for part, there in zip(_BASIS, present, strict=True) if there}


def _controls(ablation: AblationConfig, mode: FusionMode) -> list[Step]:
    """What the experts must beat, and whether negatives of other platforms help.

    Three experts have three times a generalist's heads. A head's parameters grow with its hidden
    width, so three times the width matches them; so do three generalists averaged.
    """
    recipe = ablation.recipe()
    members = 3 * recipe.train.members
    if members > _MOST_MEMBERS:
        raise ConfigError(
            f"train.members = {recipe.train.members}: three generalists would have {members}, more "
            f"than {_MOST_MEMBERS}; set it to {_MOST_MEMBERS // 3} or fewer"
        )
    alone = _OFF[_EXPERTS]
    wide = (*alone, f"head.hidden={3 * recipe.head.hidden}")
    generalist = f"− {_EXPERTS}"
    rows = [
        ("generalist, parameters matched", EVERYTHING, wide),
        ("three generalists averaged", EVERYTHING, (*alone, f"train.members={members}")),
        ("experts from scratch", EVERYTHING, ("train.start_from_generalist=false",)),
        ("generalist, no cross-platform negatives", generalist, (*alone, "train.batches=platform")),
    ]
    return [Step(name, "controls", against, overrides, mode) for name, against, overrides in rows]


def _switched_off(parts: list[str]) -> tuple[str, ...]:
    return tuple(override for part in parts for override in _OFF[part])


def _shown(part: str, ablation: AblationConfig) -> str:
    return _REFINED if part == _VARIANTS and ablation.refined else part
