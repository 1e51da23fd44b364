"""`shrink.fresh`: the capacity control, a narrower net trained directly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Compressor, FitConfig, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class FreshConfig(FitConfig):
    """Options of the capacity control."""

    width: float = Field(default=0.5, gt=0, lt=1, description="each hidden width times this, rounded up")


class Fresh(Compressor[FreshConfig]):
    """A narrower net trained from fresh weights on the variant's own labels: the control for shrinking."""

    name = "shrink.fresh"
    example: ClassVar[Mapping[str, Any]] = {"width": 0.5, "epochs": 3, "batch_size": 32}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Only the given model's architecture is used: what this net reaches owes nothing to a teacher."""
        from torch.nn import functional as F

        from compressit import fit
        from compressit_plugins.shrink.student import student_of

        student = student_of(model, ctx, self.config.width)
        train = ctx.data.train
        return fit(student, ctx, self.config, lambda epoch: train.tensors(), F.cross_entropy)

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student before it is trained. Raises CompressitError for a model that cannot be made narrower."""
        from compressit_plugins.shrink.student import student_of

        return student_of(model, ctx, self.config.width)

    def work(self, images: int, times: int) -> Work:
        """Every round takes as many steps, on an ever narrower net."""
        return Work(self.config.steps(images), self.config.batch_size, width=self.config.width**times)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `shrink.fresh`."""
    return [Fresh]
