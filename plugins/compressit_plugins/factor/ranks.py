"""Chooses the ranks of all layers together: plain numbers, no torch."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate


@dataclass(frozen=True)
class Layer:
    """What ranks of a layer cost, and what they keep."""

    energies: Sequence[float]  # of its directions, from the largest; at least 0
    whole: int  # the cost of the layer as it is
    unit: int  # the cost of each rank

    @property
    def most(self) -> int:
        """The largest rank that costs less than the layer as it is; 0 if there is none."""
        return min((self.whole - 1) // self.unit, len(self.energies))

    @cached_property
    def kept(self) -> Sequence[float]:
        """The fraction of the energy that each rank keeps, from rank 0."""
        total = math.fsum(self.energies)
        sums = [0.0, *accumulate(self.energies)]
        return [min(part / total, 1.0) for part in sums] if total else [1.0] * len(sums)

    def loss(self, rank: int | None) -> float:
        """The negative logarithm of the energy that is kept: 0 for the layer as it is (None), convex in the rank."""
        return 0.0 if rank is None else -math.log(max(self.kept[rank], 1e-300))

    def cost(self, rank: int | None) -> int:
        return self.whole if rank is None else rank * self.unit


def within_budget(layers: Sequence[Layer], budget: float) -> list[int | None] | None:
    """A rank for each layer, None for one that stays as it is, so that all cost at most `budget` together, which is
    less than they cost now. None if rank 1 everywhere costs more.

    Maximises the product of the energies that the layers keep, as Zhang et al. do ("Accelerating very deep
    convolutional networks for classification and detection", 2016, section 2.4): in each step the layer gives up a rank
    that loses the least of the logarithm per cost that it saves. The step from a layer as it is to a product is to the
    rank where that is least. What the last step saved too much is given back, rank by rank, until no more fits.
    """
    ranks: list[int | None] = [None] * len(layers)
    left = budget - sum(layer.whole for layer in layers)
    moves = [(*move, at) for at, layer in enumerate(layers) if (move := _down(layer, None)) is not None]
    heapq.heapify(moves)
    while left < 0:
        if not moves:
            return None
        _, rank, at = heapq.heappop(moves)
        left += layers[at].cost(ranks[at]) - layers[at].cost(rank)
        ranks[at] = rank
        if (move := _down(layers[at], rank)) is not None:
            heapq.heappush(moves, (*move, at))
    while back := [
        (gain, at, rank)
        for at, layer in enumerate(layers)
        if ranks[at] is not None
        for gain, rank in _up(layer, ranks[at], left)
    ]:
        _, at, rank = max(back, key=lambda move: (move[0], -move[1]))
        left -= layers[at].cost(rank) - layers[at].cost(ranks[at])
        ranks[at] = rank
    return ranks


def for_energy(layer: Layer, share: float) -> int | None:
    """The smallest rank that keeps this share of the layer's energy; None if it costs as much as the layer."""
    return next((rank for rank in range(1, layer.most + 1) if layer.kept[rank] >= share), None)


def _down(layer: Layer, rank: int | None) -> tuple[float, int] | None:
    """The next smaller rank, with the loss per cost that it saves; None if there is none."""
    lower = range(1, layer.most + 1) if rank is None else range(rank - 1, max(rank - 2, 0), -1)
    return min(
        (((layer.loss(r) - layer.loss(rank)) / (layer.cost(rank) - layer.cost(r)), r) for r in lower),
        default=None,
    )


def _up(layer: Layer, rank: int | None, left: float) -> Iterator[tuple[float, int | None]]:
    """What is next above a rank and costs at most `left` more, with the gain per cost."""
    assert rank is not None
    higher = rank + 1 if rank < layer.most else None
    more = layer.cost(higher) - layer.cost(rank)
    if more <= left:
        yield (layer.loss(rank) - layer.loss(higher)) / more, higher
