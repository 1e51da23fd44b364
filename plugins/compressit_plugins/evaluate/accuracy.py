"""`eval.accuracy`: accuracy and cross-entropy on every split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from compressit import Evaluator, Metric, NoOptions, Work, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressit import StageContext


class Accuracy(Evaluator[NoOptions]):
    """Accuracy and cross-entropy on every split; on training images with the labels that were trained on."""

    name = "eval.accuracy"
    tasks = frozenset({"task.classification"})
    metrics = {  # noqa: RUF012 - declared as a ClassVar by Evaluator
        "train_accuracy": Metric("higher", "fraction", "on the training images, with the variant's labels"),
        "validation_accuracy": Metric("higher", "fraction", "on the validation split"),
        "test_accuracy": Metric("higher", "fraction", "on the test images, with their true labels"),
        "train_loss": Metric(
            "lower", "nats", "cross-entropy on the training images, with the variant's labels"
        ),
        "validation_loss": Metric("lower", "nats", "cross-entropy on the validation split"),
        "test_loss": Metric("lower", "nats", "cross-entropy on the test images"),
    }

    def work(self, images: int) -> Work:
        """A pass over the training set, which is the largest part of it."""
        return Work(steps=0, batch_size=1, forwards=images)

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Validation metrics are left out if the data has no validation split."""
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
    """Accuracy and mean cross-entropy in nats of logits (N, classes) for labels (N,).

    A row with a NaN counts as wrong.
    """
    from torch.nn import functional as F

    from compressit import answers

    return float((answers(logits) == y).double().mean()), float(F.cross_entropy(logits.double(), y))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Accuracy]
