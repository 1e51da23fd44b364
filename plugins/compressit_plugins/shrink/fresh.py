"""`shrink.fresh`: a narrower net trained directly, as a control for capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Compressor, hookimpl
from compressit_plugins.shrink.student import Student, StudentConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Fresh(Student[StudentConfig]):
    """A narrower net trained from fresh weights on the training targets: the control for shrinking."""

    name = "shrink.fresh"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Uses only the architecture of the given model: there is no teacher."""
        from compressit import fit

        student, train = self.student(model, ctx), ctx.data.train
        return fit(student, ctx, self.config, train, ctx.task.objective(train.y))


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [Fresh]
