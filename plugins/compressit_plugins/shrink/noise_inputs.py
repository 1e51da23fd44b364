"""Which noise a stage draws, and from which random streams."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from compressit import (
    CompressitError,
    Data,
    Inputs,
    StageContext,
    Streams,
    TensorSpec,
    single_tensor,
    tensors_of,
)
from compressit_plugins.shrink.noise_sources import NoiseSource, Scaled, at_once, smooth, spectrum

OF_THE_DATA = frozenset({"gaussian", "pixel", "covariance", "spectrum"})
"""The kinds that are drawn by statistics of the training inputs."""
_BETWEEN_NEIGHBOURS = {"smooth": "normal", "spectrum": "covariance"}
"""The kinds for inputs whose neighbouring values belong together, each with what is left for others."""


@dataclass(frozen=True)
class Noise:
    """A kind of noise with all that decides it but the data."""

    kind: str
    blur: tuple[float, ...] = ()
    contrast: tuple[float, float] = (1.0, 1.0)

    @staticmethod
    def noted(facts: Mapping[str, Any]) -> Noise:
        """From what a stage noted of its noise."""
        low, high = facts.get("contrast", (1.0, 1.0))
        return Noise(facts["kind"], tuple(facts.get("blur", ())), (low, high))


def noise_source(noise: Noise, data: Data) -> NoiseSource:
    """What draws this noise, in the scale of the model's inputs.

    Uniform noise is between the least and the greatest value that the data declare (of pixels 0 and 1), scaled like the
    data. `normal` and `smooth` have mean 0, whatever the data are. The others have the statistics of the training
    inputs. Raises CompressitError for inputs of which noise has no meaning.
    """
    kind = noise.kind
    spec = noisy(kind, data.contract.inputs)
    shape, device = spec.shape, data.train.y.device
    if kind == "uniform":
        ends = (torch.full((1, *shape), float(end)) for end in (spec.low, spec.high) if end is not None)
        low, high = (_scaled(end, data).flatten().to(device) for end in ends)
        return Scaled(shape, low, high - low, uniform=True)
    if kind == "smooth":
        return smooth(shape, noise.blur, noise.contrast, device)
    if kind in ("normal", "gaussian"):
        moments = (0.0, 1.0) if kind == "normal" else data.train.moments().overall()
        mean, std = (torch.full((math.prod(shape),), value, device=device) for value in moments)
        return Scaled(shape, mean, std, uniform=False)
    if kind == "spectrum":
        mean = data.train.moments().mean.view(shape[0], -1).mean(1)
        batches = (tensors_of(x)[0] for x, _ in data.train.ordered(at_once(shape)))
        return spectrum(shape, mean, batches, len(data.train))
    if kind == "pixel":
        each = data.train.moments()
        return Scaled(shape, each.mean.float(), each.variance.sqrt().float(), uniform=False)
    covariance = data.train.covariance()
    return Scaled(shape, covariance.mean, covariance.factor, uniform=False)


def noisy(kind: str, inputs: Inputs) -> TensorSpec:
    """The inputs that this kind of noise stands for. Raises CompressitError for several, for whole numbers, for
    uniform noise between bounds that nobody declared, and for noise that is smooth between neighbours of which there
    are none."""
    spec = single_tensor(inputs, "shrink.noise")
    if kind == "uniform" and None in (spec.low, spec.high):
        raise CompressitError(
            f"uniform noise lies between bounds, and the inputs are {spec}",
            "set `noise: gaussian`, or declare the range of the data",
        )
    if kind in _BETWEEN_NEIGHBOURS and len(spec.shape) < 2:
        raise CompressitError(
            f"{kind} noise relates neighbouring pixels, and the inputs are {spec}: values without neighbours",
            f"set `noise: {_BETWEEN_NEIGHBOURS[kind]}`, or give the data a shape of channels and sides, such as "
            "(1, 40)",
        )
    return spec


def shared_noise_source(noise: Noise, ctx: StageContext) -> NoiseSource:
    """`noise_source`, computed once for all jobs of a worker on the same data."""
    key = ("noise source", noise, ctx.identity(""))
    if key not in ctx.memo:
        ctx.memo[key] = noise_source(noise, ctx.data)
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
