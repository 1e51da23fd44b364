"""Zeroes a dry run's weights, since only shapes matter: stored compactly, the model is 30 times smaller."""

from __future__ import annotations

import torch
from torch import nn

from compressit.contract.nets import copied


def emptied(model: nn.Module) -> nn.Module:
    """A copy with all floating-point parameters set to zero."""
    empty = copied(model)
    with torch.no_grad():
        for parameter in _weights(empty):
            parameter.zero_()
    return empty


def refill(model: nn.Module, generator: torch.Generator) -> None:
    """Fills an emptied model with random weights, scaled so that each layer keeps the size of its inputs."""
    with torch.no_grad():
        for parameter in _weights(model):
            drawn = torch.rand(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                drawn = (drawn - 0.5) * (12 / parameter[0].numel()) ** 0.5
            parameter.copy_(drawn)


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.is_floating_point() and p.numel()]
