"""Configuration: frozen models, presets in plain sight, TOML in, resolved TOML out.

``load_config(preset="small", path=None, overrides=("head.hidden=256",))`` is the only way in:
preset, then file, then overrides; unknown keys are refused at each step. TOML has no null: where a
setting may be None, the empty string says so. The resolved configuration is written beside every
checkpoint by ``dump_config``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from saywhere.config_heads import CanonicalConfig, HeadConfig, MoreConfig
from saywhere.config_layers import explain, merge, parse_override, read_toml, without_none
from saywhere.config_stages import (
    AdapterConfig,
    AdaptersConfig,
    Frozen,
    GentleStageConfig,
    StageConfig,
    TuningConfig,
)
from saywhere.config_text import QueryRefinementConfig, TextConfig
from saywhere.config_towers import (
    ImageTowerConfig,
    OptionalText,
    Precision,
    TextTowerConfig,
    TowersConfig,
)
from saywhere.errors import ConfigError
from saywhere.hardware import default_threads
from saywhere.presets import PRESETS
from saywhere.views import FIXED_VIEWS

__all__ = [
    "PRESETS",
    "AdapterConfig",
    "AdaptersConfig",
    "CanonicalConfig",
    "Config",
    "FusionConfig",
    "FusionMode",
    "HeadConfig",
    "ImageTowerConfig",
    "MiningConfig",
    "MoreConfig",
    "Precision",
    "PriorMode",
    "QueryRefinementConfig",
    "StageConfig",
    "TextConfig",
    "TextTowerConfig",
    "TowersConfig",
    "TrainConfig",
    "TuningConfig",
    "ViewsConfig",
    "dump_config",
    "load_config",
    "load_resolved",
]

FusionMode = Literal["own", "mean", "weighted", "gated", "known"]
PriorMode = Literal["uniform", "words"]


class ViewsConfig(Frozen):
    """Cached views of an image: what the frozen tower sees.

    Attributes:
        test: names of the deterministic views averaged at query time, see ``views.FIXED_VIEWS``.
            They are the same for every platform: at query time the platform may be unknown.
        train: random views cached per training image, beyond the fixed ones.
        degraded: random views of degraded copies cached per training image, beyond those: noise,
            blur, weather, compression, see ``degradations``.
        satellite_augmentation: any-angle rotation, flips, zoom and colour for satellite images;
            off: satellite images get the mild views of the other platforms.
    """

    test: tuple[str, ...] = ("full", "flip", "large", "crop-tl", "crop-tr", "crop-bl", "crop-br")
    train: int = Field(10, ge=0, le=256)
    degraded: int = Field(0, ge=0, le=256)
    satellite_augmentation: bool = True

    @field_validator("test")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in FIXED_VIEWS]
        if unknown or not names:
            found = f"{unknown[0]!r} is no view" if unknown else "no view is named"
            raise ValueError(f"{found}; choose from: {', '.join(FIXED_VIEWS)}")
        return names


class MiningConfig(Frozen):
    """Hard negatives for stage 2.

    Attributes:
        top_k: candidates kept per text.
        relative_margin: a candidate whose similarity exceeds ``(1 - margin) * positive`` is taken
            for a likely false negative and dropped.
        per_anchor: hard negatives that join an anchor's batch.
        refresh: epochs of stage 2 after which negatives are mined anew; 0 for never.
        in_denominator: add the mined negatives of all anchors to every anchor's denominator.
    """

    top_k: int = Field(20, ge=1)
    relative_margin: float = Field(0.05, ge=0, lt=1)
    per_anchor: int = Field(3, ge=0)
    refresh: int = Field(5, ge=0)
    in_denominator: bool = False


class TrainConfig(Frozen):
    """How experts are trained.

    Attributes:
        layout: ``experts`` (one a platform), ``generalist`` (one for all), or ``both``.
        batches: ``platform`` (all items of one platform) or ``mixed``; experts see only their own.
        start_from_generalist: experts continue from a generalist instead of random heads.
        fine_tune: takes the place of stage 1 in experts that continue from a generalist.
        members: seeds trained per expert and averaged in similarity (an ensemble).
        fit_places_ending_in: training places whose number ends so are kept for fitting; None keeps
            none (then nothing is fitted).
        refit: after fitting, train again with the fitting places included; the fitted numbers stay.
        canonical: a member in closed form that every expert gets, fitted on all platforms.
        hubness: weight of what is taken off for being near everything (see ``hubness``); 0: none.
            With adapters there is none: they change the features under it.
        bank: training images and texts by which that is told.
    """

    layout: Literal["experts", "generalist", "both"] = "experts"
    batches: Literal["platform", "mixed"] = "mixed"
    start_from_generalist: bool = True
    members: int = Field(5, ge=1, le=16)
    fit_places_ending_in: OptionalText = "9"
    refit: bool = True
    canonical: CanonicalConfig = CanonicalConfig()
    hubness: float = Field(0.0, ge=0, le=10)
    bank: int = Field(1024, ge=1, le=65536)
    stage1: StageConfig = StageConfig()
    fine_tune: GentleStageConfig = GentleStageConfig()
    stage2: GentleStageConfig = GentleStageConfig()
    mining: MiningConfig = MiningConfig()


class FusionConfig(Frozen):
    """How the experts' similarities become one score; see ``fusion``."""

    mode: FusionMode = "mean"
    prior: PriorMode = "words"


class Config(Frozen):
    """Everything that shapes a set of experts; the number of threads shapes only the time taken."""

    preset: str = "small"
    seed: int = 0
    threads: int = Field(default_factory=default_threads, ge=1, le=256)
    towers: TowersConfig = TowersConfig()
    views: ViewsConfig = ViewsConfig()
    text: TextConfig = TextConfig()
    head: HeadConfig = HeadConfig()
    train: TrainConfig = TrainConfig()
    more: MoreConfig = MoreConfig()
    adapters: AdaptersConfig = AdaptersConfig()
    tuning: TuningConfig = TuningConfig()
    fusion: FusionConfig = FusionConfig()


def load_config(
    preset: str = "small", path: Path | None = None, overrides: Iterable[str] = ()
) -> Config:
    """Resolve a configuration.

    Args:
        preset: a key of ``presets.PRESETS``; a ``preset`` in the file or the overrides takes
            precedence.
        path: TOML file whose tables mirror the attributes; overrides the preset.
        overrides: ``dotted.key=value`` strings with TOML values; bare words are taken as strings.

    Raises:
        ConfigError: unknown preset or key, unreadable file, or a value out of range.
    """
    layers = [] if path is None else [read_toml(path)]
    layers += [parse_override(override) for override in overrides]
    values: dict[str, Any] = {"preset": preset}
    for layer in layers:
        values["preset"] = layer.get("preset", values["preset"])
    name = values["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigError(f"preset {name!r} is unknown; choose one of: {', '.join(PRESETS)}")
    values |= deepcopy(dict(PRESETS[name]))
    _keep_to_its_tower(values, layers)
    for layer in layers:
        merge(values, layer)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None


def _keep_to_its_tower(values: dict[str, Any], layers: Iterable[Mapping[str, Any]]) -> None:
    """Tuned blocks that a preset names are its own tower's: where another is named, they go."""
    own = ImageTowerConfig()
    for layer in layers:
        towers = layer.get("towers")
        image = towers.get("image") if isinstance(towers, Mapping) else None
        if not isinstance(image, Mapping):
            continue  # refused by the model, if it is anything at all
        named = image.get("name", own.name), image.get("weights", own.weights)
        if named != (own.name, own.weights):
            values.get("towers", {}).get("image", {}).pop("tuned", None)


def load_resolved(path: Path) -> Config:
    """What ``dump_config`` wrote, maybe an earlier version's: of settings that came later, the
    defaults, whatever a preset of today sets.

    Raises:
        ConfigError: unreadable, unknown keys, or a value out of range.
    """
    try:
        return Config.model_validate(read_toml(path))
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None


def dump_config(config: Config) -> str:
    """The resolved configuration as TOML; ``load_config`` reads it back unchanged."""
    import tomli_w

    return tomli_w.dumps(without_none(config.model_dump(mode="json")))
