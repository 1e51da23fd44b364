"""Options of measurements that train nets."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from compressit import FitConfig, OptimizerConfig

Labels = Literal["given", "random"]


class FitTimeConfig(FitConfig):
    """Options of `eval.fit_time`: those of the trainings, whose length is a limit, and what they are asked."""

    epochs: int = Field(default=300, ge=1, description="the limit: at most so many passes over `images`")
    steps: int | None = Field(
        default=None, ge=1, description="the limit in optimizer steps, instead of `epochs`"
    )
    optimizer: OptimizerConfig = Field(
        default=OptimizerConfig(name="adam", lr=0.001), description="optimizer and its options"
    )
    start: Literal["fresh", "model"] = Field(
        default="fresh",
        description="where each training starts: from fresh weights of the same shapes, with the same pruned weights "
        "at zero, or from the measured model's own",
    )
    labels: tuple[Labels, ...] = Field(
        default=("given", "random"),
        min_length=1,
        description="what is learned: the labels that the dataset gives, whatever the variant made of them, or random "
        "ones, uniform over the classes and the same for every model",
    )
    images: int = Field(default=2000, ge=2, description="training examples, drawn by chance; at most all")
    reach: float = Field(
        default=0.99, gt=0, le=1, description="accuracy on these examples that ends a training"
    )

    @field_validator("labels")
    @classmethod
    def _each_once(cls, labels: tuple[Labels, ...]) -> tuple[Labels, ...]:
        if len(set(labels)) < len(labels):
            raise ValueError("names the same labels twice")
        return labels
