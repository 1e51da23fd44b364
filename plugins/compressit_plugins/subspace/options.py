"""Options of trainings in a subspace and on a sphere, and of finding the intrinsic dimension."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from compressit import Config, FitConfig, OptimizerConfig
from compressit_plugins.train.options import SupervisedConfig

Radius = Annotated[float, Field(gt=0)] | Literal["initial"]


class BasisConfig(Config):
    """Which random basis spans a subspace."""

    basis: Literal["dense", "sparse", "fastfood"] = Field(
        "sparse",
        description="its columns, of unit norm: dense: Gaussian, at most 2 GiB of them; sparse: random signs at "
        "√weights places; fastfood: products of Hadamard transforms, which are never stored, of about unit norm",
    )


def check_decays(options: FitConfig) -> None:
    """Raises ValueError for a weight decay that leaves out what learns: the coordinates are a vector."""
    if options.optimizer.weight_decay and not options.optimizer.decay_all:
        raise ValueError(
            "`weight_decay` leaves out vectors, and the coordinates of a subspace are one: with `decay_all: true` it "
            "pulls them to zero, and so the weights to where they began"
        )


class SphereConfig(SupervisedConfig):
    """Options of training on a sphere."""

    radius: Radius = Field(
        "initial",
        description="norm of all weights and biases that learn, after each step: a multiple of the norm that Glorot's "
        "initialisation gives, or `initial`, the norm at the start",
    )

    @model_validator(mode="after")
    def _stays_on_it(self) -> SphereConfig:
        if self.ema is not None:
            raise ValueError("`ema` does not go with a sphere: averages of its points lie inside it")
        return self


class SubspaceConfig(SupervisedConfig, BasisConfig):
    """Options of training in a random subspace."""

    dimension: int = Field(100, ge=1, description="dimensions of the subspace")
    radius: Radius | None = Field(
        None,
        description="norm of all weights and biases that learn, after each step: a multiple of the norm that Glorot's "
        "initialisation gives, or `initial`, the norm at the start; default: any",
    )

    @model_validator(mode="after")
    def _has_an_effect(self) -> SubspaceConfig:
        check_decays(self)
        if self.radius is not None and self.ema is not None:
            raise ValueError("`ema` does not go with a sphere: averages of its points lie inside it")
        return self


class IntrinsicDimensionConfig(FitConfig, BasisConfig):
    """Options of `eval.intrinsic_dimension`."""

    dimensions: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (10, 50, 100, 200, 400, 600, 800, 1000),
        min_length=1,
        description="dimensions of the subspaces that are tried, in ascending order; those above the number of weights "
        "are left out",
    )
    threshold: float = Field(
        0.9,
        description="score that counts as solved, in the task's own unit: 0.9 is 90 % of the inputs right",
    )
    share: float = Field(0.9, gt=0, le=1, description="the same as a share of the measured model's own score")
    interpolate: bool = Field(
        False,
        description="find where the scores cross the threshold, on straight lines over the logarithm of the dimension; "
        "else the first dimension of the grid that reaches it, as published",
    )
    split: Literal["train", "validation", "test"] = Field("test", description="examples that scores are of")
    images: int = Field(
        2000, ge=1, description="training examples, at most all: evenly spaced among them, never augmented"
    )
    epochs: int = Field(10, ge=1, description="passes over these examples, for each dimension")
    optimizer: OptimizerConfig = Field(
        default_factory=lambda: OptimizerConfig(name="adam", lr=0.001),
        description="optimizer and its options",
    )

    @field_validator("dimensions")
    @classmethod
    def _ascend(cls, dimensions: tuple[int, ...]) -> tuple[int, ...]:
        if list(dimensions) != sorted(set(dimensions)):
            raise ValueError("must ascend, each once")
        return dimensions

    @model_validator(mode="after")
    def _decays(self) -> IntrinsicDimensionConfig:
        check_decays(self)
        return self
