"""`shrink.fresh`: a narrower net trained directly, as a control for capacity."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Compressor, hookimpl
from compressit_plugins.shrink.student import Student, StudentConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Fresh(Student[StudentConfig]):
    """A narrower net trained from fresh weights on the training labels: the control for shrinking."""

    name = "shrink.fresh"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Uses only the architecture of the given model: there is no teacher."""
        from torch.nn import functional as F

        from compressit import fit

        student = self.student(model, ctx)
        return fit(student, ctx, self.config, ctx.data.train, F.cross_entropy)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [Fresh]
