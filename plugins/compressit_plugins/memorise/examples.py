"""Some training examples, the same for every model that is measured."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from compressit import InputTensors, StageContext, each_tensor


@dataclass(frozen=True)
class Examples:
    """`x`: inputs (N, ...) in the model's floating type. `places` (N,) int64: where they are in the training split."""

    x: InputTensors
    y: Tensor
    places: Tensor


def drawn_examples(ctx: StageContext, images: int) -> Examples:
    """Training examples with the variant's targets, drawn without replacement from the stream "examples"; all in their
    stored order if there are no more than `images`. Never augmented."""
    import torch

    split = ctx.data.train
    places = torch.arange(len(split), device=split.y.device)
    if images < len(split):
        generator = ctx.streams.generator("examples")
        places = torch.randperm(len(split), generator=generator)[:images].to(split.y.device)
    x, y = next(split.visit([places]))
    return Examples(each_tensor(x, ctx.compute.typed), y, places)
