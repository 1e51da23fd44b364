"""Prunes a net by the options of `prune.magnitude`, and trains it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from compressit import StageContext, fit, keeping_zeros
from compressit_plugins.distill.loss import loss_of
from compressit_plugins.distill.options import TeacherConfig
from compressit_plugins.distill.taught import taught
from compressit_plugins.prune.gradual import Examples, Gradual, Schedule
from compressit_plugins.prune.masks import Pruning, Scored
from compressit_plugins.prune.measured import Calibration, gradient, readers, refuse_unread, snip, wanda
from compressit_plugins.prune.options import MagnitudeConfig
from compressit_plugins.prune.rewind import rewind
from compressit_plugins.prune.scores import by_synflow, chance, lamp, ones_like, synflow

_MEASURED = {"gradient": gradient, "snip": snip, "wanda": wanda}


def sparsify(model: nn.Module, ctx: StageContext, config: MagnitudeConfig, pruning: Pruning) -> None:
    """Prunes and trains `model` in place: at once, then `rewind` and `finetune`, or during `finetune`."""
    scored = scorer(model, ctx, config, pruning)
    if config.gradual is not None and config.finetune is not None:
        schedule = Schedule.of(config.gradual, config.finetune.total_steps(len(ctx.data.train)))
        gradual = Gradual.of(model, pruning, schedule, scored, config.score == "movement", ctx)
        examples, loss = lesson(ctx, config.distill)
        with keeping_zeros(model, ctx):
            gradual.train(model, config.finetune, examples, loss)
        return
    if config.score == "synflow":
        masks = by_synflow(model, pruning, ctx.data.train.some(1))
    else:
        masks = pruning.zero(scored and scored(0))
    if config.rewind is not None:
        rewind(model, ctx.model(config.rewind), masks)
    if config.finetune is not None:
        examples, loss = lesson(ctx, config.distill)
        with keeping_zeros(model, ctx, masks):
            fit(model, ctx, config.finetune, examples, loss)


def refuse(model: nn.Module, ctx: StageContext, config: MagnitudeConfig, pruning: Pruning) -> None:
    """Raises CompressitError if the score cannot be had for this net and these data: known before any training."""
    if config.score == "wanda":
        refuse_unread(pruning.weights, [name for name, _ in readers(model, pruning.weights)])
    if config.score == "synflow":
        ones_like(ctx.data.train.some(1))


def lesson(ctx: StageContext, distill: TeacherConfig | None) -> tuple[Examples, Callable[..., Tensor]]:
    """What `fit` trains on and minimises: the task's loss, or with a teacher what `distill` says."""
    train = ctx.data.train
    if distill is None:
        return train, ctx.task.objective(train.y)
    return taught(train, ctx.model(distill.teacher), ctx), loss_of(distill, ctx.task, train.y)


def scorer(model: nn.Module, ctx: StageContext, config: MagnitudeConfig, pruning: Pruning) -> Scored | None:
    """The scores of the weights after a number of optimizer steps; None for magnitude, and for movement, which a
    training sums up."""
    weights, score = pruning.weights, config.score
    if score == "random":
        return lambda step: chance(weights, ctx.streams.generator("score", step or None))
    if score == "lamp":
        return lambda step: lamp(weights)
    if score == "synflow":
        inputs = ctx.data.train.some(1)
        return lambda step: synflow(model, weights, inputs)
    if score in _MEASURED:
        measured = partial(_MEASURED[score], model, weights, Calibration(ctx, config.calibration))
        return lambda step: measured()
    return None
