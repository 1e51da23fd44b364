"""What a dry run keeps of a model: its shapes, which take a thirtieth of its room once the weights are zero."""

from __future__ import annotations

import torch
from torch import nn

from compressit.contract.nets import copied


def emptied(model: nn.Module) -> nn.Module:
    """A copy whose floating parameters are zero."""
    empty = copied(model)
    with torch.no_grad():
        for parameter in _weights(empty):
            parameter.zero_()
    return empty


def refill(model: nn.Module, generator: torch.Generator) -> None:
    """Gives an emptied model weights as fresh ones are about: those of a layer keep the size of what they are given."""
    with torch.no_grad():
        for parameter in _weights(model):
            drawn = torch.rand(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                drawn = (drawn - 0.5) * (12 / parameter[0].numel()) ** 0.5
            parameter.copy_(drawn)


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.is_floating_point() and p.numel()]
