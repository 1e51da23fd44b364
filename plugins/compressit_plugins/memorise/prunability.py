"""`eval.prunability`: how few weights keep the training loss (Kuhn et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Curve, Evaluator, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class PrunabilityConfig(Config):
    """Options of `eval.prunability`."""

    eps: float = Field(
        default=0.1, gt=0, description="by how much the training loss may rise: a fraction of the model's own"
    )
    images: int = Field(
        default=2000, ge=1, description="training examples of the loss, drawn by chance; at most all"
    )
    points: int = Field(
        default=25,
        ge=2,
        description="fractions that are tried from 1 to `least`, at even ratios: those of the curves",
    )
    least: float = Field(default=0.001, gt=0, lt=1, description="the smallest of these fractions")


class Prunability(Evaluator[PrunabilityConfig]):
    """The smallest fraction of the weights that keeps the training loss, by size and, as a control, by chance.

    Kuhn et al. 2021, "Robustness to pruning predicts generalization in deep neural networks" (arXiv 2103.06002). The
    weights are those of all weight matrices together; pruned ones are not there, so the fraction is of the others.
    Nothing is trained again, and statistics of batch norms stay as they are.

    How it is searched: the fractions of a grid, from 1 down to the first whose loss is more than 1 + `eps` times the
    model's own; then by bisection, between this one and the one before, to a single weight. So it is where the loss
    first leaves the bound, though it may fall again below. A loss near 0 makes the bound narrow: nets that were
    trained to different losses differ by that too. Nor is it invariant to a rescaling of layers that leaves a ReLU
    net's function as it is, since sizes are compared across layers.
    """

    name = "eval.prunability"
    example: ClassVar[Mapping[str, Any]] = {"images": 32, "points": 4}

    def declares(self, task: Task[Any]) -> Mapping[str, Metric | Curve]:
        """The fraction and its control, the number of weights, the loss, and a curve of each."""
        fraction = f"of the weights, at which the training loss stays within {self.config.eps:.0%} of its own"
        x, y = "fraction of the weights", f"training loss ({task.name})"
        return {
            "prunability": Metric("neither", "fraction", f"smallest, {fraction}; the largest are kept"),
            "random_prunability": Metric("neither", "fraction", f"smallest, {fraction}; chosen by chance"),
            "prunability_weights": Metric("neither", "weights", "as many as `prunability` keeps"),
            "prunability_loss": Metric(
                "lower", "of the loss", "the model's own, on the examples that are looked at"
            ),
            "pruned_loss": Curve(x, y, "where only the largest weights are kept"),
            "random_pruned_loss": Curve(x, y, "where weights chosen by chance are kept"),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Only the loss, if that is not finite. Raises NoEffectError for a model without a weight matrix."""
        from compressit_plugins.memorise.pruned_losses import prunability

        how = self.config
        return prunability(model, ctx, how.eps, how.images, how.points, how.least)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.prunability`."""
    return [Prunability]
