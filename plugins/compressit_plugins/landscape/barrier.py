"""`eval.barrier`: what lies between two models on the straight line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Curve, Evaluator, Metric, ModelRef, Task, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class BarrierConfig(Config):
    """Options of `eval.barrier`."""

    other: ModelRef = Field(description="the model at the other end of the line")
    points: int = Field(25, ge=3, le=200, description="models on the line, with both ends, evenly spaced")
    images: int = Field(
        2000, ge=1, description="examples of each split that the loss is measured on, at most all"
    )


class Barrier(Evaluator[BarrierConfig]):
    """How much the loss rises on the straight line from the model's weights to another model's.

    Frankle et al. 2020, "Linear mode connectivity and the lottery ticket hypothesis": the highest loss on the way, less
    the mean of both ends. Batch norms get new statistics at every point, also at the ends, as in Garipov et al. 2018.
    All weights move, pruned ones too: where both models have a zero, it stays. Nothing is given for a model of other
    shapes, since no line leads to it.

    Not invariant to the order of a layer's units, nor to the scales that ReLU layers can pass on to the next: the same
    function, written with other weights, has another line.
    """

    name = "eval.barrier"
    example: ClassVar[Mapping[str, Any]] = {"other": "previous", "points": 3, "images": 64}

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve]:
        """Three numbers about the training loss, and loss and score on the way."""
        watched = task.measures()[task.watch]
        found: dict[str, Metric | Curve] = {
            "barrier": Metric("lower", "loss", "highest training loss on the line, less the mean of its ends"),
            "barrier_ratio": Metric(
                "lower", "times", "highest training loss on the line, divided by the mean of its ends"
            ),
            "barrier_drop": Metric(
                "lower", watched.unit, f"worst training {task.watch} on the line, against the mean of its ends"
            ),
        }  # fmt: skip
        for name in ("loss", task.watch):
            for split in ("training", "test"):
                called = f"barrier_test_{name}" if split == "test" else f"barrier_{name}"
                found[called] = Curve("share of the way", f"{split} {name}", "on the line to the other model")
        return found

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """`barrier_ratio` is not given where the ends have no loss."""
        from compressit_plugins.landscape.lines import barrier

        return barrier(model, ctx, ctx.model(self.config.other), self.config.points, self.config.images)

    def work(self, images: int) -> Work:
        """What is seen at all points, of the test split as much as of the training split."""
        return Work(0, 1, forwards=2 * self.config.points * min(images, self.config.images))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Barrier]
