"""What a model scores when one of its layers loses channels or weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from math import nan
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import nn

from compressit import InputTensors, StageContext, copied
from compressit_plugins.prune import importance
from compressit_plugins.prune.coupling import coupled
from compressit_plugins.prune.one_input import one_input
from compressit_plugins.prune.prunable import sound, traceable
from compressit_plugins.prune.selection import Rule, select
from compressit_plugins.prune.surgery import Given, remove
from compressit_plugins.prune.tracing import refuse_unprunable
from compressit_plugins.prune.weights import select_weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Score = Callable[[nn.Module], float]
_NAMED = 6  # layers that the picture names: those of the lowest scores


def measured(
    model: nn.Module,
    ctx: StageContext,
    of: Literal["channels", "weights"],
    ratios: Sequence[float],
    scorer: Literal["magnitude", "fpgm", "lamp"],
    ignore: Sequence[str],
    time_limit: float,
) -> dict[str, float]:
    """The mean drop; keeps the curves, arrays and the picture in `ctx`. Does not change `model`."""
    task, split = ctx.task, "validation" if ctx.data.validation is not None else "train"
    part = ctx.data.split(split)

    def score(net: nn.Module) -> float:
        return task.scores(ctx.compute.forward(net, part), part.y).get(task.watch, nan)

    net = copied(model).eval()
    if of == "weights":
        found = dict(of_weights(net, ratios, score, ignore))
    else:
        how = getattr(importance, scorer)
        found = dict(of_channels(net, one_input(net, ctx), ratios, score, how, ignore, time_limit))
    scores = np.array([[score(model)] * len(found), *zip(*found.values(), strict=True)]).T
    lower = task.measures()[task.watch].better == "lower"
    worst = scores.max(0) if lower else scores.min(0)
    for ratio, mean, least in zip((0.0, *ratios), scores.mean(0), worst, strict=True):
        ctx.log(ratio, sensitivity_mean=float(mean), sensitivity_worst=float(least))
    ctx.save("sensitivity", scores)
    ctx.save("sensitivity_layers", _as_bytes(list(found)))
    ctx.picture(
        "sensitivity_picture",
        _drawn(list(found), (0.0, *ratios), scores, f"{task.watch}, {split} split"),
    )
    drops = (scores[:, 1:] - scores[:, :1]) * (1 if lower else -1)
    return {"sensitivity_drop": float(drops.mean())}


def of_channels(
    model: nn.Module,
    example: InputTensors,
    ratios: Sequence[float],
    score: Score,
    scorer: importance.Importance = importance.magnitude,
    ignore: Sequence[str] = (),
    time_limit: float = 60.0,
) -> Iterator[tuple[str, list[float]]]:
    """For each group of coupled layers its name and the scores of `model` when it alone loses each of `ratios` of its
    channels, of which at least one stays. `example`: one input with its batch dimension.

    `model` is as it was afterwards. Raises CompressitError if it cannot be traced or has no such group.
    """
    refuse_unprunable(model)
    with traceable(model):
        given = Given.of(model, example)
        groups, left = coupled(model, example, scorer(model), ignore, time_limit)
        groups = [group for group in sound(model, given, example, groups, left) if group.scores is not None]
    rule = Rule("local", 1, 1.0, {group.name: group.width for group in groups})
    for group in groups:
        scores: list[float] = []
        for ratio in ratios:
            trial = copy.deepcopy(model)
            remove(trial, [group], select([group], 1 - ratio, rule).gone)
            scores.append(score(trial))
        yield group.name, scores


@torch.no_grad()
def of_weights(
    model: nn.Module, ratios: Sequence[float], score: Score, ignore: Sequence[str] = ()
) -> Iterator[tuple[str, list[float]]]:
    """For each weight matrix of a layer its name and the scores of `model` with each of `ratios` of its weights, the
    smallest, set to zero. `model` is as it was afterwards. Raises CompressitError if there is none."""
    from compressit_plugins.prune.lowest import lowest_but_one

    for name, weight in select_weights(model, exclude=ignore).items():
        whole, scores = weight.detach().clone(), list[float]()
        for ratio in ratios:
            count = min(round(ratio * whole.numel()), whole.numel() - 1)
            gone = lowest_but_one({name: whole}, count, torch.abs)[name]
            weight.copy_(whole.masked_fill(gone, 0))
            scores.append(score(model))
        weight.copy_(whole)
        yield name, scores


def _as_bytes(names: Sequence[str]) -> np.ndarray:
    """uint8 (names, length of the longest)."""
    texts = [name.encode() for name in names]
    longest = max(map(len, texts))
    return np.array([list(text.ljust(longest, b"\0")) for text in texts], dtype=np.uint8)


def _drawn(names: Sequence[str], ratios: Sequence[float], scores: np.ndarray, y: str) -> Figure:
    """A line for each layer; those that fall the most have a colour and are named."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    fall = np.abs(scores - scores[:, :1]).mean(1)
    named = sorted(np.argsort(-fall, kind="stable")[:_NAMED].tolist(), key=lambda at: -fall[at])
    for at in range(len(names)):
        if at not in named:
            axes.plot(ratios, scores[at], color="0.8", linewidth=1)
    for at in named:
        axes.plot(ratios, scores[at], marker="o", markersize=3, label=names[at])
    axes.set_xlabel("fraction that the layer loses")
    axes.set_ylabel(y)
    axes.legend(title="most sensitive", fontsize="small")
    return figure
