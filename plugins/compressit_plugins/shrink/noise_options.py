"""Options of `shrink.noise`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, ValidationInfo, field_validator

from compressit import ModelRef, changed
from compressit_plugins.shrink.student import StudentConfig

Kind = Literal["uniform", "normal", "smooth", "gaussian", "pixel", "covariance", "spectrum"]
Contrast = Annotated[float, Field(ge=0)]


class NoiseConfig(StudentConfig):
    """Options of `shrink.noise`."""

    noise: Kind = Field(
        "uniform",
        description="without statistics of the data: uniform: between the least and the greatest value that the data "
        "declare, for pixels 0 and 1; normal: mean 0, deviation 1; smooth: normal, blurred, with random contrast. With "
        "statistics of the training inputs: gaussian: one mean and deviation for all pixels; pixel: mean and deviation "
        "per pixel; covariance: full covariance; spectrum: the power spectrum, with those between channels",
    )
    blur: tuple[PositiveFloat, ...] = Field(
        (0.6, 1.0, 1.5, 2.5),
        min_length=1,
        description="smooth: deviations of the Gaussians that blur, in pixels; they take turns",
    )
    contrast: tuple[Contrast, Contrast] = Field(
        (0.1, 1.0),
        description="smooth: least and greatest deviation of an image, in the scale of the model's inputs",
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
    teacher_norms: Literal["running", "batch"] = Field(
        "running",
        description="what the teacher's batch norms subtract and divide by while it labels noise: their running "
        "statistics, or those of the noise itself, batch by batch (Raikwar & Mishra 2022)",
    )
    student_norms: Literal["running", "noise", "data"] = Field(
        "running",
        description="statistics of the student's batch norms in the end: running, as its training on noise left them; "
        "or measured again, on the last noise or on the training inputs (without their labels)",
    )
    head: Literal["fresh", "teacher"] = Field(
        "fresh",
        description="the student's output layer before training: fresh, or the teacher's, with those of its inputs "
        "that have the largest weights",
    )
    track: bool = Field(
        True,
        description="log accuracy on the original data, or what else the task watches, after 1, 2, 4, 8 ... epochs "
        "(does not affect training)",
    )

    @field_validator("blur", "contrast")
    @classmethod
    def _shapes(cls, value: Any, info: ValidationInfo) -> Any:
        noise = info.data.get("noise", "smooth")
        if noise != "smooth" and changed(cls, info, value):
            raise ValueError(f"has no effect with `noise: {noise}`: it is an option of `noise: smooth`")
        return value

    @field_validator("contrast")
    @classmethod
    def _rises(cls, contrast: tuple[float, float]) -> tuple[float, float]:
        low, high = contrast
        if not low <= high or high == 0:
            raise ValueError(
                f"goes from {low:g} to {high:g}: give the least, then the greatest, which is above 0"
            )
        return contrast

    @field_validator("teacher_norms")
    @classmethod
    def _has_a_variance(cls, norms: str, info: ValidationInfo) -> str:
        if norms == "batch" and info.data.get("images", 2) < 2:
            raise ValueError("needs at least 2 `images`: one image has no variance")
        return norms

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        labels = info.data.get("labels", "soft")
        if labels != "soft" and changed(cls, info, value):
            raise ValueError(f"has no effect with `labels: {labels}`: it is an option of `labels: soft`")
        return value
