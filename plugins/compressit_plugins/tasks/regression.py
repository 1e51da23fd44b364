"""`task.regression`: every example has one or more numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import Config, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


class RegressionConfig(Config):
    """Options of regression."""

    loss: Literal["squared", "absolute", "huber"] = Field(
        default="squared",
        description="what a training minimises of the errors: their squares, their sizes, or the Huber loss: half "
        "their squares up to 1, their sizes less 1/2 above (Huber 1964)",
    )


class Regression(Task[RegressionConfig]):
    """Every example has one or more numbers, and the model gives as many: their errors, and R²."""

    name = "task.regression"
    target = "vector"
    watch = "rmse"
    example: ClassVar[Mapping[str, Any]] = {"loss": "huber"}

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over an example's numbers."""
        from torch.nn import functional as F

        self.check(outputs, len(targets))  # (N, 1) and (N,) would be compared all with all
        kinds = {"squared": F.mse_loss, "absolute": F.l1_loss, "huber": F.huber_loss}
        return kinds[self.config.loss](outputs, targets, reduction="none").mean(1)

    def measures(self) -> Mapping[str, Metric]:
        """In the targets' own unit, except R²."""
        return {
            "rmse": Metric("lower", "of the targets", "root of the mean squared error"),
            "mae": Metric("lower", "of the targets", "mean size of the error"),
            "r2": Metric(
                "higher", "fraction", "R²: explained share of the targets' variance, averaged over outputs"
            ),
        }

    def scores(self, outputs: Tensor, targets: Tensor) -> Mapping[str, float]:
        """Of all numbers together; R² of each output, averaged."""
        from compressit import r2

        errors = outputs.double() - targets.double()
        rmse, mae = float(errors.square().mean().sqrt()), float(errors.abs().mean())
        return {"rmse": rmse, "mae": mae, "r2": r2(outputs, targets)}


@hookimpl
def compressit_tasks() -> list[type[Task[Any]]]:
    """Registers `task.regression`."""
    return [Regression]
