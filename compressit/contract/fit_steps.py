"""The optimizer steps of an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext
from compressit.contract.fit_average import Average
from compressit.contract.fit_options import FitConfig, ScheduleConfig
from compressit.contract.fit_state import Losses
from compressit.contract.layout import Layout
from compressit.contract.nets import check_logits, check_tensor, fault_of, layer_of, place_of
from compressit.datasets.batched import InputTensors, call, described, each_tensor, examples_in
from compressit.datasets.batching import BatchSize, batch_count
from compressit.errors import CompressitError

Tensors = tuple[InputTensors, *tuple[Tensor, ...]]
"""Inputs of a batch, and its targets."""
OnStep = Callable[[int, Tensor], None]
OnGradients = Callable[[], None]

# The accuracy shown is of the last batches of an epoch: for all batches it would cost a small net 7 % of the time.
_SCORED = 16


class Batched(Protocol):
    """Examples that come in batches (inputs, *targets), another order each epoch: a split, or something made of one.

    `size` is a training's `batch_size`, so it may be "all": then one batch, in the stored order.
    """

    def __len__(self) -> int: ...
    def batches(self, size: BatchSize, epoch: int) -> Iterator[Tensors]: ...


class StopTraining(Exception):  # noqa: N818 - control flow, not an error
    """Raised by an `on_epoch` callback to end training after this epoch, by `on_step` to end it after this step."""


def learning_rate_factor(options: ScheduleConfig, progress: float, length: int, step: float) -> float:
    """The factor for a step of length `step` that starts at `progress` (from 0) of a training of `length`: in epochs,
    with fractions, or in steps.

    The warm-up includes the step itself, as in torch and timm, so the first step has a rate above 0.
    """
    if progress < options.warmup:
        return min(1.0, (progress + step) / options.warmup)
    if options.name == "constant":
        return 1.0
    if options.name == "step":
        return options.gamma ** sum(progress >= milestone for milestone in options.milestones)
    done = (progress - options.warmup) / max(length - options.warmup, 1e-8)
    return 1.0 - done if options.name == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Steps:
    """Takes the optimizer steps of one epoch after the other."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ctx: StageContext
    options: FitConfig
    loss: Callable[..., Tensor]
    on_step: OnStep | None
    on_gradients: OnGradients | None
    losses: Losses  # of all steps so far
    layout: Layout
    average: Average

    def epoch(
        self, examples: Batched, images: int, epoch: int, scored: bool
    ) -> tuple[bool, int, float | None]:
        """One pass over so many images, ended by `steps`. Returns whether `on_step` stopped it, the number of images
        seen, and, if `scored`, the agreement of its last minibatches with their targets."""
        size, schedule = self.options.batch_size, self.options.schedule
        count, seen, stopped = batch_count(images, size), 0, False
        last = count if self.options.steps is None else min(count, self.options.steps - self.losses.count)
        scheduled = schedule.name != "constant" or schedule.warmup > 0
        hits: list[Tensor] = []
        for number, (inputs, *targets) in enumerate(islice(examples.batches(size, epoch), last)):
            if scheduled:
                self._set_rate(epoch, number, count)
            outputs, value = self._step(inputs, targets)
            seen += examples_in(inputs)
            if scored and number >= last - _SCORED and (hit := self._hits(outputs, targets)) is not None:
                hits.append(hit)
            try:
                if self.on_step is not None:
                    self.on_step(self.losses.count, value)
            except StopTraining:
                stopped = True
                break
        return stopped, seen, float(torch.cat(hits).float().mean()) if hits else None

    def _hits(self, outputs: Any, targets: Sequence[Tensor]) -> Tensor | None:
        """Which examples are answered right, (B,), as the task says; None if that has no meaning."""
        if not targets or not isinstance(outputs, Tensor):
            return None
        return self.ctx.task.hits(outputs.detach(), targets[0])

    def _set_rate(self, epoch: int, number: int, count: int) -> None:
        """The learning rate of the epoch's step `number` of `count`."""
        if self.options.steps is None:
            progress, length, step = epoch + number / count, self.options.epochs, 1 / count
        else:
            progress, length, step = self.losses.count, self.options.steps, 1
        factor = learning_rate_factor(self.options.schedule, progress, length, step)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _step(self, inputs: InputTensors, targets: Sequence[Tensor]) -> tuple[Any, Tensor]:
        """Takes a step and keeps its loss. Returns the outputs, and the loss without gradients."""
        outputs, compute = None, self.ctx.compute
        self.optimizer.zero_grad(
            set_to_none=True
        )  # first: activations take the gradients' place in the caches
        try:
            inputs = self.layout.inputs(each_tensor(inputs, compute.typed))
            targets = [compute.typed(target) for target in targets]
            with compute.autocast():
                outputs = self.layout.outputs(call(self.model, inputs))
                value = self.loss(outputs, *targets)
        except Exception as error:
            if (fault := _fault(error, self.model, inputs, outputs, targets)) is not None:
                raise fault from error
            raise
        if not value.requires_grad:
            raise CompressitError(
                "the loss does not depend on any trainable parameter",
                "check forward for detach(), no_grad, or an argmax instead of logits",
            )
        value.backward()
        if self.on_gradients is not None:
            self.on_gradients()
        if self.options.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.average.update(self.losses.count)
        value = value.detach()
        self.losses.add(value)
        return outputs, value


def _fault(
    error: Exception, model: nn.Module, inputs: InputTensors, outputs: object, targets: Sequence[Tensor]
) -> CompressitError | None:
    """The reason a step failed if net and data do not fit together; None for other errors."""
    try:
        if outputs is not None:
            labels = bool(targets) and targets[0].ndim == 1 and targets[0].dtype == torch.int64
            classes = int(targets[0].max()) + 1 if labels else None
            check_logits(outputs, classes, examples_in(inputs)) if labels else check_tensor(outputs)
    except CompressitError as fault:
        return fault
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    if outputs is None and norms and examples_in(inputs) == 1:
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
        f"the net does not run in train mode on {described(inputs)}: {place_of(error, model)}{error}"
    )
