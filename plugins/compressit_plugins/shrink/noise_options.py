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
        description="uniform: between the least and the greatest value that the data declare, for pixels 0 and 1; "
        "gaussian: one mean and deviation for all pixels; pixel: mean and deviation per pixel; covariance: full "
        "covariance. All except uniform use statistics of the training inputs",
    )
    redraw: Literal["epoch", "round", "never"] = Field(
        "epoch", description="when to draw new noise: every epoch, every round, or once for all rounds"
    )
    images: int = Field(60000, ge=1, description="noise images per epoch")
    labels: Literal["hard", "soft", "logits"] = Field(
        "logits",
        description="what to match of the teacher's output: class (cross-entropy), probabilities "
        "(cross-entropy at `temperature`), or logits, or other outputs (mean squared error)",
    )
    temperature: float = Field(1.0, gt=0, description="softmax temperature of soft labels")
    teacher: ModelRef = Field(
        "previous", description="the model that labels the noise: a stage or a checkpoint"
    )
    track: bool = Field(
        True,
        description="log accuracy on the original data, or what else the task watches, after 1, 2, 4, 8 ... epochs "
        "(does not affect training)",
    )

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        labels = info.data.get("labels", "soft")
        if labels != "soft" and changed(cls, info, value):
            raise ValueError(f"has no effect with `labels: {labels}`: it is an option of `labels: soft`")
        return value
