"""Nets between nets: those whose weights are linear combinations of some weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressit import CompressitError, copied

Weights = Mapping[str, Tensor]
"""The parameters of a net that hold floats, by name."""


@dataclass(frozen=True)
class Span:
    """Nets of one structure with the weights Σ cᵢ · pointsᵢ. Buffers are those of the net that it was made of."""

    net: nn.Module  # a copy, whose weights change with every call
    points: tuple[Weights, ...]

    @staticmethod
    def of(model: nn.Module, *points: Weights) -> Span:
        """Of weights with the names and shapes of the model's own."""
        return Span(copied(model).eval().requires_grad_(False), points)

    @torch.no_grad()
    def at(self, coefficients: Sequence[float]) -> nn.Module:
        """The net with these coefficients, one for each point, until the next call. With one 1 and zeros else, the
        weights are that point's, bit for bit."""
        there = dict(self.net.named_parameters())
        for name in self.points[0]:
            there[name].copy_(mixed([point[name] for point in self.points], coefficients))
        return self.net


def mixed(values: Sequence[Tensor], coefficients: Sequence[float] | Sequence[Tensor]) -> Tensor:
    """Σ cᵢ · valuesᵢ, in their type; differentiable."""
    first, *others = (value * c for value, c in zip(values, coefficients, strict=True))
    return sum(others, first)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Its parameters of floats by name, without gradients, not copied."""
    return {name: p.detach() for name, p in model.named_parameters() if p.is_floating_point()}


def alike(model: nn.Module, other: nn.Module) -> bool:
    """Whether two nets have weights of the same names and shapes, so that there are nets between them.

    Raises CompressitError if they have, but scale their inputs differently: one set of inputs is then not the same to
    both.
    """
    shapes = [{name: p.shape for name, p in net.named_parameters()} for net in (model, other)]
    if shapes[0] != shapes[1]:
        return False
    hooks = [list(net._forward_pre_hooks.values()) for net in (model, other)]  # pyright: ignore[reportPrivateUsage]
    if hooks[0] != hooks[1]:
        raise CompressitError(
            "the two models scale their inputs by another mean and deviation, so no net lies between them",
            "compare models that were trained on data of the same scale",
        )
    return True
