"""Options of `shrink.noise`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import ModelRef, changed
from compressit_plugins.shrink.student import StudentConfig


class NoiseConfig(StudentConfig):
    """Options of `shrink.noise`."""

    noise: Literal["uniform", "gaussian", "pixel", "covariance"] = Field(
        "uniform",
        description="uniform: pixels in [0, 1]; gaussian: one mean and deviation for all pixels; pixel: each pixel's "
        "own; covariance: the full covariance. All but uniform take their statistics from the training inputs",
    )
    redraw: Literal["epoch", "round", "never"] = Field(
        "epoch", description="new noise every epoch, once for each round, or once for all rounds"
    )
    images: int = Field(60000, ge=1, description="noise images in an epoch")
    labels: Literal["hard", "soft", "logits"] = Field(
        "logits",
        description="what of the teacher's answer is matched: its class (cross-entropy), its probabilities "
        "(cross-entropy at `temperature`), or its logits (mean squared error)",
    )
    temperature: float = Field(1.0, gt=0, description="softmax temperature of soft labels")
    teacher: ModelRef = Field(
        "previous", description="the stage (or checkpoint) whose model labels the noise"
    )
    track: bool = Field(
        True,
        description="log the accuracy on the original data after 1, 2, 4, 8 ... epochs (nothing is selected by it)",
    )

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        labels = info.data.get("labels", "soft")
        if labels != "soft" and changed(cls, info, value):
            raise ValueError(f"has no effect with `labels: {labels}`: it belongs to `labels: soft`")
        return value
