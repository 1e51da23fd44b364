"""Measurements of one thing after another, which go on where they were when a run was killed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from compressit import StageContext


def each(ctx: StageContext, count: int, width: int, row: Callable[[int], list[float]]) -> Tensor:
    """What `row` gives for 0 … count - 1: (count, width) float64. Each row must not depend on the others.

    Saves what it has with `ctx.progress`, and asks only for the rows that are left.
    """
    done = torch.empty(0, width, dtype=torch.float64)
    saved = ctx.progress.load()
    if saved is not None:
        found = saved[0].get("rows", done)
        if found.ndim == 2 and found.shape[1] == width and len(found) <= count:
            done = found
        else:
            ctx.progress.refuse("it belongs to another measurement")
    for at in range(len(done), count):
        done = torch.cat([done, torch.tensor([row(at)], dtype=torch.float64)])
        if ctx.progress.due():
            ctx.progress.save({"rows": done}, {"rows": len(done)})
        ctx.emit({"epoch": at + 1, "epochs": count})
    return done
