"""Settings of the heads that ``config`` puts together, and of experts with images of their own."""

from __future__ import annotations

from pydantic import Field

from saywhere.config_stages import Frozen, StageConfig


class HeadConfig(Frozen):
    """Projection heads over frozen features, both towers alike.

    Attributes:
        dimension: of the joint space.
        hidden: width of the hidden layer; 0 for a linear head.
        image_dropout, text_dropout: on the standardised input features.
        hidden_dropout: after the hidden layer's activation.
    """

    dimension: int = Field(256, ge=8, le=4096)
    hidden: int = Field(512, ge=0, le=8192)
    image_dropout: float = Field(0.5, ge=0, lt=1)
    text_dropout: float = Field(0.3, ge=0, lt=1)
    hidden_dropout: float = Field(0.3, ge=0, lt=1)


class CanonicalConfig(Frozen):
    """A member in closed form beside the trained ones, see ``canonical``.

    With adapters there is none: they change the features under it.

    Attributes:
        weight: of its similarity against that of all trained members together; 0: there is none.
        dimension: directions kept.
        image_ridge, text_ridge: added to each side's covariance, in units of its mean variance.
        power: directions count by their correlation to this power.
    """

    weight: float = Field(0.0, ge=0, le=100)
    dimension: int = Field(128, ge=1, le=4096)
    image_ridge: float = Field(2.5, gt=0)
    text_ridge: float = Field(2.0, gt=0)
    power: float = Field(1.0, ge=0, le=8)


class MoreHeadConfig(HeadConfig):
    """Heads for thousands of images."""

    dimension: int = Field(384, ge=8, le=4096)
    hidden: int = Field(768, ge=0, le=8192)
    image_dropout: float = Field(0.3, ge=0, lt=1)
    text_dropout: float = Field(0.15, ge=0, lt=1)


class MoreStageConfig(StageConfig):
    """A stage for thousands of images."""

    epochs: int = Field(20, ge=0)
    batch_size: int = Field(512, ge=2)


class MoreConfig(Frozen):
    """An expert of a platform that has images of its own (``saywhere train --more``).

    The other experts and the generalist never see these images. The platform's expert is trained on
    them and on the platform's images of the main dataset, from random heads.

    Attributes:
        views: random views cached an image, beside its first two fixed ones.
        degraded: random views of degraded copies, beside those.
        share: the least share of what the expert sees that is of the main dataset.
        members: heads of the expert, as ``train.members``.
        hubness: weight of what is taken off for being near everything (see ``hubness``); 0: none.
        bank: training images and texts by which that is told.
        head, stage: its heads and its one stage; thousands of images bear larger heads, less
            dropout and larger batches than hundreds.
    """

    views: int = Field(4, ge=0, le=256)
    degraded: int = Field(0, ge=0, le=256)
    share: float = Field(0.125, ge=0, lt=1)
    members: int = Field(1, ge=1, le=16)
    hubness: float = Field(0.0, ge=0, le=10)
    bank: int = Field(1024, ge=1, le=65536)
    head: MoreHeadConfig = MoreHeadConfig()
    stage: MoreStageConfig = MoreStageConfig()
