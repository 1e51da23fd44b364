"""One input to trace a net with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit import InputTensors, StageContext, each_tensor, random_inputs


def one_input(model: nn.Module, ctx: StageContext) -> InputTensors:
    """An input (1, ...) on the stage's device: floats are zero, in the model's type; whole numbers are drawn from their
    range."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def of(drawn: Tensor) -> Tensor:
        drawn = torch.zeros_like(drawn, dtype=dtype) if drawn.is_floating_point() else drawn
        return drawn.to(ctx.compute.device)

    return each_tensor(random_inputs(ctx.data.contract.inputs, 1, torch.Generator().manual_seed(0)), of)
