"""Where noise comes from: sources that draw inputs for a teacher to label, in the scale of the model's inputs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_VALUES = 2**22  # that are blurred or filtered together, in whole inputs
_REACH = (
    4  # standard deviations after which a blur ends: what lies further is below 0.04 %, and slow to multiply
)


def at_once(shape: tuple[int, ...]) -> int:
    """How many inputs of this shape are worked on together."""
    return max(1, _VALUES // max(math.prod(shape), 1))


class NoiseSource(Protocol):
    """Draws noise."""

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` inputs (count, *shape), float32, on the generator's device."""
        ...


@dataclass(frozen=True)
class Scaled:
    """Uniform in [mean, mean + spread], or normal around `mean`."""

    shape: tuple[int, ...]
    mean: Tensor  # (D,); the lower bound for uniform noise
    spread: Tensor  # (D,): high - low, or standard deviations; (R, D): factor of a covariance
    uniform: bool

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """As `NoiseSource.draw`."""
        rows, device = self.spread.shape[0], generator.device
        z = torch.rand if self.uniform else torch.randn
        x = z(count, rows, generator=generator, device=device)
        if self.spread.ndim == 1:
            x = x.mul_(self.spread).add_(self.mean)
        else:
            x = torch.addmm(self.mean, x, self.spread)
        return x.view(count, *self.shape)


@dataclass(frozen=True)
class Smooth:
    """Normal numbers around 0, blurred, times a contrast that is uniform in `contrast`, one for each input.

    Each blur is one matrix (side, side) per side after the channels. They take turns, so that any part of what is drawn
    has as much of each. Before the contrast every value has deviation 1, at the borders too.
    """

    shape: tuple[int, ...]  # (C, *sides)
    blurs: tuple[tuple[Tensor, ...], ...]
    contrast: tuple[float, float]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """As `NoiseSource.draw`."""
        x = torch.randn(count, *self.shape, generator=generator, device=generator.device)
        for turn, blur in enumerate(self.blurs):
            for part in x[turn :: len(self.blurs)].split(at_once(self.shape)):
                part.copy_(_blurred(part, blur))
        low, high = self.contrast
        each = (count, *[1] * len(self.shape))
        return x.mul_(
            torch.rand(each, generator=generator, device=generator.device).mul_(high - low).add_(low)
        )


def smooth(
    shape: tuple[int, ...], sigmas: Sequence[float], contrast: tuple[float, float], device: torch.device
) -> Smooth:
    """Noise (C, *sides) blurred at each of `sigmas`, the standard deviations of a Gaussian in values (pixels)."""
    blurs = (tuple(_blur(side, sigma).to(device) for side in shape[1:]) for sigma in sigmas)
    return Smooth(shape, tuple(blurs), contrast)


def _blur(side: int, sigma: float) -> Tensor:
    """(side, side): row i are the weights of output i, a Gaussian around i, of square sum 1."""
    at = torch.arange(side, dtype=torch.float64)
    away = (at[:, None] - at) / sigma
    weights = torch.exp(-0.5 * away.square()) * (away.abs() <= _REACH)
    return (weights / weights.norm(dim=1, keepdim=True)).float()


def _blurred(x: Tensor, blur: Sequence[Tensor]) -> Tensor:
    """x (N, C, *sides), blurred along each side, of which each turn moves the last to the front."""
    for matrix in reversed(blur):
        x = (x @ matrix.T).movedim(-1, 2)
    return x


@dataclass(frozen=True)
class Spectrum:
    """Normal numbers whose channels have given power and cross spectra, around a mean per channel."""

    shape: tuple[int, ...]  # (C, *sides)
    mean: Tensor  # (C, 1, …)
    root: Tensor  # (C, C, *frequencies) complex64: the Hermitian root of the cross spectra, as rfftn orders them

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """As `NoiseSource.draw`."""
        x = torch.randn(count, *self.shape, generator=generator, device=generator.device)
        sides = self.shape[1:]
        for part in x.split(at_once(self.shape)):
            filtered = (self.root * _transformed(part)[:, None]).sum(2)
            part.copy_(_back(filtered, sides)).add_(self.mean)
        return x


def spectrum(shape: tuple[int, ...], mean: Tensor, batches: Iterable[Tensor], count: int) -> Spectrum:
    """Of `count` inputs (B, C, *sides) in batches, with the mean of each channel (C,) float64."""
    mean = mean.view(-1, *[1] * (len(shape) - 1))
    cross = torch.zeros((), device=mean.device)
    for x in batches:
        found = _transformed(x.double() - mean)
        cross = cross + torch.einsum("nc...,nd...->...cd", found, found.conj())
    values, vectors = torch.linalg.eigh(cross / (count * math.prod(shape[1:])))
    root = (vectors * values.clamp_min(0).sqrt()[..., None, :]) @ vectors.mH
    return Spectrum(shape, mean.float(), root.movedim((-2, -1), (0, 1)).to(torch.complex64).contiguous())


def _transformed(x: Tensor) -> Tensor:
    return torch.fft.rfftn(x, dim=tuple(range(2, x.ndim)))


def _back(x: Tensor, sides: tuple[int, ...]) -> Tensor:
    return torch.fft.irfftn(x, s=sides, dim=tuple(range(2, x.ndim)))
