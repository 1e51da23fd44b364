"""`eval.accuracy`: accuracy and cross-entropy on every split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compressit import Evaluator, Metric, NoOptions, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressit import StageContext


class Accuracy(Evaluator[NoOptions]):
    """Accuracy and cross-entropy; on training images by the labels the variant was given."""

    name = "eval.accuracy"
    metrics = {  # noqa: RUF012 - declared as a ClassVar by Evaluator
        "train_accuracy": Metric("higher", "fraction", "on the labels the variant was given"),
        "validation_accuracy": Metric("higher", "fraction", "on the split cut from the training images"),
        "test_accuracy": Metric("higher", "fraction", "on the true labels of the test images"),
        "train_loss": Metric("lower", "nats", "cross-entropy on the labels the variant was given"),
        "validation_loss": Metric("lower", "nats", "cross-entropy on the validation split"),
        "test_loss": Metric("lower", "nats", "cross-entropy on the test images"),
    }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """No validation numbers where the data has no validation split."""
        from compressit import check_logits

        values: dict[str, float] = {}
        for split in ("train", "validation", "test"):
            part = getattr(ctx.data, split)
            if part is not None:
                logits = ctx.logits(model, split)
                check_logits(logits, ctx.data.classes)
                values[f"{split}_accuracy"], values[f"{split}_loss"] = accuracy_and_loss(logits, part.y)
        return values


def accuracy_and_loss(logits: Tensor, y: Tensor) -> tuple[float, float]:
    """Fraction of right answers and mean cross-entropy in nats of logits (N, classes) for labels (N,).

    A row with a NaN is a wrong answer.
    """
    from torch.nn import functional as F

    from compressit import answers

    return float((answers(logits) == y).double().mean()), float(F.cross_entropy(logits.double(), y))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Accuracy]
