"""`eval.calibration`: whether a model is right as often as it says."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compressit import Config, Curve, Evaluator, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressit import StageContext


class CalibrationConfig(Config):
    """Options of `eval.calibration`."""

    bins: int = Field(15, ge=1, le=1000, description="bins of equal width for the confidence")


class Calibration(Evaluator[CalibrationConfig]):
    """Whether the test examples answered with a confidence of 80 % are right in 80 % of the cases.

    Guo et al. 2017, "On calibration of modern neural networks". The confidence is the largest probability.
    """

    name = "eval.calibration"
    tasks = frozenset({"task.classification"})

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve]:
        """The expected calibration error, the mean confidence, and the reliability curve."""
        return {
            "test_calibration_error": Metric(
                "lower",
                "fraction",
                "distance of accuracy and mean confidence in a bin, the mean over test examples",
            ),
            "test_confidence": Metric(
                "neither", "fraction", "probability of the answer, the mean over test examples"
            ),
            "reliability": Curve(
                "mean confidence of a bin", "accuracy (fraction)", "accuracy where the model is so confident"
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """The curve has a point for each bin that has examples. Numbers are NaN where logits are."""
        from compressit import answers

        logits, y = ctx.logits(model, "test").cpu(), ctx.data.split("test").y.cpu()
        confidence = logits.double().softmax(1).amax(1)
        weight, sure, right = binned(confidence, answers(logits) == y, self.config.bins)
        for x, accuracy in zip(sure.tolist(), right.tolist(), strict=True):
            if isfinite(x):
                ctx.log(x, reliability=accuracy)
        error = (weight * (sure - right).abs()).sum()
        return {"test_calibration_error": float(error), "test_confidence": float(confidence.mean())}


def binned(confidence: Tensor, right: Tensor, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each bin ((m - 1) / bins, m / bins] with examples, in order: the share of all examples, their mean confidence
    and accuracy, float64. `confidence`: (N,) float64 in [0, 1]; `right`: (N,) bool; both on the CPU."""
    import torch

    edges = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.bucketize(confidence, edges)
    count = place.bincount(minlength=bins)
    sums = (place.bincount(values.double(), minlength=bins) for values in (confidence, right))
    there = count > 0
    sure, accuracy = (total[there] / count[there] for total in sums)
    return count[there] / len(confidence), sure, accuracy


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Calibration]
