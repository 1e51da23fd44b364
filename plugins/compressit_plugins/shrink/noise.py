"""`shrink.noise`: a narrower student fitted to noise that the teacher labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from compressit.config import ModelRef
from compressit.fit_options import FitConfig
from compressit.hookspecs import hookimpl
from compressit.kinds import Compressor, Work

if TYPE_CHECKING:
    from torch import nn

    from compressit.context import StageContext


class NoiseConfig(FitConfig):
    """Options of `shrink.noise`."""

    width: float = Field(gt=0, lt=1, description="every hidden width times this, rounded up, at each rung")
    noise: Literal["uniform", "gaussian", "pixel", "covariance"] = Field(
        "uniform",
        description="uniform: pixels in [0, 1]; gaussian: one mean and deviation for all pixels; pixel: each pixel's "
        "own; covariance: the full covariance. All but uniform take their statistics from the training inputs",
    )
    redraw: Literal["epoch", "rung", "never"] = Field(
        "epoch", description="new noise every epoch, once for each rung, or once for the whole ladder"
    )
    images: int = Field(60000, ge=1, description="noise images in an epoch")
    labels: Literal["hard", "soft", "logits"] = Field(
        "logits",
        description="what of the teacher's answer is matched: its class (cross-entropy), its probabilities "
        "(cross-entropy at `temperature`), or its logits (mean squared error)",
    )
    temperature: float = Field(1.0, gt=0, description="softmax temperature of soft labels")
    teacher: ModelRef = Field(
        "previous", description="the stage (or checkpoint) whose model labels the noise"
    )
    track: bool = Field(
        True,
        description="log the accuracy on the original data after 1, 2, 4, 8 ... epochs (nothing is selected by it)",
    )


class NoiseShrinking(Compressor[NoiseConfig]):
    """Fit a narrower net to noise labelled by the teacher: what generalised should survive, what was memorised not."""

    name = "shrink.noise"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The trained student."""
        from compressit_plugins.shrink.noise_fit import fit_to_noise
        from compressit_plugins.shrink.student import student_of

        student = student_of(model, ctx, self.config.width)
        return fit_to_noise(student, ctx.model(self.config.teacher), ctx, self.config)

    def work(self, images: int, rung: int) -> Work:
        """Students get narrower with the rung; the teacher labels every drawn image."""
        c = self.config
        draws = c.epochs if c.redraw == "epoch" else 1
        return Work(c.steps(c.images), c.batch_size, c.width**rung, c.images * draws)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers the plugin."""
    return [NoiseShrinking]
