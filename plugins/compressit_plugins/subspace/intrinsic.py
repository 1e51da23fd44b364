"""`eval.intrinsic_dimension`: in how few dimensions a net of this shape learns its task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from compressit import Curve, Declared, Evaluator, FitConfig, Metric, OptimizerConfig, Task, Work, hookimpl
from compressit_plugins.subspace.options import BasisConfig, check_decays

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


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


class IntrinsicDimension(Evaluator[IntrinsicDimensionConfig]):
    """The smallest dimension of a random subspace in which a fresh net of the model's shape learns the task.

    Li et al., "Measuring the intrinsic dimension of objective landscapes" (2018). For each dimension a net is trained
    as `train.subspace` does. All begin with the same fresh weights: those that the model plugin draws, or, where the
    shapes have changed since or no plugin built the net, what each layer's own `reset_parameters` draws. Weights that
    are pruned in the model are not there. All other parameters learn, also those that were frozen. Two readings of
    "solved" are in use and differ: a score of `threshold`, and a `share` of what the measured model reaches itself.
    A dimension that was not reached is an empty cell. The result depends on the initialisation, and on scales of layers
    that change no answer of a ReLU net.
    """

    name = "eval.intrinsic_dimension"
    example: ClassVar[Mapping[str, Any]] = {
        "dimensions": [5, 20],
        "epochs": 2,
        "batch_size": 32,
        "threshold": 0.2,
    }

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """Both readings, and the score against the dimension."""
        watched, config = task.measures()[task.watch], self.config
        return {
            "intrinsic_dimension": Metric(
                "neither", "dimensions", f"smallest subspace with {task.watch} {config.threshold:g} or better"
            ),
            "intrinsic_dimension_relative": Metric(
                "neither",
                "dimensions",
                f"smallest subspace with {config.share:.0%} of the model's own {task.watch}",
            ),
            "subspace_score": Curve(
                "dimension of the subspace",
                f"{task.watch} ({watched.unit})",
                f"after training in a random subspace; {config.split} examples",
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a layer that cannot be given fresh weights, if no model plugin built the net, for
        a split that the data lack, and where no dimension fits into the net."""
        from compressit_plugins.subspace.dimensions import measured

        return measured(model, ctx, self.config)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """`threshold` where the task watches something that falls, as an error."""
        if task.measures()[task.watch].better == "higher":
            return {}
        return {
            "threshold": f"is a score to reach, and {task.name} watches {task.watch}, where lower is better"
        }

    def work(self, images: int) -> Work:
        """A training for each dimension."""
        config, used = self.config, min(images, self.config.images)
        return Work(len(config.dimensions) * config.total_steps(used), config.images_per_step(used))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [IntrinsicDimension]
