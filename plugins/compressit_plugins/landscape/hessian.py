"""`eval.hessian`: the curvature of the training loss around a model's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Array, Config, Curve, Declared, Evaluator, Metric, Task, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class HessianConfig(Config):
    """Options of `eval.hessian`."""

    images: int = Field(
        2000, ge=1, description="training examples whose mean loss is looked at, at most all; drawn once"
    )
    eigenvalues: int = Field(5, ge=1, description="how many of the largest eigenvalues to find")
    probes: int = Field(
        10, ge=1, description="random vectors by which the trace and the density of eigenvalues are estimated"
    )
    steps: int = Field(
        40, ge=1, description="steps of Lanczos' method from each of them: how finely the density is resolved"
    )


class Hessian(Evaluator[HessianConfig]):
    """Largest eigenvalues, trace and spectral density of the Hessian of the mean training loss, in eval mode.

    Weights that were pruned, or are frozen, are not there. The numbers belong to a net's weights and not to the
    function that it computes: to multiply a layer before a ReLU or a batch norm, and divide after it, changes them
    (Dinh et al. 2017).
    """

    name = "eval.hessian"
    example: ClassVar[Mapping[str, Any]] = {"images": 32, "eigenvalues": 1, "probes": 2, "steps": 3}

    def declares(self, task: Task[Any]) -> Mapping[str, Declared]:
        """Four numbers, the density as a curve, and what they are made of."""
        return {
            "hessian_top": Metric("neither", "curvature", "largest eigenvalue of the Hessian"),
            "hessian_lowest": Metric(
                "neither",
                "curvature",
                "smallest that was seen from random vectors: the smallest is not above it",
            ),
            "hessian_trace": Metric("neither", "curvature", "sum of all eigenvalues, as estimated"),
            "hessian_trace_error": Metric("neither", "curvature", "standard error of the trace"),
            "hessian_density": Curve("eigenvalue of the Hessian", "density", "of the eigenvalues, smoothed"),
            "hessian_eigenvalues": Array("the largest eigenvalues, falling", ("rank",)),
            "hessian_quadrature": Array(
                "eigenvalues as seen from each random vector, and their shares",
                ("value or share", "vector", "node"),
            ),
        }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """Raises CompressitError for a net without weights, and where the eigenvalues are not found."""
        from compressit_plugins.landscape.spectrum import measured

        how = self.config
        return measured(model, ctx, how.images, how.eigenvalues, how.probes, how.steps)


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    """Registers `eval.hessian`."""
    return [Hessian]
