"""Trains a net of a given shape in subspaces of more and more dimensions, and reads where it learns its task."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from compressit import StageContext, copied, fit, pruned_zeros
from compressit_plugins.subspace.bases import check_size, drawn
from compressit_plugins.subspace.confined import confined
from compressit_plugins.subspace.options import IntrinsicDimensionConfig
from compressit_plugins.subspace.training import places
from compressit_plugins.train.early_stopping import Examples
from compressit_plugins.train.finished import Part, Points, finished
from compressit_plugins.train.fresh_weights import redraw_as_built


def measured(model: nn.Module, ctx: StageContext, options: IntrinsicDimensionConfig) -> dict[str, float]:
    """Both readings, as far as the dimensions reach; logs the curve. Does not change `model`.

    Saves its progress: what was measured, and the state of the training that runs."""
    part = ctx.data.split(options.split)
    score = ctx.task.scores(ctx.logits(model, options.split), part.y).get(ctx.task.watch, math.nan)
    net, masks = fresh(model, ctx)
    kept = places(net, masks)
    fitting = [d for d in options.dimensions if d <= sum(map(len, kept.values()))]
    if not fitting:
        check_size(options.basis, sum(map(len, kept.values())), options.dimensions[0], ctx.compute.dtype)
    learned = finished(ctx.progress)  # by dimension
    for dimension in fitting:
        if str(dimension) not in learned:
            score_there = _score(copied(net), kept, dimension, ctx, options, learned)
            learned[str(dimension)] = [(dimension, score_there)]
            if ctx.progress.due():
                Part(ctx.progress, "", learned).save({}, {})
    scores = [learned[str(dimension)][0][1] for dimension in fitting]
    for dimension, value in zip(fitting, scores, strict=True):
        ctx.log(dimension, subspace_score=value)
    thresholds = {
        "intrinsic_dimension": options.threshold,
        "intrinsic_dimension_relative": options.share * score,
    }
    found = {name: reached(fitting, scores, at, options.interpolate) for name, at in thresholds.items()}
    return {name: value for name, value in found.items() if value is not None}


def fresh(model: nn.Module, ctx: StageContext) -> tuple[nn.Module, dict[str, Tensor]]:
    """A net of the model's shape with fresh weights, zero where the model is pruned, and the masks of these zeros."""
    net, masks = copied(model).requires_grad_(True), pruned_zeros(model)
    redraw_as_built(net, ctx)
    with torch.no_grad():
        for name, mask in masks.items():
            net.get_parameter(name).masked_fill_(mask, 0)
    return net, masks


def reached(
    dimensions: Sequence[int], scores: Sequence[float], threshold: float, interpolate: bool
) -> float | None:
    """The first of `dimensions` (ascending) whose score is at least `threshold`; None if there is none.

    `interpolate`: where the line from the one before crosses it, over the logarithm of the dimension."""
    found = next((at for at, score in enumerate(scores) if score >= threshold), None)
    if found is None or not interpolate or found == 0:
        return None if found is None else float(dimensions[found])
    low, high = (math.log(d) for d in dimensions[found - 1 : found + 1])
    before, after = scores[found - 1 : found + 1]
    return math.exp(low + (high - low) * (threshold - before) / (after - before))


def _score(
    net: nn.Module,
    kept: Mapping[str, Tensor],
    dimension: int,
    ctx: StageContext,
    options: IntrinsicDimensionConfig,
    before: Mapping[str, Points],
) -> float:
    """What `net` scores after training in a random subspace. `before`: of other dimensions, to save."""
    compute, task = ctx.compute, ctx.task
    weights = sum(map(len, kept.values()))
    check_size(options.basis, weights, dimension, compute.dtype)
    generator = ctx.streams.generator(f"basis {dimension}")
    basis = drawn(options.basis, weights, dimension, generator, compute.device, compute.dtype)
    examples, y = _examples(ctx, options.images)
    own = replace(ctx.apart(), fits=[], progress=Part(ctx.progress, str(dimension), before))
    with confined(net, basis, kept, dimension) as inside:
        fit(inside, own, options, examples, task.objective(y))
    part = ctx.data.split(options.split)
    return task.scores(compute.forward(net, part), part.y).get(task.watch, math.nan)


def _examples(ctx: StageContext, images: int) -> tuple[Examples, Tensor]:
    """At most so many training examples, evenly spaced, as `fit` takes them, and their targets."""
    train = ctx.data.train
    if images >= len(train) and train.repeats:
        return train, train.y
    count = min(images, len(train))
    x, y = next(train.visit([torch.arange(count, device=train.y.device) * len(train) // count]))
    return lambda epoch: (x, y), y
