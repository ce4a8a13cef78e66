"""Settings of the training that ``config`` puts together: stages, adapters, end-to-end tuning."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Frozen(BaseModel):
    """Base of every settings model: immutable, unknown keys refused, no NaN and no infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", str_strip_whitespace=True, allow_inf_nan=False
    )


class StageConfig(Frozen):
    """One training stage."""

    epochs: int = Field(60, ge=0)
    batch_size: int = Field(128, ge=2)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class GentleStageConfig(StageConfig):
    """A stage that goes on from trained heads.

    A class of its own, as are the two below: a file that sets one of its values must not turn the
    others into those of a first stage.
    """

    epochs: int = Field(10, ge=0)
    learning_rate: float = Field(1e-4, gt=0)


class AdapterStageConfig(StageConfig):
    """In-batch negatives, through live towers."""

    epochs: int = Field(5, ge=0)


class AdapterMinedStageConfig(StageConfig):
    """Mined negatives, through live towers."""

    epochs: int = Field(1, ge=0)
    learning_rate: float = Field(3e-4, gt=0)


class AdapterConfig(Frozen):
    """Low-rank adapters (LoRA, Hu et al. 2022) in one tower.

    Attributes:
        rank: of each update; 0 leaves the tower frozen.
        alpha: updates are scaled by alpha / rank.
        dropout: on the input of each update, in training.
        layers: how many of the last blocks get adapters; 0 for all.
        targets: endings of module names that get one; empty for the attention and MLP projections
            of transformers and the 1 × 1 convolutions of EfficientNets, see ``towers.lora``.
    """

    rank: int = Field(0, ge=0, le=256)
    alpha: float = Field(16.0, gt=0)
    dropout: float = Field(0.1, ge=0, lt=1)
    layers: int = Field(0, ge=0)
    targets: tuple[str, ...] = ()


class AdaptersConfig(Frozen):
    """Adapters of the two towers; with both ranks 0 the towers are frozen."""

    image: AdapterConfig = AdapterConfig()
    text: AdapterConfig = AdapterConfig()

    @property
    def on(self) -> bool:
        """Whether a tower has adapters."""
        return bool(self.image.rank or self.text.rank)


class TuningConfig(Frozen):
    """End-to-end training of adapters and heads, after heads were trained on frozen features.

    Heads that fit first spare the towers the gradients of random ones (Kumar et al. 2022); with
    ``train.stage1.epochs = 0`` they start at random instead.

    Attributes:
        stage1, stage2: in-batch negatives, then mined ones; learning rates of the adapters.
        head_rate: learning rate of the heads relative to the adapters'.
        accumulate: batches a step; each has its own negatives.
        chunk: items a forward pass through the towers. With ``cached_gradients`` only one chunk's
            activations are held at a time (GradCache, Gao et al. 2021), else all of them.
        checkpointing: recompute the towers' activations in the backward pass.
        precision: of the towers; ``auto`` is bfloat16 on a GPU that has it, else float32.
    """

    stage1: AdapterStageConfig = AdapterStageConfig()
    stage2: AdapterMinedStageConfig = AdapterMinedStageConfig()
    head_rate: float = Field(0.1, gt=0, le=10)
    accumulate: int = Field(1, ge=1)
    chunk: int = Field(32, ge=1)
    cached_gradients: bool = False
    checkpointing: bool = False
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
