"""`eval.critical_points`: minima and saddles of the training loss, and their index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Array, Config, Curve, Declared, Evaluator, Metric, Picture, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class CriticalPointsConfig(Config):
    """Options of `eval.critical_points`."""

    images: int = Field(
        300, ge=1, description="training examples whose mean loss is looked at, at most all; drawn once"
    )
    attempts: int = Field(60, ge=1, description="points to start from; each gives at most one critical point")
    l2: float = Field(
        0.01, ge=0, description="times half the squared length of the weights is added to the loss: without it, many "
        "losses have no critical point but at infinity"
    )  # fmt: skip
    descent: int = Field(
        2000, ge=0, description="steps of gradient descent from the net's weights, along which they lie, evenly spaced "
        "in loss; 0: all around the net"
    )  # fmt: skip
    steps: int = Field(150, ge=1, description="the most Newton steps from each")
    accept: float = Field(
        1e-8, gt=0, description="squared norm of the gradient below which a point counts as critical"
    )


class CriticalPoints(Evaluator[CriticalPointsConfig]):
    """Critical points of the training loss, found by Newton's method from perturbed points along a descent.

    The index of a point is the share of negative eigenvalues of its Hessian; the higher the loss, the higher it is
    (Dauphin et al. 2014; for Gaussian random fields Bray & Dean 2007). In float64. Points where Newton's method stops
    without a zero gradient are counted and left out: there are many such (Frye et al. 2021). For nets of at most 4,096
    weights, without the pruned ones, which are not there. Use smooth activations: a ReLU net's critical points may lie
    on kinks, which are not found.
    """

    name = "eval.critical_points"
    example: ClassVar[Mapping[str, Any]] = {"images": 16, "attempts": 1, "descent": 2, "steps": 1}

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """Counts, the relation of loss and index, and every point."""
        index = "share of negative eigenvalues of the Hessian"
        return {
            "critical_accepted": Metric(
                "neither", "count", "critical points found; the same one may come again"
            ),
            "critical_distinct": Metric("neither", "count", "of these, such as differ in loss or index"),
            "critical_rejected": Metric("neither", "count", "points where the gradient stayed too large"),
            "critical_flat": Metric(
                "neither", "count", "of the rejected, those whose gradient lies where the Hessian is zero"
            ),
            "critical_correlation": Metric(
                "neither", "Spearman", f"rank correlation of loss and {index}, over the accepted points"
            ),
            "critical_lowest_index": Metric(
                "neither", "fraction", f"{index}, mean over the tenth of lowest loss"
            ),
            "critical_index": Curve(
                "loss with the l2 term (nats)", "fraction", f"{index} at the accepted points"
            ),
            "critical_points": Array(
                "of each start: loss, index, squared norm of the gradient g, |Hg| / (|H| |g|), Newton steps, loss at "
                "the start",
                ("start", "number"),
            ),
            "critical_eigenvalues": Array("of the Hessian where each ended, rising", ("start", "rank")),
            "critical_picture": Picture(f"{index} against loss; beside it, of a Gaussian random field"),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a net of too many weights, or whose loss is not finite."""
        from compressit_plugins.landscape.critical import measured

        how = self.config
        return measured(model, ctx, how.images, how.attempts, how.l2, how.descent, how.steps, how.accept)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.critical_points`."""
    return [CriticalPoints]
