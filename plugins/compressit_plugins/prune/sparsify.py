"""Prunes a net by the options of `prune.magnitude`, and trains it."""

from __future__ import annotations

from functools import partial

from torch import nn

from compressit import StageContext, fit, keeping_zeros
from compressit_plugins.distill.taught import Lesson, lesson
from compressit_plugins.prune.gradual import Gradual, Schedule
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
        with keeping_zeros(model, ctx):
            gradual.train(_lesson(model, ctx, config), config.finetune)
        return
    if config.score == "synflow":
        masks = by_synflow(model, pruning, ctx.data.train.some(1))
    else:
        masks = pruning.zero(scored and scored(0))
    if config.rewind is not None:
        rewind(model, ctx.model(config.rewind), masks)
    if config.finetune is not None:
        given = _lesson(model, ctx, config)
        with keeping_zeros(model, ctx, masks):
            fit(given.student, ctx, config.finetune, given.examples, given.loss)


def refuse(model: nn.Module, ctx: StageContext, config: MagnitudeConfig, pruning: Pruning) -> None:
    """Raises CompressitError if the score cannot be had for this net and these data: known before any training."""
    if config.score == "wanda":
        refuse_unread(pruning.weights, [name for name, _ in readers(model, pruning.weights)])
    if config.score == "synflow":
        ones_like(ctx.data.train.some(1))


def _lesson(model: nn.Module, ctx: StageContext, config: MagnitudeConfig) -> Lesson:
    """What the net learns: the task alone, or with a teacher what `distill` says."""
    if config.distill is not None:
        return lesson(model, ctx, config.distill)
    train = ctx.data.train
    return Lesson(model, train, ctx.task.objective(train.y))


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
