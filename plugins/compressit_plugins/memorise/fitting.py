"""Trains nets until they know some labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from compressit import EpochEnd, StageContext, StopTraining, answers, copied, fit, keeping_zeros, pruned_zeros
from compressit_plugins.memorise.examples import Examples, drawn_examples
from compressit_plugins.memorise.options import FitTimeConfig, Labels
from compressit_plugins.train.finished import Part, finished
from compressit_plugins.train.fresh_weights import redraw

Points = list[tuple[float, float]]  # steps, accuracy


@dataclass(frozen=True)
class Start:
    """What each training begins with."""

    model: nn.Module
    zeros: Mapping[str, Tensor]  # masks of pruned weights
    examples: Examples


def fit_times(model: nn.Module, ctx: StageContext, options: FitTimeConfig) -> dict[str, float]:
    """All that `eval.fit_time` declares. Does not change `model`. Both kinds of labels are learned from the same start,
    in the same order of batches."""
    zeros = pruned_zeros(model)
    start = Start(copied(model).requires_grad_(True), zeros, drawn_examples(ctx, options.images))
    if options.start == "fresh":
        refresh(start.model, zeros, ctx.streams.number("fresh weights"))
    learned: dict[str, Points] = finished(ctx.progress)
    for labels in options.labels:
        if labels not in learned:
            learned[labels] = _learned(start, ctx, options, labels, learned)
        for step, accuracy in learned[labels]:
            ctx.log(step, **{f"{labels}_fit": accuracy})
    found = {
        name: value
        for labels in options.labels
        for name, value in _told(labels, learned[labels], options.reach).items()
    }
    if {"given_fit_steps", "random_fit_steps"} <= found.keys():
        found["fit_steps_ratio"] = found["random_fit_steps"] / found["given_fit_steps"]
    return found


def refresh(model: nn.Module, zeros: Mapping[str, Tensor], seed: int) -> None:
    """Gives `model` fresh weights, each layer by its own `reset_parameters`, and zeros where it was pruned. Raises
    CompressitError that names a layer without that method."""
    redraw(model, seed)
    with torch.no_grad():
        for name, mask in zeros.items():
            model.get_parameter(name).masked_fill_(mask, 0)


def labels_of(ctx: StageContext, examples: Examples, labels: Labels) -> Tensor:
    """(N,) int64: `given` are the dataset's own, also where the option `labels` replaced them."""
    if labels == "random":
        generator = ctx.streams.generator("random labels")
        drawn = torch.randint(ctx.data.classes, (len(examples.y),), generator=generator)
        return drawn.to(examples.y.device)
    known = ctx.data.relabelled
    return examples.y if known is None else known.given[examples.places]


def _learned(
    start: Start, ctx: StageContext, options: FitTimeConfig, labels: Labels, before: Mapping[str, Points]
) -> Points:
    """The accuracy along a training of a copy of the start, until it knows the labels, or to the limit."""
    model, x = copied(start.model), start.examples.x
    y = labels_of(ctx, start.examples, labels)
    apart = replace(ctx.apart(), progress=Part(ctx.progress, labels, before), fits=list[Any]())

    def on_epoch(end: EpochEnd, kept: dict[str, Tensor]) -> None:
        accuracy = float((answers(ctx.compute.forward(model, x)) == y).double().mean())
        if end.logged or accuracy >= options.reach:
            apart.log(end.steps, learned=accuracy)
        if accuracy >= options.reach:
            raise StopTraining

    with keeping_zeros(model, apart, also=start.zeros):
        fit(model, apart, options, lambda epoch: (x, y), ctx.task.objective(y), on_epoch)
    return apart.curves.get("learned", [])


def _told(labels: Labels, points: Points, reach: float) -> dict[str, float]:
    """The numbers of a training. One that diverged at once has no point."""
    if not points:
        return {f"{labels}_fit_reached": 0.0}
    steps, accuracy = points[-1]
    found = {f"{labels}_fit_reached": float(accuracy >= reach), f"{labels}_fit_accuracy": accuracy}
    return {**found, f"{labels}_fit_steps": steps} if accuracy >= reach else found
