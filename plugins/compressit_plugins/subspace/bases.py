"""Random bases of subspaces: linear maps of a few coordinates to all weights of a net."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from scipy.linalg import hadamard
from torch import Tensor
from torch.nn import functional as F

from compressit import CompressitError

Kind = Literal["dense", "sparse", "fastfood"]

DENSE_BYTES = 2**31
"""The largest dense basis."""
_FACTOR = 64  # of a Hadamard transform that is one matrix product


class Basis(ABC):
    """P, (weights, dimension): columns of unit norm in random directions. Never changes, so copies share it."""

    @abstractmethod
    def expand(self, coordinates: Tensor) -> Tensor:
        """P times `coordinates` (dimension,): (weights,), of their type. Gradients flow back as P^T."""

    def __deepcopy__(self, memo: Mapping[int, object]) -> Basis:
        return self


def drawn(
    kind: Kind, weights: int, dimension: int, generator: torch.Generator, device: str, dtype: torch.dtype
) -> Basis:
    """A random basis on `device`. `generator`: on the CPU, so that its numbers are the same on every device."""
    return _KINDS[kind](weights, dimension, generator, device, dtype)


def check_size(kind: Kind, weights: int, dimension: int, dtype: torch.dtype) -> None:
    """Raises CompressitError for more dimensions than weights, and for a dense basis above DENSE_BYTES."""
    if dimension > weights:
        raise CompressitError(
            f"a subspace of {dimension:,} dimensions does not fit into {weights:,} weights",
            f"choose a `dimension` of at most {weights}",
        )
    size = weights * dimension * dtype.itemsize
    if kind == "dense" and size > DENSE_BYTES:
        raise CompressitError(
            f"a dense basis of {weights:,} x {dimension:,} numbers takes {size / 2**30:.1f} GiB, above the limit "
            f"of {DENSE_BYTES // 2**30}",
            "use `basis: sparse` or `basis: fastfood`",
        )


@dataclass(frozen=True, eq=False)
class Dense(Basis):
    """Independent Gaussian directions."""

    columns: Tensor  # (weights, dimension)

    def expand(self, coordinates: Tensor) -> Tensor:
        return self.columns @ coordinates


@dataclass(frozen=True, eq=False)
class Sparse(Basis):
    """Entries of equal size and random sign at few random places of each column."""

    weights: int
    places: Tensor  # (entries, dimension) int64: the rows of each column's entries
    entries: Tensor  # of the same shape

    def expand(self, coordinates: Tensor) -> Tensor:
        spread = (self.entries * coordinates).flatten()
        return spread.new_zeros(self.weights).index_add(0, self.places.flatten(), spread)


@dataclass(frozen=True, eq=False)
class Fastfood(Basis):
    """Blocks H G Π H B of size n, the next power of two of the dimension, one below the other: random signs B, a random
    order Π, Gaussian factors G, and Hadamard transforms H, which need no matrix."""

    weights: int
    signs: Tensor  # (blocks, n)
    order: Tensor  # (blocks, n) int64
    factors: Tensor  # (blocks, n)

    def expand(self, coordinates: Tensor) -> Tensor:
        padded = F.pad(coordinates, (0, self.signs.shape[1] - len(coordinates)))
        mixed = walsh_hadamard(padded * self.signs).gather(1, self.order)
        return walsh_hadamard(mixed * self.factors).flatten()[: self.weights]


def walsh_hadamard(x: Tensor) -> Tensor:
    """Each row of `x` (B, n), n a power of two, times the Hadamard matrix of size n (Sylvester's, not scaled)."""
    sizes, left = [], x.shape[1]
    while left > 1:
        sizes.append(min(left, _FACTOR))
        left //= sizes[-1]
    y = x.reshape(len(x), *sizes)
    for size in sizes:  # the matrix is the Kronecker product of small ones: one for each axis
        y = y.movedim(1, -1) @ torch.from_numpy(hadamard(size)).to(x)
    return y.reshape(x.shape)


def _dense(
    weights: int, dimension: int, generator: torch.Generator, device: str, dtype: torch.dtype
) -> Dense:
    columns = torch.randn(weights, dimension, generator=generator).to(device, dtype)
    return Dense(columns.div_(torch.linalg.vector_norm(columns, dim=0)))


def _sparse(
    weights: int, dimension: int, generator: torch.Generator, device: str, dtype: torch.dtype
) -> Sparse:
    """√weights entries in each column, as many as Li, Hastie & Church 2006 ("Very sparse random projections") have in
    the mean: one in each of as many equal stretches of the weights, so that no two fall together."""
    count = math.isqrt(weights)
    starts = torch.arange(count + 1) * weights // count
    drawn = torch.rand(count, dimension, generator=generator, dtype=torch.float64)
    places = starts[:-1, None] + (drawn * starts.diff()[:, None]).long()
    signs = torch.randint(0, 2, (count, dimension), generator=generator) * 2 - 1
    return Sparse(weights, places.to(device), signs.to(device, dtype) / math.sqrt(count))


def _fastfood(
    weights: int, dimension: int, generator: torch.Generator, device: str, dtype: torch.dtype
) -> Fastfood:
    """Le, Sarlós & Smola 2013. Every column of a whole block has the norm √n |G|; those of the last block are cut off
    at the number of weights, so norms are 1 only about."""
    n = 1 << (dimension - 1).bit_length()
    shape = -(-weights // n), n
    signs = torch.randint(0, 2, shape, generator=generator) * 2 - 1
    order = torch.stack([torch.randperm(n, generator=generator) for _ in range(shape[0])])
    factors = torch.randn(shape, generator=generator, dtype=torch.float64)
    factors *= math.sqrt(shape[0] / weights) / factors.norm()
    return Fastfood(weights, signs.to(device, dtype), order.to(device), factors.to(device, dtype))


_KINDS: Mapping[Kind, Callable[[int, int, torch.Generator, str, torch.dtype], Basis]] = {
    "dense": _dense,
    "sparse": _sparse,
    "fastfood": _fastfood,
}
