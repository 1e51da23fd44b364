"""A narrower student of the model a stage is given: where `shrink.fresh` and `distill.soft_labels` start."""

from __future__ import annotations

from torch import nn

from compressit.context import StageContext
from compressit.errors import CompressitError


def narrower_student(ctx: StageContext, width: float) -> nn.Module:
    """Fresh weights, every hidden width times `width` (0 < width < 1), once per rung of a ladder.

    Raises CompressitError when the architecture does not say how to make itself narrower.
    """
    student = ctx.narrower(width, ctx.times())
    if student is None:
        raise CompressitError(
            "the model does not say how to make itself narrower",
            "start from a model plugin that defines `narrower`, such as model.mlp or model.convnet",
        )
    return student
