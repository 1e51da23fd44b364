"""A narrower net with fresh weights, for any architecture."""

from __future__ import annotations

from torch import nn

from compressit import StageContext, hidden_width


def student_of(model: nn.Module, ctx: StageContext, width: float) -> nn.Module:
    """The student of this stage: every hidden width of the model the rounds start from times `width`, rounded up,
    once per round; fresh weights. A model that does not declare how to be narrower gives its structurally pruned
    skeleton.

    Notes the share of the widest hidden layer that was `requested` and `achieved`: rounding up keeps more.
    Raises CompressitError when neither is possible.
    """
    student = ctx.with_width(width, ctx.times())
    if student is None:
        from compressit_plugins.shrink.skeleton import skeleton

        shape, seed = ctx.data.contract.shape, ctx.streams.number("student")
        student = skeleton(model, width, shape, seed, ctx.times())
    before, after = hidden_width(model), hidden_width(student)
    if before and after:
        ctx.note(requested=width ** ctx.times(), achieved=after / before)
    return student
