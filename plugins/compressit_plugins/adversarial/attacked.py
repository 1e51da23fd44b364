"""What a net answers when its test inputs are attacked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compressit import StageContext, single_tensor
from compressit_plugins.adversarial.attacks import Ball, Goal, fast, nearest, noisy, projected, starting
from compressit_plugins.adversarial.drawing import shown
from compressit_plugins.adversarial.options import told
from compressit_plugins.adversarial.victim import Measured, Victim, measured_in_batches

if TYPE_CHECKING:
    from compressit_plugins.adversarial.options import AdversarialConfig


def measured(model: nn.Module, ctx: StageContext, how: AdversarialConfig) -> dict[str, float]:
    """The numbers of `eval.adversarial`; logs its curves, keeps its array and picture in `ctx`."""
    victim = Victim.of(model, ctx, "eval.adversarial")
    target = _label(how.target, ctx.data.contract.class_names)
    found = measured_in_batches(victim, ctx, "test", how.images, partial(_attacked, victim, ctx, how, target))
    y = "accuracy" if target is None else "reached"
    shares = {name: float(hits.double().mean()) for name, hits in found.items() if hits.dtype == torch.bool}
    numbers = {f"attacked_{y}": shares["clean"]}
    for kind, sizes in (("fgsm", how.fgsm), ("pgd", how.pgd), ("random", how.sizes())):
        numbers |= {f"{kind}_{told(size)}_{y}": shares[f"{kind} {size}"] for size in sizes}
        for size in (0.0, *sizes) if sizes else ():
            ctx.log(size, **{f"{kind}_{y}": shares[f"{kind} {size}" if size else "clean"]})
    return {**numbers, **(_distances(ctx, how, found) if how.nearest else {})}


@torch.no_grad()
def _attacked(
    victim: Victim,
    ctx: StageContext,
    how: AdversarialConfig,
    target: int | None,
    batch: int,
    x: Tensor,
    y: Tensor,
) -> Measured:
    """For each example whether its answer is the label (or, of those of other classes, the target) as it is and after
    each attack; and what `_closest` finds."""
    tried = torch.ones_like(y, dtype=torch.bool) if target is None else y != target
    inputs, goal = x[tried], _goal(y[tried], target)

    def says(changed: Tensor) -> Tensor:
        return victim.answers(changed) == goal.labels

    found = {"clean": says(inputs)}
    for size in how.fgsm:
        found[f"fgsm {size}"] = says(fast(victim, inputs, goal, Ball(size, how.norm)))
    for size in how.pgd:
        ball = Ball(size, how.norm)
        starts = starting(inputs, ball, how, ctx.streams, batch)
        found[f"pgd {size}"] = says(projected(victim, inputs, goal, ball, how.steps, how.step * size, starts))
    draws = torch.randn(inputs.shape, generator=ctx.streams.generator("random", batch)).to(x)
    for size in how.sizes():
        changed = inputs + Ball(size, how.norm).steepest(draws, size)
        found[f"random {size}"] = says(victim.inside(changed))
    return {**found, **(_closest(victim, ctx, how, target, batch, x, y) if how.nearest else {})}


def _closest(
    victim: Victim,
    ctx: StageContext,
    how: AdversarialConfig,
    target: int | None,
    batch: int,
    x: Tensor,
    y: Tensor,
) -> Measured:
    """The distance (B,) of each example's nearest wrong input, NaN where none is searched, infinite where none was
    found; whether noise as far away changes the answer; and, in the first batch, some of the inputs themselves."""
    tried = victim.answers(x) == y
    if target is not None:
        tried &= y != target
    inputs, labels = x[tried], y[tried]
    changed, far = nearest(victim, inputs, _goal(labels, target), how.nearest)
    there = far.isfinite()
    noise = noisy(victim, inputs[there], far[there], ctx.streams.generator("noise", batch))
    found = {
        "distance": torch.full_like(y, torch.nan, dtype=far.dtype).masked_scatter(tried, far),
        "noise changed": victim.answers(noise) != labels[there],
    }
    if batch == 0:
        some = there.nonzero().flatten()[: how.pictures]
        found |= {"input": inputs[some], "result": changed[some], "label": labels[some]}
        found["answer"] = victim.answers(changed[some])
    return found


def _distances(ctx: StageContext, how: AdversarialConfig, found: Measured) -> dict[str, float]:
    """What is known of the nearest wrong inputs; nothing where none was searched, no distance where none was found."""
    distance, contract = found["distance"].double().cpu(), ctx.data.contract
    spec = single_tensor(contract.inputs, "eval.adversarial")
    if len(found["input"]):
        names = contract.class_names
        before, after, labels, answers = (
            found[name].cpu() for name in ("input", "result", "label", "answer")
        )
        picture = shown(before, after, labels, answers, names, spec)
        if picture is not None:
            ctx.picture("adversarial_examples", picture)
    ctx.save("adversarial_distances", distance.masked_fill(distance.isinf(), torch.nan).float())
    searched = distance[~distance.isnan()].sort().values
    near = searched[searched.isfinite()]
    if not len(searched):
        return {}
    for number, far in enumerate(near.tolist(), 1):
        ctx.log(far, adversarial_within=number / len(searched))
    root = spec.values**0.5
    numbers = {"adversarial_found": float((near / root <= how.bound).sum()) / len(searched)}
    if len(near):
        numbers |= {
            "adversarial_distance": float(near.mean()),
            "adversarial_distance_median": float(near.median()),
            "adversarial_rms": float(near.mean()) / root,
            "equal_noise_changed": float(found["noise changed"].double().mean()),
        }
    return numbers


def _goal(labels: Tensor, target: int | None) -> Goal:
    return Goal(labels) if target is None else Goal(torch.full_like(labels, target), targeted=True)


def _label(target: int | str | None, names: Sequence[str]) -> int | None:
    return names.index(target) if isinstance(target, str) else target
