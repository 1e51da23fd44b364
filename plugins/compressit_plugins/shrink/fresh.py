"""`shrink.fresh`: the capacity control, a narrower net trained directly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compressit import Compressor, hookimpl
from compressit_plugins.shrink.student import Student, StudentConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Fresh(Student[StudentConfig]):
    """A narrower net trained from fresh weights on the variant's own labels: the control for shrinking."""

    name = "shrink.fresh"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Only the given model's architecture is used: what this net reaches owes nothing to a teacher."""
        from torch.nn import functional as F

        from compressit import fit

        student = self.student(model, ctx)
        return fit(student, ctx, self.config, ctx.data.train, F.cross_entropy)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [Fresh]
