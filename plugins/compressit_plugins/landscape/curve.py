"""`train.curve`: a curve of low loss between two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import FitConfig, ModelRef, Trainer, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class CurveConfig(FitConfig):
    """Options of training a curve."""

    other: ModelRef = Field(description="the model at the other end of the curve; both ends stay as they are")
    kind: Literal["bezier", "polygon"] = Field(
        "bezier",
        description="bezier: a Bézier curve, quadratic with one bend; polygon: straight from bend to bend",
    )
    bends: int = Field(1, ge=1, le=8, description="points between the ends, which are trained")
    at: float = Field(
        0.5, ge=0, le=1, description="which place of the curve the stage gives: 0 is the model, 1 `other`"
    )
    points: int = Field(
        61, ge=3, le=200, description="places, with both ends, where loss and score are measured"
    )
    images: int = Field(2000, ge=1, description="training examples that they are measured on, at most all")


class Curve(Trainer[CurveConfig]):
    """Mode connectivity: a curve of weights from the model to another one along which the training loss stays low.

    Garipov et al. 2018, "Loss surfaces, mode connectivity, and fast ensembling of DNNs": every step draws a place of
    the curve uniformly and trains its bends by the loss there. Draxler et al. 2018, "Essentially no barriers in neural
    network energy landscape", bend a polygon with springs instead. Bends begin on the straight line.

    Logs the curves `curve_loss` and that of the score (`curve_accuracy`) against the place from 0 to 1, on training
    examples; batch norms get new statistics at every place, also in the net that is given. Notes `curve_highest_loss`
    and `curve_end_loss`, the mean of both ends. Keeps the array `bends`, (bends, weights), the parameters one after the
    other. Weights that are zero in both models by pruning stay zero on the whole curve.
    """

    name = "train.curve"
    example: ClassVar[Mapping[str, Any]] = {
        "other": "init",
        "epochs": 2,
        "batch_size": 32,
        "points": 5,
        "images": 64,
    }

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Never uses the test split. Raises CompressitError if the other model has other shapes."""
        from compressit_plugins.landscape.connecting import connect

        return connect(model, ctx, self.config)

    def work(self, images: int) -> Work:
        """The configured steps, and what measures the curve."""
        config = self.config
        forwards = config.points * min(images, config.images)
        return Work(config.total_steps(images), config.images_per_step(images), forwards=forwards)


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Curve]
