"""Empties a dry run's weights, since only shapes matter, and where zeros are: stored compactly, the model is 30 times
smaller."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compressit.contract.nets import copied
from compressit.contract.zeros import from_pruning


def emptied(model: nn.Module) -> nn.Module:
    """A copy with all floating-point parameters set to zero; those with zeros from pruning to one, but for their first
    value."""
    empty = copied(model)
    with torch.no_grad():
        for parameter in _weights(empty):
            pruned = _pruned(parameter)
            parameter.fill_(float(pruned))
            if pruned:
                parameter[(0,) * parameter.ndim] = 0
    return empty


def refill(model: nn.Module, generator: torch.Generator) -> None:
    """Fills an emptied model with random weights, scaled so that each layer keeps the size of its inputs. Where it had
    zeros from pruning, one is left: later stages know such matrices by it."""
    with torch.no_grad():
        for parameter in _weights(model):
            pruned = _pruned(parameter)
            drawn = torch.rand(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                drawn = (drawn - 0.5) * (12 / parameter[0].numel()) ** 0.5
            if pruned:
                drawn[(0,) * drawn.ndim] = 0
            parameter.copy_(drawn)


def _pruned(parameter: Tensor) -> bool:
    return from_pruning(parameter.shape, parameter.numel() - int(parameter.count_nonzero()))


def _weights(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.is_floating_point() and p.numel()]
