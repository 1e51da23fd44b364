"""Training on labelled examples that can stop early: what `train.supervised` and `train.distill` do."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from compressit import (
    Batched,
    CompressitError,
    EpochEnd,
    InputTensors,
    Split,
    StageContext,
    StopTraining,
    fit,
    keeping_zeros,
)
from compressit_plugins.train.options import EarlyStoppingConfig, SupervisedConfig

WEIGHTS = "weights/"


Examples = Batched | Callable[[int], tuple[InputTensors, *tuple[Tensor, ...]]]


def supervise(
    model: nn.Module,
    ctx: StageContext,
    options: SupervisedConfig,
    examples: Examples,
    loss: Callable[..., Tensor],
    on_step: Callable[[int, Tensor], None] | None = None,
) -> nn.Module:
    """`fit_early` of a model that may have been pruned. Notes `zeros_kept`: the number of pruned weights that stayed
    zero."""
    with _zeros(model, ctx, options):
        return fit_early(model, ctx, options, examples, loss, on_step)


def fit_early(
    model: nn.Module,
    ctx: StageContext,
    options: EarlyStoppingConfig,
    examples: Examples,
    loss: Callable[..., Tensor],
    on_step: Callable[[int, Tensor], None] | None = None,
) -> nn.Module:
    """Trains `model` in place and returns it.

    `examples`: `ctx.data.train`, or what is made of it; as `fit` takes them, with `loss` and `on_step`.
    With a validation split, logs the curves validation_loss and validation_accuracy, or what the task watches instead,
    after every epoch; they do not depend on options that only trainings use, as label smoothing. Logs the same of the
    splits in `track`, as train_accuracy and test_accuracy, at the points of the curve "loss"; nothing reads them.
    If the options ask for it, stops early or restores the weights of the best epoch, and notes `best_epoch` and
    `stopped_early` (1-based epochs). Raises CompressitError if the options need a split that the data do not have.
    """
    data = ctx.data
    selects = bool(options.needs_validation())
    if selects and data.validation is None:
        raise CompressitError(
            "patience and restore_best need a validation split, and the data has none",
            "split off some training images, for example `data: {with: {validation: 0.1}}`",
        )
    # State of early stopping, as tensors, because `fit` saves it with its own state.
    kept: dict[str, Tensor] = {}
    task = ctx.task.measuring()
    monitor = options.monitor or task.watch
    shown = {"loss", task.watch, monitor}
    tracked = {name: data.split(name) for name in options.track}

    def logged(steps: int, name: str, split: Split) -> dict[str, float]:
        outputs, y = ctx.compute.forward(model, split), split.y
        scores = {"loss": float(task.objective(y)(outputs, y)), **task.scores(outputs, y)}
        ctx.log(steps, **{f"{name}_{score}": value for score, value in scores.items() if score in shown})
        return scores

    def on_epoch(end: EpochEnd, _: dict[str, Tensor]) -> None:
        if end.logged:
            for name, split in tracked.items():
                logged(end.steps, name, split)
        if data.validation is None:
            return
        scores = logged(end.steps, "validation", data.validation)
        if selects:
            lower = monitor == "loss" or task.measures()[monitor].better == "lower"
            value = scores.get(monitor, math.nan)
            _remember(kept, -value if lower else value, end.epoch, model if options.restore_best else None)
            if options.patience is not None and end.epoch - int(kept["best_epoch"]) >= options.patience:
                ctx.note(stopped_early=end.epoch + 1)
                raise StopTraining

    fit(model, ctx, options, examples, loss, on_epoch, kept, on_step)
    if kept:
        ctx.note(best_epoch=int(kept["best_epoch"]) + 1)
    if options.restore_best and kept:
        best = {n.removeprefix(WEIGHTS): value for n, value in kept.items() if n.startswith(WEIGHTS)}
        model.load_state_dict(best)
    return model


@contextmanager
def _zeros(model: nn.Module, ctx: StageContext, options: SupervisedConfig) -> Generator[None]:
    """Keeps the pruned weights at zero if the options ask for it."""
    if not options.keep_zeros:
        yield
        return
    with keeping_zeros(model, ctx) as zeros:
        if zeros:
            ctx.note(zeros_kept=zeros)
        yield


def _remember(kept: dict[str, Tensor], score: float, epoch: int, model: nn.Module | None) -> None:
    """Keeps the epoch if it is the best so far. Of equal epochs the first is the best; NaN is the worst score."""
    score = -math.inf if math.isnan(score) else score
    if kept and not score > float(kept["best"]):
        return
    kept["best"] = torch.tensor(score, dtype=torch.float64)
    kept["best_epoch"] = torch.tensor(epoch)
    if model is not None:
        kept |= {WEIGHTS + name: value.detach().clone() for name, value in model.state_dict().items()}
