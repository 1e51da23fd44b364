"""The training loop. Every trainer, and every compressor that trains, uses `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.fit_average import Average
from compressit.contract.fit_options import FitConfig
from compressit.contract.fit_state import State, build_optimizer
from compressit.contract.fit_steps import Batched, OnGradients, OnStep, Steps, StopTraining, Tensors
from compressit.contract.fit_told import Told
from compressit.contract.layout import Layout
from compressit.datasets.batched import examples_in, picked, tensors_of
from compressit.datasets.batching import BatchSize
from compressit.datasets.splits import in_batches, order
from compressit.seeds import Streams, draw_from


@dataclass(frozen=True)
class EpochEnd:
    """The argument of an `on_epoch` callback."""

    epoch: int  # 0-based
    images_seen: int
    loss: float  # mean of the epoch's minibatch losses
    steps: int  # optimizer steps so far
    logged: bool  # whether "loss" and "accuracy" have a point of this epoch


OnEpoch = Callable[[EpochEnd, dict[str, Tensor]], None]


def fit(
    model: nn.Module,
    ctx: StageContext,
    options: FitConfig,
    data: Batched | Callable[[int], Tensors],
    loss: Callable[..., Tensor],
    on_epoch: OnEpoch | None = None,
    kept: dict[str, Tensor] | None = None,
    on_step: OnStep | None = None,
    on_gradients: OnGradients | None = None,
) -> nn.Module:
    """Trains `model` in place and returns it, in eval mode.

    `data`: a split, or what gives batches as one does; or a function that gives an epoch's tensors (inputs,
    *targets), first dimension N, on the device. Each is visited in an order drawn from the stage's stream, or, with
    `batch_size: all`, as it is. `loss(outputs, *targets)` gives a scalar.

    Logs the curves "loss" (mean of an epoch) and, where known, "accuracy" (of its last minibatches) against the
    optimizer steps so far: after every epoch, of more than 200 after some (`fit_told.chosen`). Keeps every minibatch's
    loss as the array "loss". Adds to the notes `images_seen` and `epochs` (one that was begun counts).

    `on_epoch(end, kept)` is called after each epoch, also where `steps` ends the training within one, with the model
    in eval mode. `on_step(steps, loss)` is called after each optimizer step with their number so far and the
    minibatch's loss, a scalar that is still on the device: reading it waits for the device. Both may raise
    StopTraining; after one from `on_step` the epoch is not completed and `on_epoch` not called. `on_gradients()` is
    called before each optimizer step, and before clipping: it may change the gradients of the parameters in place.

    With `ema` the model that `on_epoch` sees and that is returned has the average of the weights (`fit_average`); loss
    and accuracy of the steps are of the weights themselves.

    Saves its state (model, optimizer, what `on_epoch` keeps in its dict of tensors) at epoch ends when due, and goes
    on from it with the very numbers of a run never stopped. That dict is `kept` when given: filled by `fit` when it
    goes on, so that the caller has it afterwards.
    """
    ctx.fits.append(options)
    ctx.compute.placed(model).train()
    optimizer = build_optimizer(model, options.optimizer, ctx.compute.device)
    average = Average(model, options.ema)
    state = State(model, optimizer, {} if kept is None else kept, average)
    first = state.restore(ctx, options)
    compiled: Any = torch.compile(model) if ctx.compute.compile else model
    layout = Layout(model, optimizer)
    steps = Steps(
        compiled, optimizer, ctx, options, loss, on_step, on_gradients, state.losses, layout, average
    )
    told, epoch = Told(ctx, options, first), first
    for epoch in count(first):
        draw_from(ctx.streams.number("layers", epoch))  # dropout etc.: a resumed run draws the same numbers
        examples = _Tensors(data(epoch), ctx.streams) if callable(data) else data
        begun, size = state.losses.count, len(examples)
        stopped, images, agreement = steps.epoch(examples, size, epoch, told.wants(epoch, size))
        state.images_seen += images
        mean = state.losses.mean(begun)
        diverged = not math.isfinite(mean)
        told.epoch(state.steps, mean, agreement)
        if diverged:
            ctx.note(diverged=f"the loss became {mean} in epoch {epoch + 1}")
        elif on_epoch is not None and not stopped:
            end = EpochEnd(epoch, state.images_seen, mean, state.steps, told.logs)
            stopped = _ended(on_epoch, end, state)
        if stopped or diverged or options.ended(epoch + 1, state.steps):
            break
        if ctx.progress.due():
            state.save(ctx, epoch + 1)
    told.end()
    average.exchange()
    layout.end()
    optimizer.zero_grad(set_to_none=True)
    ctx.save("loss", state.losses.all())
    ctx.note(
        images_seen=ctx.notes.get("images_seen", 0) + state.images_seen,
        epochs=ctx.notes.get("epochs", 0) + epoch + 1,
    )
    return model.eval()


def _ended(on_epoch: OnEpoch, end: EpochEnd, state: State) -> bool:
    """Calls `on_epoch`; whether it ends the training."""
    state.model.eval()
    try:
        with state.average.shown():
            on_epoch(end, state.kept)
    except StopTraining:
        return True
    state.model.train()
    return False


@dataclass(frozen=True)
class _Tensors:
    """An epoch's tensors, in batches as a split's."""

    tensors: Tensors
    streams: Streams

    def __len__(self) -> int:
        return examples_in(self.tensors[0])

    def batches(self, size: BatchSize, epoch: int) -> Iterator[Tensors]:
        if size == "all":
            yield self.tensors  # themselves: nothing is gathered
            return
        inputs, *targets = self.tensors
        device = tensors_of(inputs)[0].device
        for index in in_batches(order(len(self), self.streams, epoch, device), size):
            yield picked(inputs, index), *(target.index_select(0, index) for target in targets)
