"""What ``saywhere ablate`` reads: a TOML file of data, seeds and the whole recipe.

    train = "geotext/train.json"
    seeds = [0, 1, 2]

    [evaluate]
    captions = "geotext/test_24G_version.json"

    [config.text]
    rule_variants = 3

``[config]`` is the recipe with *every* part switched on, as ``saywhere train --config`` takes it;
the ladder switches parts off. Paths are relative to where the command is run.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from saywhere.config import Config, FusionMode, load_config
from saywhere.config_layers import explain, merge, parse_override, read_toml
from saywhere.config_stages import Frozen
from saywhere.errors import ConfigError
from saywhere.types import Platform

Section = Literal["ladder", "leave one out", "controls"]


class AblationConfig(Frozen):
    """One ablation.

    Attributes:
        train: captioned images to train on.
        evaluate: by the name of a column, captioned images or a Track 4 folder with its answers.
        seeds: of the trainings; at least three, or the spread between them says nothing.
        subset: by platform, how many training places keep their images of that platform.
        refined: refined captions (``saywhere refine``) in the place of rule variants.
        modes: fusions tried on the last rung.
        sections: parts of the table; the controls are compared with everything, so they need
            ``leave one out``.
        config: the recipe, over the preset it names.
    """

    train: Path
    evaluate: dict[str, Path] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    subset: dict[Platform, int] = Field(default_factory=dict)
    refined: Path | None = None
    modes: tuple[FusionMode, ...] = ("mean", "weighted", "gated")
    sections: tuple[Section, ...] = ("ladder", "leave one out", "controls")
    config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands twice, and would count twice")
        return seeds

    @field_validator("sections")
    @classmethod
    def _comparable(cls, sections: tuple[Section, ...]) -> tuple[Section, ...]:
        if not sections or ("controls" in sections and "leave one out" not in sections):
            raise ValueError('name "ladder", "leave one out", or "leave one out" and "controls"')
        return sections

    @field_validator("subset")
    @classmethod
    def _enough(cls, places: dict[Platform, int]) -> dict[Platform, int]:
        if any(count < 2 for count in places.values()):
            raise ValueError("fewer than two places of a platform show nothing that differs")
        return places

    def recipe(self, overrides: Iterable[str] = ()) -> Config:
        """The resolved recipe, with ``key=value`` overrides.

        Raises:
            ConfigError: a key or value of ``config`` that there is not.
        """
        refined = ["text.refined=add"] if self.refined else []
        return load_config(overrides=[*_flat(self.config), *refined, *overrides])


def load_ablation(path: Path, overrides: Iterable[str] = ()) -> AblationConfig:
    """Read and check an ablation.

    Args:
        overrides: ``key=value`` over the file, such as ``config.threads=1``.

    Raises:
        ConfigError: unreadable, unknown keys, values out of range, or a part of the method that
            the recipe leaves switched off: without it no rung could be measured.
    """
    values = read_toml(path)
    for override in overrides:
        merge(values, parse_override(override))
    try:
        found = AblationConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"{path}: {explain(error, AblationConfig)}") from None
    _check_everything_on(path, found.recipe())
    return found


def _check_everything_on(path: Path, recipe: Config) -> None:
    train, text = recipe.train, recipe.text
    parts = {
        'train.layout = "experts"': train.layout == "experts",
        'fusion.mode = "mean", "weighted" or "gated"': recipe.fusion.mode != "own",
        "views.satellite_augmentation = true": recipe.views.satellite_augmentation,
        "text.remove_orientation = [platforms]": bool(text.remove_orientation),
        "text.rule_variants = 1 or more": bool(text.rule_variants or text.refined == "add"),
        "train.stage2.epochs = 1 or more": bool(train.stage2.epochs),
        "train.fit_places_ending_in = a digit": train.fit_places_ending_in is not None,
    }
    missing = [name for name, on in parts.items() if not on]
    if missing:
        raise ConfigError(
            f"{path}: the recipe leaves parts of the method off; set in [config]: "
            + "; ".join(missing)
        )


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """``key=value`` of every value of nested tables; JSON is TOML for what stands in them."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={json.dumps(value)}"
