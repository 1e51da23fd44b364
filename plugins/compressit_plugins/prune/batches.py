"""Some training batches, for what looks at the data without training on them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from compressit import InputTensors, StageContext, each_tensor


def training_batches(
    ctx: StageContext, count: int, size: int, epoch: int
) -> Iterator[tuple[InputTensors, Tensor]]:
    """The first `count` batches of the epoch's order, with inputs in the stage's floating type."""
    for x, y in islice(ctx.data.train.batches(size, epoch), count):
        yield each_tensor(x, ctx.compute.typed), y
