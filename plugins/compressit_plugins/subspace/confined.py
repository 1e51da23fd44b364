"""A net whose weights lie in a random subspace: what the training loop trains in the net's place."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from compressit_plugins.subspace.bases import Basis
from compressit_plugins.subspace.norms import norm


class Confined(nn.Module):
    """Answers as `net` does with the weights anchor · start + P · coordinates: the net's own values, and a basis P of
    directions in those that are not pruned.

    In a subspace the anchor is 1, and the coordinates (dimension,) learn. On a sphere the start has norm 1 and the
    anchor, first the radius, learns too: all directions of this sphere, of that many dimensions, are alike.
    """

    def __init__(
        self, net: nn.Module, basis: Basis, kept: Mapping[str, Tensor], dimension: int, radius: float | None
    ) -> None:
        """`kept`: for each parameter that learns the places that P spans, flat, ascending, int64."""
        super().__init__()
        self.net = net
        self.radius = radius
        own = [net.get_parameter(name) for name in kept]
        if radius is not None:
            with torch.no_grad():
                unit = 1 / norm(own)
                for parameter in own:
                    parameter.mul_(unit)
        self.coordinates = nn.Parameter(own[0].new_zeros(dimension))
        anchor = own[0].new_tensor(1.0 if radius is None else radius)
        self.anchor = nn.Parameter(anchor, requires_grad=radius is not None)
        self._basis = basis
        self._kept = dict(kept)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The net's outputs."""
        return functional_call(self.net, self.weights(), inputs, named)

    def weights(self) -> dict[str, Tensor]:
        """The values of the parameters that learn, by name."""
        with torch.autocast(self.coordinates.device.type, enabled=False):
            moved = self._basis.expand(self.coordinates)
            parts = moved.split([len(at) for at in self._kept.values()])
            return {
                name: self.anchor * (own := self.net.get_parameter(name)) + _placed(part, at, own)
                for (name, at), part in zip(self._kept.items(), parts, strict=True)
            }

    @torch.no_grad()
    def return_to_sphere(self) -> None:
        """Multiplies all weights by one factor, so that their norm is the radius; does nothing without one."""
        if self.radius is not None:
            factor = self.radius / norm(self.weights().values())
            self.anchor.mul_(factor)
            self.coordinates.mul_(factor)

    @torch.no_grad()
    def settle(self) -> None:
        """Gives the net itself these weights."""
        for name, value in self.weights().items():
            self.net.get_parameter(name).copy_(value)


def _placed(values: Tensor, at: Tensor, like: Tensor) -> Tensor:
    """`values` at these places of a tensor of zeros that is shaped as `like`."""
    if len(at) == like.numel():
        return values.view(like.shape)
    return values.new_zeros(like.numel()).index_copy(0, at, values).view(like.shape)


@contextmanager
def confined(
    net: nn.Module, basis: Basis, kept: Mapping[str, Tensor], dimension: int, radius: float | None = None
) -> Generator[Confined]:
    """A block in which the net's own parameters do not learn. At its end, the net has the weights that were found."""
    parameters = [net.get_parameter(name) for name in kept]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        inside = Confined(net, basis, kept, dimension, radius)
        yield inside
        inside.settle()
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
