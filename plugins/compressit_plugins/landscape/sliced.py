"""What `eval.slice` measures: lines and planes through a model."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from compressit import StageContext, pruned_zeros
from compressit_plugins.landscape.span import Span, alike, weights_of
from compressit_plugins.landscape.walk import Ground, walk

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sliced(
    model: nn.Module, ctx: StageContext, names: Sequence[str], count: int, places: np.ndarray, images: int
) -> dict[str, float]:
    """The numbers of `eval.slice`; keeps its curves, or arrays and picture. Does not change the model.

    `names`: the models that the first of `count` directions lead to. `places`: those in each direction, ascending and
    evenly spaced.
    """
    others = [ctx.model(name) for name in names]
    if not all(alike(model, other) for other in others):
        return {}
    drawn = [random_direction(model, ctx, number) for number in range(len(others), count)]
    span = Span.of(model, weights_of(model), *map(weights_of, others), *drawn)
    grid = [tuple(reversed(at)) for at in product(places, repeat=count)]  # the first direction varies fastest
    found = walk(Ground.of(ctx, images), span, [(1 - sum(at[: len(others)]), *at) for at in grid])
    if count == 2:
        for name, values in found.items():
            ctx.save(f"slice_{name}", values.reshape(len(places), len(places)))
        ctx.save("slice_places", places)
        ctx.picture("slice", _drawn(places, found["loss"].reshape(len(places), -1), names))
        return {}
    for name, values in found.items():
        for place, value in zip(places, values, strict=True):
            ctx.log(place, **{f"slice_{name}": value})
    return _told(places, found["loss"], bool(others))


def random_direction(model: nn.Module, ctx: StageContext, number: int) -> dict[str, Tensor]:
    """Normal numbers in the shapes of the model's weights, from the stream "direction": of each filter (the first
    dimension of a matrix or kernel) with the norm of its weights, zero for pruned weights and for all parameters of
    fewer than two dimensions."""
    generator = ctx.streams.generator("direction", number)
    pruned = {} if ctx.fresh else pruned_zeros(model)
    found: dict[str, Tensor] = {}
    for name, weight in weights_of(model).items():
        if weight.ndim < 2:
            found[name] = torch.zeros_like(weight)
            continue
        drawn = torch.randn(weight.shape, generator=generator).to(weight)
        if name in pruned:
            drawn.masked_fill_(pruned[name], 0)
        norms = (_norms(weight) / _norms(drawn).clamp_min(1e-10)).view(-1, *[1] * (weight.ndim - 1))
        found[name] = drawn * norms
    return found


def _norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1)


def _told(places: np.ndarray, losses: np.ndarray, to_other: bool) -> dict[str, float]:
    """The numbers about a line."""
    step = places[1] - places[0]
    here, there = (_place_of(places, at, step) for at in (0.0, 1.0))
    numbers = {"slice_bend": _bend(losses, here, step)}
    if to_other:
        numbers["slice_other_bend"] = _bend(losses, there, step)
        numbers["slice_rise"] = None
        if here is not None and there is not None:
            numbers["slice_rise"] = rise(losses[here : there + 1])
    return {name: value for name, value in numbers.items() if value is not None}


def rise(losses: np.ndarray) -> float | None:
    """The largest step up on the way from the higher end to the lower one, as a share of their difference; None where
    they do not differ."""
    down = losses if losses[0] >= losses[-1] else losses[::-1]
    if down[0] == down[-1]:
        return None
    return float(max(np.diff(down).max(), 0) / (down[0] - down[-1]))


def _bend(losses: np.ndarray, at: int | None, step: float) -> float | None:
    """The second difference, divided by the square of the step."""
    if at is None or at in (0, len(losses) - 1):
        return None
    return float((losses[at - 1] - 2 * losses[at] + losses[at + 1]) / step**2)


def _place_of(places: np.ndarray, at: float, step: float) -> int | None:
    """Which of the places it is."""
    nearest = int(np.abs(places - at).argmin())
    return nearest if abs(places[nearest] - at) < 1e-6 * step else None


def _drawn(places: np.ndarray, losses: np.ndarray, others: Sequence[str]) -> Figure:
    """The logarithm of the loss as colours; the models are marked."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    finite = np.where(np.isfinite(losses), losses, np.nan)
    shown = np.ma.masked_invalid(np.log10(np.maximum(finite, 1e-12)))
    colours = axes.pcolormesh(places, places, shown, shading="gouraud")
    figure.colorbar(colours, label="log10 of the training loss")
    labels = [f"to {name}" for name in others] + ["random direction"] * 2
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    marks = [(0, 0, "model"), *((1 - at, at, name) for at, name in enumerate(others))]
    for x, y, name in marks:
        axes.plot(x, y, "w.")
        axes.annotate(name, (x, y), color="white", xytext=(4, 4), textcoords="offset points")
    axes.set_xlim(places[0], places[-1])
    axes.set_ylim(places[0], places[-1])
    return figure
