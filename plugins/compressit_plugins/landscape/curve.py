"""`train.curve`: a curve of low loss between two models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Trainer, Work, hookimpl
from compressit_plugins.landscape.curve_options import CurveConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


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
