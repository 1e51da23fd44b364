"""The Hessian of a loss in random planes, at points along the ray from zero through a net's weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf, nan, sqrt

import torch
from torch import Tensor, nn

from compressit import StageContext
from compressit_plugins.landscape.each import each
from compressit_plugins.landscape.surface import Loss, Surface

FLAT = 1e-8
"""A Hessian in the plane with a Frobenius norm below this has no sign worth counting."""

_NUMBERS = ("positive", "trace_norm", "logit_scale")


def measured(
    model: nn.Module,
    ctx: StageContext,
    images: int,
    dimensions: int,
    planes: int,
    radii: Sequence[float],
    temperature: float,
) -> dict[str, float]:
    """The numbers of `eval.goldilocks`; logs its curves. None of a net whose matrices are all zero."""
    surface = Surface.of(model, ctx, images, loss_of=tempered(ctx.task.loss, temperature))
    own, glorot = radius(surface), glorot_radius(surface)
    if not own > 0 or not torch.isfinite(surface.start).all():
        return {}
    places = [own / glorot, *radii]
    bases = [plane(surface, dimensions, ctx.streams.generator("plane", number)) for number in range(planes)]

    def row(at: int) -> list[float]:
        point = surface.start * (places[at] * glorot / own)
        here = surface.settled(point)
        seen = [in_plane(here, point, basis) for basis in bases]
        return [*torch.tensor(seen).mean(0).tolist(), logit_scale(here.outputs(point)) / temperature]

    found = each(ctx, len(places), len(_NUMBERS), row).tolist()
    for place, numbers in sorted(zip(places[1:], found[1:], strict=True)):
        ctx.log(
            place, **{f"goldilocks_{name}_at": value for name, value in zip(_NUMBERS, numbers, strict=True)}
        )
    here = {f"goldilocks_{name}": value for name, value in zip(_NUMBERS, found[0], strict=True)}
    best = max(zip(found[1:], places[1:], strict=True), key=lambda pair: _known(pair[0][0]))
    return {
        **{name: value for name, value in here.items() if value == value},
        "goldilocks_radius": places[0],
        "goldilocks_glorot_radius": glorot,
        "goldilocks_flat": float(sum(numbers[0] != numbers[0] for numbers in found[1:])),
        **(
            {"goldilocks_peak": best[0][0], "goldilocks_peak_radius": best[1]}
            if best[0][0] == best[0][0]
            else {}
        ),
    }


def tempered(loss: Loss, temperature: float) -> Loss:
    """The loss of outputs that are divided by a temperature first."""
    return partial(_tempered, loss, temperature)


def _tempered(loss: Loss, temperature: float, outputs: Tensor, targets: Tensor) -> Tensor:
    return loss(outputs / temperature, targets)


def radius(surface: Surface) -> float:
    """The length of the vector of all entries of matrices and kernels."""
    return float(surface.start[surface.weights.matrices()].double().norm())


def glorot_radius(surface: Surface) -> float:
    """The length that these entries have on average as Glorot & Bengio (2010) draw them: the root of the sum of
    2 / (inputs + outputs) over all that are not pruned. 23.2 for 784-200-200-10."""
    variances = {
        name: torch.full(shape, 2 / sum(nn.init._calculate_fan_in_and_fan_out(torch.empty(shape))))  # pyright: ignore[reportPrivateUsage]
        if len(shape) > 1
        else torch.zeros(shape)
        for name, shape in surface.weights.shapes.items()
    }
    return sqrt(float(surface.weights.joined(variances.values()).double().sum()))


def plane(surface: Surface, dimensions: int, generator: torch.Generator) -> Tensor:
    """An orthonormal basis (d, n) of a random plane of all weights, with d at most n."""
    n = len(surface)
    drawn = torch.randn(n, min(dimensions, n), dtype=torch.float64, generator=generator)
    return torch.linalg.qr(drawn).Q.T.to(surface.start)


def in_plane(surface: Surface, at: Tensor, basis: Tensor) -> tuple[float, float]:
    """The share of positive eigenvalues of the Hessian in the plane, and its trace by its Frobenius norm.

    NaN where that norm is below `FLAT`, or the loss is not finite.
    """
    within = (surface.hvp(at, basis) @ basis.T).double().cpu()
    within = (within + within.T) / 2
    size = float(within.norm())
    if not FLAT <= size < inf:
        return nan, nan
    return float((torch.linalg.eigvalsh(within) > 0).double().mean()), float(within.trace()) / size


def logit_scale(outputs: Tensor) -> float:
    """How far apart an example's outputs (N, K, …) are: the root mean square of their deviation from its mean."""
    return float((outputs.double() - outputs.double().mean(1, keepdim=True)).square().mean().sqrt())


def _known(value: float) -> float:
    return -inf if value != value else value
