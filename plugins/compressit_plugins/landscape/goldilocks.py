"""`eval.goldilocks`: how convex the loss is at each distance from zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, field_validator

from compressit import Config, Curve, Declared, Evaluator, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class GoldilocksConfig(Config):
    """Options of `eval.goldilocks`."""

    images: int = Field(
        2000, ge=1, description="training examples whose mean loss is looked at, at most all; drawn once"
    )
    dimensions: int = Field(50, ge=2, description="of each random plane; at most the number of weights")
    planes: int = Field(1, ge=1, description="random planes to average over; the same at every radius")
    radii: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.1, 0.2, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 7.0, 12.0, 25.0, 50.0),
        min_length=1,
        description="distances from zero to look at, in units of the radius at which Glorot & Bengio (2010) start",
    )
    temperature: float = Field(
        1.0, gt=0, description="outputs are divided by this before the loss, as logits before a softmax"
    )

    @field_validator("radii")
    @classmethod
    def _differ(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) != len(values):
            raise ValueError("must differ from each other")
        return values


class Goldilocks(Evaluator[GoldilocksConfig]):
    """The Hessian of the training loss in a random plane, at the net's weights scaled to several lengths.

    After Fort & Scherlis 2019, "The Goldilocks zone": in a shell of radii, most of its eigenvalues are positive. Where
    it lies depends on how far apart the logits are that a softmax sees (Vysogorets, Dawid & Kempe 2024), so their scale
    is given too. All weights are scaled alike; the radius is that of matrices and kernels alone. Batch norms measure
    their statistics again at each point. Pruned weights are not there, neither in the plane nor in either radius.
    Of a ReLU net whose layers are scaled up and down the function is the same, and these numbers are not.
    """

    name = "eval.goldilocks"
    example: ClassVar[Mapping[str, Any]] = {"images": 32, "dimensions": 3, "radii": [0.5, 1.0]}

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """Numbers at the net's own radius and of the peak; curves over the radii."""
        at = "length of the weights / Glorot radius"
        positive = "share of positive eigenvalues of the Hessian in a random plane"
        trace = "trace of the Hessian in a random plane by its Frobenius norm"
        logits = "how far apart the outputs of an example are, divided by the temperature (root mean square)"
        return {
            "goldilocks_positive": Metric("neither", "fraction", f"{positive}, at the net's weights"),
            "goldilocks_trace_norm": Metric("neither", "ratio", f"{trace}, at the net's weights"),
            "goldilocks_logit_scale": Metric("neither", "nats", f"{logits}, at the net's weights"),
            "goldilocks_radius": Metric("neither", "ratio", at),
            "goldilocks_glorot_radius": Metric(
                "neither", "length", "expected length of these weights as Glorot & Bengio (2010) draw them"
            ),
            "goldilocks_peak": Metric("neither", "fraction", f"{positive}, the largest of all radii"),
            "goldilocks_peak_radius": Metric("neither", "ratio", f"{at}, where that is"),
            "goldilocks_flat": Metric(
                "neither",
                "count",
                "radii left out, since the Hessian's norm there is below 1e-8 or not finite",
            ),
            "goldilocks_positive_at": Curve(at, "fraction", positive),
            "goldilocks_trace_norm_at": Curve(at, "ratio", trace),
            "goldilocks_logit_scale_at": Curve(at, "nats", logits),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """No numbers for a net whose weights are zero or not finite. Raises CompressitError for one without weights."""
        from compressit_plugins.landscape.plane import measured

        how = self.config
        return measured(model, ctx, how.images, how.dimensions, how.planes, how.radii, how.temperature)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.goldilocks`."""
    return [Goldilocks]
