"""Random inputs for a teacher to label, with statistics like those of the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from compressit import CompressitError, Data, Inputs, StageContext, Streams, TensorSpec, single_tensor


@dataclass(frozen=True)
class NoiseSource:
    """Draws inputs (count, *shape): uniform in [mean, mean + spread], or normal around `mean`."""

    shape: tuple[int, ...]
    mean: Tensor  # (D,); the lower bound for uniform noise
    spread: Tensor  # (D,): high - low, or standard deviations; (R, D): factor of a covariance
    uniform: bool

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` inputs, float32, on the generator's device."""
        rows, device = self.spread.shape[0], generator.device
        z = torch.rand if self.uniform else torch.randn
        x = z(count, rows, generator=generator, device=device)
        if self.spread.ndim == 1:
            x = x.mul_(self.spread).add_(self.mean)
        else:
            x = torch.addmm(self.mean, x, self.spread)
        return x.view(count, *self.shape)


def noise_source(kind: str, data: Data) -> NoiseSource:
    """The source of `uniform | gaussian | pixel | covariance` noise, in the scale of the model's inputs.

    Uniform noise is between the least and the greatest value that the data declare (of pixels 0 and 1), scaled like the
    data. The others have the statistics of the training inputs. Raises CompressitError for inputs of which noise has no
    meaning.
    """
    spec = noisy(kind, data.contract.inputs)
    shape, device = spec.shape, data.train.y.device
    if kind == "uniform":
        ends = (torch.full((1, *shape), float(end)) for end in (spec.low, spec.high) if end is not None)
        low, high = (_scaled(end, data).flatten().to(device) for end in ends)
        return NoiseSource(shape, low, high - low, uniform=True)
    if kind == "gaussian":
        mean, std = (torch.full((math.prod(shape),), value) for value in data.train.moments().overall())
        return NoiseSource(shape, mean.to(device), std.to(device), uniform=False)
    if kind == "pixel":
        each = data.train.moments()
        return NoiseSource(shape, each.mean.float(), each.variance.sqrt().float(), uniform=False)
    covariance = data.train.covariance()
    return NoiseSource(shape, covariance.mean, covariance.factor, uniform=False)


def noisy(kind: str, inputs: Inputs) -> TensorSpec:
    """The inputs that this kind of noise stands for. Raises CompressitError for several, for whole numbers, and for
    uniform noise between bounds that nobody declared."""
    spec = single_tensor(inputs, "shrink.noise")
    if kind == "uniform" and None in (spec.low, spec.high):
        raise CompressitError(
            f"uniform noise lies between bounds, and the inputs are {spec}",
            "set `noise: gaussian`, or declare the range of the data",
        )
    return spec


def shared_noise_source(kind: str, ctx: StageContext) -> NoiseSource:
    """`noise_source`, computed once for all jobs of a worker on the same data."""
    key = ("noise source", kind, ctx.identity(""))
    if key not in ctx.memo:
        ctx.memo[key] = noise_source(kind, ctx.data)
    return ctx.memo[key]


def noise_generator(streams: Streams, redraw: str, epoch: int, device: str) -> torch.Generator:
    """The generator of an epoch's noise. Variants share it, so the twins' teachers label the same images."""
    if redraw == "never":
        return Streams(streams.seed, streams.stage).generator("noise", device=device)
    return streams.generator("noise", epoch if redraw == "epoch" else None, device=device)


def _scaled(x: Tensor, data: Data) -> Tensor:
    mean, std = data.contract.mean, data.contract.std
    if mean is None or std is None:
        return x
    view = (1, -1, *[1] * (x.ndim - 2))
    return (x - torch.tensor(mean).view(view)) / torch.tensor(std).view(view)
