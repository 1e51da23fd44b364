"""How many examples have another answer nearby, and how much the loss depends on each input."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from compressit import StageContext
from compressit_plugins.adversarial.attacks import Ball, Goal, projected, starting
from compressit_plugins.adversarial.options import told
from compressit_plugins.adversarial.victim import Measured, Victim, measured_in_batches

if TYPE_CHECKING:
    from compressit_plugins.adversarial.options import CriticalSamplesConfig


def measured(model: nn.Module, ctx: StageContext, how: CriticalSamplesConfig) -> dict[str, float]:
    """The numbers of `eval.critical_samples`; logs its curve. No ratio where no example has an answer."""
    victim = Victim.of(model, ctx, "eval.critical_samples")
    found = measured_in_batches(victim, ctx, how.split, how.images, partial(_searched, victim, ctx, how))
    sensitivity = found["sensitivity"].double().cpu()
    numbers = {"loss_sensitivity": float(sensitivity.mean()), "loss_sensitivity_gini": gini(sensitivity)}
    for radius in how.radii:
        critical = found[f"critical {radius}"]
        if len(critical):
            numbers[f"critical_samples_{told(radius)}"] = ratio = float(critical.double().mean())
            ctx.log(radius, critical_samples=ratio)
    return numbers


def gini(values: Tensor) -> float:
    """The Gini coefficient of values (N,) >= 0: the mean absolute difference of two of them, halved and divided by
    their mean. From 0 (all alike) to 1 - 1 / N (one has everything); NaN if all are 0."""
    ascending, count = values.sort().values, len(values)
    places = torch.arange(1, count + 1, dtype=values.dtype)
    return float((2 * places - count - 1) @ ascending / (count * ascending.sum()))


@torch.no_grad()
def _searched(
    victim: Victim, ctx: StageContext, how: CriticalSamplesConfig, batch: int, x: Tensor, y: Tensor
) -> Measured:
    """Each example's sensitivity; of those with an answer (no NaN), whether each box has another."""
    slope, _ = victim.slope(x, lambda logits: cross_entropy(logits, y, reduction="none"))
    found = {"sensitivity": slope.flatten(1).abs().mean(1)}
    own = victim.answers(x)
    inputs, goal = x[own >= 0], Goal(own[own >= 0])
    for radius in how.radii:
        ball = Ball(radius)
        starts = starting(inputs, ball, how, ctx.streams, batch)
        last = projected(victim, inputs, goal, ball, how.steps, how.step * radius, starts)
        found[f"critical {radius}"] = victim.answers(last) != goal.labels
    return found
