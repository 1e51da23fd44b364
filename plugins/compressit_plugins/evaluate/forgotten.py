"""`eval.forgotten`: what a compressed model forgot of its original."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import Field

from compressit import Array, Config, Evaluator, Metric, ModelRef, Picture, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext

Declared = Metric | Array | Picture


class ForgottenConfig(Config):
    """Options of `eval.forgotten`."""

    of: ModelRef = Field("original", description="the model that the measured one is compared with")


class Forgotten(Evaluator[ForgottenConfig]):
    """Against the original: classes and test examples that are answered otherwise now, and what of the labels stayed.

    Hooker et al. 2019, "What do compressed deep neural networks forget?"; flips as Yan et al. 2021, "Positive-congruent
    training". Other tasks than those of one class per example have only the agreement.
    """

    name = "eval.forgotten"

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """The agreement; of classes, also which examples and classes changed."""
        agreement = Metric(
            "higher", "fraction", "test inputs answered as the original does; of numbers, R² to its"
        )
        found: dict[str, Declared] = {"original_agreement": agreement}
        return {**found, **_OF_CLASSES} if task.target == "class" else found

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Of the original itself only `correct` and `class_accuracy`, which need no other model.

        `memorised_kept` and `generalised_kept` are of data whose option `labels` replaced labels. The picture is of
        images, gray or red, green and blue, if any answer changed.
        """
        from compressit_plugins.evaluate.forgetting import forgotten

        return forgotten(model, ctx, self.config.of)


_OF_CLASSES: Mapping[str, Declared] = {
    "negative_flips": Metric("lower", "fraction", "test examples that the original answers right, this one wrong"),
    "positive_flips": Metric("higher", "fraction", "test examples that the original answers wrong, this one right"),
    "worst_class_change": Metric("higher", "fraction", "change of accuracy from the original's, the lowest of a class"),
    "worst_class": Metric("neither", "label", "number of the class that lost most, from 0; of equals, the first"),
    "memorised_kept": Metric(
        "neither", "fraction", "training examples with a wrong label by `labels`, answered so by the original and still"
    ),
    "generalised_kept": Metric(
        "higher", "fraction", "training examples with their own label, answered right by the original and still"
    ),
    "correct": Array("whether each test example is answered right", ("example",)),
    "class_accuracy": Array("accuracy on the test examples of each class; NaN for one without any", ("class",)),
    "class_change": Array("that less the original's", ("class",)),
    "flipped": Array("positions in the test split of the examples that are answered otherwise", ("flip",)),
    "flipped_images": Picture(
        "Test images that are answered otherwise: the original's answer, the answer now, and the label. First those "
        "that were right, then those that are right now."
    ),
}  # fmt: skip


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Forgotten]
