"""`eval.sensitivity`: what a model loses when one layer loses a part of its channels or weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from compressit import Array, Config, Curve, Evaluator, Metric, Picture, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SensitivityConfig(Config):
    """Options of `eval.sensitivity`."""

    of: Literal["channels", "weights"] = Field(
        "channels",
        description="what a layer loses: whole channels, with all layers coupled to them, as `prune.structured` does, "
        "or its smallest weights, as `prune.magnitude` does",
    )
    ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (0.25, 0.5, 0.75), min_length=1, description="fractions that a layer loses, in ascending order"
    )
    importance: Literal["magnitude", "fpgm", "lamp"] = Field(
        "magnitude",
        description="score of a channel, as for `prune.structured`; the lowest go. Of weights the smallest go",
    )
    ignore: tuple[str, ...] = Field(
        (), description="globs over names of layers that are not measured, nor what is coupled to them"
    )
    time_limit: float = Field(60.0, gt=0, description="seconds after which tracing for channels is stopped")

    @field_validator("ratios")
    @classmethod
    def _ascend(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if list(ratios) != sorted(set(ratios)):
            raise ValueError("must ascend, each once")
        return ratios


class Sensitivity(Evaluator[SensitivityConfig]):
    """What the model scores when a single layer loses a part, layer by layer; nothing is trained again.

    Li et al. 2017, "Pruning filters for efficient convnets", choose by it what each layer loses. Measured on the
    validation split, on the training examples if there is none. Statistics of batch norms stay as they are.

    The array `sensitivity` has a row for each layer (for channels: each group of coupled layers, by its first). Its
    first column is the score of the whole model, the others that for each of `ratios`. `sensitivity_layers` has the
    layers' names in the same order, each as the bytes of its UTF-8 text, filled up with zeros.
    """

    name = "eval.sensitivity"
    example: ClassVar[Mapping[str, Any]] = {"ratios": [0.5]}

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve | Picture | Array]:
        """The mean drop, two curves over layers, the scores of each layer and their picture."""
        watched = task.measures()[task.watch]
        x, y = "fraction that one layer loses", f"{task.watch} ({watched.unit})"
        return {
            "sensitivity_drop": Metric(
                "lower",
                watched.unit,
                f"{task.watch} lost where one layer loses a part; mean of layers, fractions",
            ),
            "sensitivity_mean": Curve(x, y, "mean over the layers"),
            "sensitivity_worst": Curve(x, y, "of the most sensitive layer"),
            "sensitivity": Array(
                f"{task.watch} where one layer loses a part", ("layer", "fraction lost, from 0")
            ),
            "sensitivity_layers": Array("the layers' names, as bytes of UTF-8", ("layer", "byte")),
            "sensitivity_picture": Picture(
                f"{task.watch} against the fraction that one layer loses, by layer"
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a model without a layer that can lose something."""
        from compressit_plugins.prune.sensitivity import measured

        how = self.config
        return measured(model, ctx, how.of, how.ratios, how.importance, how.ignore, how.time_limit)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Sensitivity]
