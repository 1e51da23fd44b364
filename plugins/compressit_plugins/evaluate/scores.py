"""`eval.scores`: what the task itself measures, on every split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit import Evaluator, Metric, NoOptions, Task, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext

SPLITS = {"train": "training", "validation": "validation", "test": "test"}


class Scores(Evaluator[NoOptions]):
    """The task's own measures and its loss on every split: `test_rmse`, `test_miou`, `test_accuracy` …"""

    name = "eval.scores"

    def declares(self, task: Task[Any]) -> Mapping[str, Metric]:
        """Each of the task's, and the loss, on each split."""
        measures = {"loss": Metric("lower", "of the loss", "mean loss of an example"), **task.measures()}
        return {
            f"{split}_{name}": Metric(metric.better, metric.unit, f"{metric.about}, on the {called} split")
            for split, called in SPLITS.items()
            for name, metric in measures.items()
        }

    def work(self, images: int) -> Work:
        """A pass over the training set, which is the largest part of it."""
        return Work(steps=0, batch_size=1, forwards=images)

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Of the splits that the data have. The loss has no options that only trainings use, as label smoothing."""
        found: dict[str, float] = {}
        for split in SPLITS:
            part = getattr(ctx.data, split)
            if part is not None:
                outputs = ctx.logits(model, split)
                loss = float(ctx.task.loss(outputs.double(), part.y).double().mean())
                scores = {"loss": loss, **ctx.task.scores(outputs, part.y)}
                found |= {f"{split}_{name}": value for name, value in scores.items()}
        return found


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Scores]
