"""The training loop. Every trainer, and every compressor that trains, uses `fit`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.fit_options import FitConfig, ScheduleConfig
from compressit.contract.fit_state import State, build_optimizer
from compressit.contract.measure import answers
from compressit.contract.nets import check_logits, check_tensor, fault_of, layer_of, place_of
from compressit.datasets.batching import batch_count
from compressit.datasets.splits import in_batches, order
from compressit.errors import CompressitError
from compressit.seeds import Streams, draw_from

Tensors = tuple[Tensor, ...]

# The accuracy shown is of the last batches of an epoch: for all batches it would cost a small net 7 % of the time.
_SCORED = 16


class Batched(Protocol):
    """Examples that come in batches (inputs, *targets), another order each epoch: a split, or something made of one."""

    def __len__(self) -> int: ...
    def batches(self, size: int, epoch: int) -> Iterator[Tensors]: ...


@dataclass(frozen=True)
class EpochEnd:
    """The argument of an `on_epoch` callback."""

    epoch: int  # 0-based
    images_seen: int
    loss: float  # mean of the epoch's minibatch losses


class StopTraining(Exception):  # noqa: N818 - control flow, not an error
    """Raised by an `on_epoch` callback to end training after this epoch."""


def fit(
    model: nn.Module,
    ctx: StageContext,
    options: FitConfig,
    data: Batched | Callable[[int], Tensors],
    loss: Callable[..., Tensor],
    on_epoch: Callable[[EpochEnd, dict[str, Tensor]], None] | None = None,
    kept: dict[str, Tensor] | None = None,
) -> nn.Module:
    """Trains `model` in place and returns it, in eval mode.

    `data`: a split, or what gives batches as one does; or a function that gives an epoch's tensors (inputs,
    *targets), first dimension N, on the device. Each is visited in an order drawn from the stage's stream.
    `loss(outputs, *targets)` gives a scalar. Logs the curve "loss" (step = optimizer steps so far) and keeps every
    minibatch's loss as the array "loss"; adds to the notes `images_seen` and `epochs`. Saves its state (model,
    optimizer, what `on_epoch` keeps in its dict of tensors) at epoch ends when due, and goes on from it with the
    very numbers of a run never stopped. That dict is `kept` when given: filled by `fit` when it goes on, so that
    the caller has it afterwards.
    """
    device = ctx.compute.device
    ctx.fits += 1
    model.to(device).train()
    optimizer = build_optimizer(model, options.optimizer, device)
    state = State(model, optimizer, {} if kept is None else kept)
    first = state.restore(ctx, options)
    step_model: Any = torch.compile(model) if ctx.compute.compile else model
    try:
        for epoch in range(first, options.epochs):
            draw_from(
                ctx.streams.number("layers", epoch)
            )  # for dropout etc.: a resumed run draws the same numbers
            started = time.perf_counter()
            examples = _Tensors(data(epoch), ctx.streams) if callable(data) else data
            losses, agreement = _epoch(step_model, optimizer, ctx, options, examples, loss, epoch)
            state.add(losses, len(examples))
            mean = float(losses.mean())
            ctx.log(state.steps, loss=mean)
            seconds = time.perf_counter() - started
            told = {"loss": mean, "accuracy": agreement, "seconds": seconds}
            ctx.emit({"epoch": epoch + 1, "epochs": options.epochs, **told})
            if not math.isfinite(mean):
                ctx.note(diverged=f"the loss became {mean} in epoch {epoch + 1}")
                break
            if on_epoch is not None:
                model.eval()
                on_epoch(EpochEnd(epoch, state.images_seen, mean), state.kept)
                model.train()
            if ctx.progress.due() and epoch + 1 < options.epochs:
                state.save(ctx, epoch + 1)
    except StopTraining:
        pass
    optimizer.zero_grad(set_to_none=True)
    ctx.save("loss", torch.cat(state.losses) if state.losses else torch.zeros(0))
    ctx.note(
        images_seen=ctx.notes.get("images_seen", 0) + state.images_seen,
        epochs=ctx.notes.get("epochs", 0) + len(state.losses),
    )
    return model.eval()


def learning_rate_factor(options: ScheduleConfig, progress: float, epochs: int, step: float) -> float:
    """The factor for a step of length `step` that starts at `progress` of `epochs` epochs (fractional, from 0).

    The warm-up includes the step itself, as in torch and timm, so the first step has a rate above 0.
    """
    if progress < options.warmup:
        return min(1.0, (progress + step) / options.warmup)
    if options.name == "constant":
        return 1.0
    if options.name == "step":
        return options.gamma ** sum(progress >= milestone for milestone in options.milestones)
    done = (progress - options.warmup) / max(epochs - options.warmup, 1e-8)
    return 1.0 - done if options.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class _Tensors:
    """An epoch's tensors, in batches as a split's."""

    tensors: Tensors
    streams: Streams

    def __len__(self) -> int:
        return len(self.tensors[0])

    def batches(self, size: int, epoch: int) -> Iterator[Tensors]:
        for index in in_batches(order(len(self), self.streams, epoch, self.tensors[0].device), size):
            yield tuple(tensor.index_select(0, index) for tensor in self.tensors)


def _epoch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ctx: StageContext,
    options: FitConfig,
    examples: Batched,
    loss: Callable[..., Tensor],
    epoch: int,
) -> tuple[Tensor, float | None]:
    """One pass: every minibatch's loss (S,) on the CPU, and its last ones' agreement with the targets."""
    count = batch_count(len(examples), options.batch_size)
    losses = torch.empty(count, device=ctx.compute.device)
    hits: list[Tensor] = []
    base = [group["initial_lr"] for group in optimizer.param_groups]
    scheduled = options.schedule.name != "constant" or options.schedule.warmup > 0
    scored = count - _SCORED
    for number, (inputs, *targets) in enumerate(examples.batches(options.batch_size, epoch)):
        if scheduled:
            progress = epoch + number / count
            factor = learning_rate_factor(options.schedule, progress, options.epochs, 1 / count)
            for group, lr in zip(optimizer.param_groups, base, strict=True):
                group["lr"] = lr * factor
        outputs: Any = None
        try:
            with ctx.compute.autocast():
                outputs = model(inputs)
                value = loss(outputs, *targets)
        except Exception as error:
            if (fault := _fault(error, model, inputs, outputs, targets)) is not None:
                raise fault from error
            raise
        if not value.requires_grad:
            raise CompressitError(
                "the loss does not depend on any trainable parameter",
                "check forward for detach(), no_grad, or an argmax instead of logits",
            )
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        if options.clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.step()
        losses[number] = value.detach()
        if number >= scored and targets and isinstance(outputs, Tensor) and outputs.ndim == 2:
            wanted = (
                targets[0] if targets[0].ndim == 1 else targets[0].argmax(1)
            )  # labels, or a teacher's outputs
            hits.append(answers(outputs.detach()) == wanted)
    return losses.cpu(), float(torch.cat(hits).float().mean()) if hits else None


def _fault(
    error: Exception, model: nn.Module, inputs: Tensor, outputs: object, targets: Sequence[Tensor]
) -> CompressitError | None:
    """The reason a step failed if net and data do not fit together; None for other errors."""
    try:
        if outputs is not None:
            labels = bool(targets) and targets[0].ndim == 1 and targets[0].dtype == torch.int64
            classes = int(targets[0].max()) + 1 if labels else None
            check_logits(outputs, classes, len(inputs)) if labels else check_tensor(outputs)
    except CompressitError as fault:
        return fault
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    if outputs is None and norms and len(inputs) == 1:
        return CompressitError(
            "a net with batch norm got a batch of one example, which has no variance",
            "use a `batch_size` above 1 and more than one training example",
        )
    if outputs is not None:
        return None
    if (fault := fault_of(model, inputs)) is not None:
        return fault
    found = layer_of(error, model)
    if found is None or not type(found[1]).__module__.startswith("torch.nn."):
        return None  # the user's own layer: its traceback is more helpful
    return CompressitError(
        f"the net does not run in train mode on inputs of shape {tuple(inputs.shape)}: {place_of(error, model)}{error}"
    )
