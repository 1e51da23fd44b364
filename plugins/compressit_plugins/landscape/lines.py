"""What `eval.barrier` measures on the line to another model."""

from __future__ import annotations

import numpy as np
from torch import nn

from compressit import StageContext
from compressit_plugins.landscape.span import Span, alike, weights_of
from compressit_plugins.landscape.walk import Ground, walk


def barrier(
    model: nn.Module, ctx: StageContext, other: nn.Module, points: int, images: int
) -> dict[str, float]:
    """The numbers of `eval.barrier`; logs its curves. Empty where there is no line. Changes neither model."""
    if not alike(model, other):
        return {}
    shares = np.linspace(0, 1, points)
    span = Span.of(model, weights_of(model), weights_of(other))
    found = walk(Ground.of(ctx, images), span, [(1 - share, share) for share in shares])
    for name, values in found.items():
        for share, value in zip(shares, values, strict=True):
            ctx.log(share, **{f"barrier_{name}": value})
    task = ctx.task
    losses, scores = found["loss"], found[task.watch]
    if task.measures()[task.watch].better == "higher":
        scores = -scores
    ends = _ends(losses)
    numbers = {"barrier": losses.max() - ends, "barrier_drop": scores.max() - _ends(scores)}
    if ends > 0:
        numbers["barrier_ratio"] = losses.max() / ends
    return {name: float(value) for name, value in numbers.items()}


def _ends(values: np.ndarray) -> float:
    return float(values[0] + values[-1]) / 2
