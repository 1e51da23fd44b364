"""A narrower net with fresh weights, for any architecture."""

from __future__ import annotations

from torch import nn

from compressit.contract.context import StageContext
from compressit.contract.measure import hidden_width
from compressit.errors import CompressitError


def student_of(model: nn.Module, ctx: StageContext, width: float) -> nn.Module:
    """The student of this stage: every hidden width of the model the ladder starts from times `width`, rounded up,
    once per rung; fresh weights. A model that does not declare how to be narrower gives its structurally pruned
    skeleton.

    Notes the share of the widest hidden layer that was `requested` and `achieved`: rounding up keeps more.
    Raises CompressitError when neither is possible.
    """
    student = ctx.narrower(width, ctx.times())
    if student is None:
        from compressit_plugins.shrink.skeleton import skeleton

        shape, seed = ctx.data.contract.shape, ctx.streams.number("student")
        student = skeleton(model, width, shape, seed, ctx.times())
    before, after = hidden_width(model), hidden_width(student)
    if before and after:
        ctx.note(requested=width ** ctx.times(), achieved=after / before)
    return student


def reset_parameters(model: nn.Module) -> None:
    """Fresh weights for every layer that knows how.

    Raises CompressitError naming a layer with parameters of its own that does not.
    """
    for name, module in model.named_modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif any(parameter.numel() for parameter in module.parameters(recurse=False)):
            raise CompressitError(
                f"'{name or 'the model'}' ({type(module).__name__}) cannot be given fresh weights",
                "give its class a reset_parameters method, or its model a `narrower`",
            )
