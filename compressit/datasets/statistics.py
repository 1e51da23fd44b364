"""Mean and spread of inputs that may not fit the memory: of their batches, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

Scaling = tuple[tuple[float, ...], tuple[float, ...]]

SMALLEST = 1e-6  # a standard deviation of a channel of pixels in 0..1; with a smaller one, it is only centred
EXACT = 4096  # values of an input: up to here a covariance is made of all examples, above of so many of them


@dataclass(frozen=True)
class Moments:
    """Mean and variance (over N - 1) of each value of the flattened inputs, (D,) float64."""

    mean: Tensor
    variance: Tensor
    count: int  # examples

    def overall(self) -> tuple[float, float]:
        """Mean and standard deviation of all values together."""
        mean = float(self.mean.mean())
        squares = self.variance * (self.count - 1) / self.count + (self.mean - mean).square()
        return mean, float(squares.mean().sqrt())


@dataclass(frozen=True)
class Covariance:
    """Mean (D,) and `factor` (R, D), float32: factor.T @ factor is the inputs' covariance, z @ factor has it."""

    mean: Tensor
    factor: Tensor
    count: int  # examples it is made of


def channel_scaling(batches: Iterable[Tensor]) -> Scaling:
    """Mean and standard deviation (over N) of each channel of raw inputs (B, C, ...), as pixels in 0..1.

    Sums of bytes are exact, so that they are the same in whatever batches they come.
    """
    count, whole = 0, 1.0
    total = squares = torch.zeros((), dtype=torch.int64)  # with sums of floats, it becomes float64
    for x in batches:
        exact = x.dtype == torch.uint8
        whole = 255.0 if exact else 1.0
        x = x.transpose(0, 1).flatten(1).to(torch.int64 if exact else torch.float64)
        count += x.shape[1]
        total, squares = total + x.sum(1), squares + (x * x).sum(1)
    mean = total.double() / count
    std = (squares.double() / count - mean.square()).clamp_min(0).sqrt() / whole
    std = torch.where(std > SMALLEST, std, 1.0)
    return tuple((mean / whole).tolist()), tuple(std.tolist())


def moments(batches: Iterable[Tensor]) -> Moments:
    """In one pass over inputs (B, ...): Chan, Golub & LeVeque 1979, "Updating formulae and a pairwise algorithm for
    computing sample variances"."""
    count = 0
    mean = squares = torch.zeros((), dtype=torch.float64)
    for x in batches:
        x, more = x.flatten(1).double(), len(x)
        here = x.mean(0)
        away = here - mean
        squares = squares + (x - here).square().sum(0) + away.square() * (count * more / (count + more))
        mean = mean + away * (more / (count + more))
        count += more
    return Moments(mean, squares / max(count - 1, 1), count)


def covariance(mean: Tensor, count: int, again: Callable[[], Iterable[Tensor]]) -> Covariance:
    """Of inputs with this `mean` (D,) float64; `again()` gives the batches of all `count` of them.

    The covariance of all (over N - 1), accumulated in float64, by its eigenvectors.
    """
    gram = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
    for x in again():
        centred = x.flatten(1).double() - mean
        gram += centred.T @ centred
    exact = (gram / max(count - 1, 1)).float()
    return Covariance(mean.float(), factor_of(exact), count)


def sampled_covariance(some: Tensor) -> Covariance:
    """Of inputs (M, ...) alone, where a covariance would have too many numbers: X - mean, over the root of M - 1."""
    some = some.flatten(1)
    mean = some.mean(0)
    return Covariance(mean, (some - mean) / max(len(some) - 1, 1) ** 0.5, len(some))


def factor_of(matrix: Tensor) -> Tensor:
    """F (R, D) float32 with F.T @ F = `matrix` (D, D), a covariance; R is its numerical rank."""
    values, vectors = torch.linalg.eigh(matrix.double())
    kept = values > values[-1] * 1e-10  # values that never change have no direction of their own
    return (vectors[:, kept] * values[kept].sqrt()).T.float().contiguous()
