"""Some training batches, for what looks at the data without training on them."""

from __future__ import annotations

from itertools import islice

from torch import Tensor

from compressit import InputTensors, StageContext, each_tensor


def some_batches(ctx: StageContext, count: int, size: int, epoch: int) -> list[tuple[InputTensors, Tensor]]:
    """The first `count` batches of the epoch's order, with inputs in the stage's floating type."""
    batches = islice(ctx.data.train.batches(size, epoch), count)
    return [(each_tensor(x, ctx.compute.typed), y) for x, y in batches]
