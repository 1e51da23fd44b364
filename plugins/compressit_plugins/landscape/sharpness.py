"""`eval.sharpness`: how much the loss rises near the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Evaluator, Metric, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SharpnessConfig(Config):
    """Options of `eval.sharpness`."""

    epsilon: float = Field(
        1e-3, gt=0, description="size of the box: each weight w moves by at most epsilon * (|w| + 1)"
    )
    iterations: int = Field(
        10, ge=1, description="iterations of L-BFGS-B that look for the highest loss in the box"
    )
    rho: float = Field(0.05, gt=0, description="radius of the ball: length of the step along the gradient")
    adaptive_rho: float = Field(
        0.5, gt=0, description="radius of the ball in which each weight is measured by its own size"
    )
    images: int = Field(2000, ge=1, description="training examples that the loss is measured on, at most all")


class Sharpness(Evaluator[SharpnessConfig]):
    """How much higher the training loss is near the weights, by three measures. Pruned weights stay zero.

    `sharpness` is that of Keskar et al. 2017, "On large-batch training for deep learning", in the space of all weights:
    100 * (highest - loss) / (1 + loss) in the box |y| ≤ epsilon * (|w| + 1). The highest loss is what L-BFGS-B finds,
    from the weights themselves, so it is a lower bound; where the gradient is exactly zero, it finds nothing.

    `sharpness_ball` is the rise after the one step of sharpness-aware minimisation (Foret et al. 2021), of length rho
    along the gradient. `sharpness_adaptive` is that of ASAM (Kwon et al. 2021): the step rho * w² g / ‖w g‖, for all
    parameters and without the constant that the authors add to |w|.

    ReLU layers can pass a positive factor on to the next layer without changing the function (Dinh et al. 2017, "Sharp
    minima can generalize for deep nets"), and so can weights before batch norms. `sharpness_adaptive` does not change
    by that. `sharpness` and `sharpness_ball` do: with them compare nets that were trained alike. None of them tells
    nets apart that were trained on other data. Batch norms keep their running statistics.
    """

    name = "eval.sharpness"
    example: ClassVar[Mapping[str, Any]] = {"iterations": 2, "images": 64}
    metrics = {  # noqa: RUF012
        "sharpness": Metric("lower", "percent", "100 * (highest loss in a box - loss) / (1 + loss)"),
        "sharpness_ball": Metric("lower", "loss", "rise of the training loss after a step of length rho"),
        "sharpness_adaptive": Metric(
            "lower", "loss", "as `sharpness_ball`, each weight measured by its own size"
        ),
    }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """All three, in float64. Raises CompressitError for a net without weights."""
        import torch

        from compressit_plugins.landscape.ascent import sharpness
        from compressit_plugins.landscape.surface import Surface

        how = self.config
        surface = Surface.of(model, ctx, how.images, torch.float64)
        return sharpness(surface, how.epsilon, how.iterations, how.rho, how.adaptive_rho)

    def work(self, images: int) -> Work:
        """A gradient of all examples for each iteration, and a few more."""
        return Work(self.config.iterations + 4, min(images, self.config.images))


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Sharpness]
