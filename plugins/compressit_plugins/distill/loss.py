"""The loss of a student that learns from a teacher and from targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compressit import CompressitError, Task
from compressit_plugins.distill.distances import correlated, decoupled
from compressit_plugins.distill.options import TeacherConfig


def loss_of(
    options: TeacherConfig, task: Task[Any], targets: Tensor
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(1 - hard) * distance to the teacher + hard * the task's loss, of (outputs, targets, the teacher's outputs).

    `targets`: of all training examples, (N, ...). A part of weight 0 is not computed. The loss raises CompressitError
    if student and teacher do not have outputs of the same shape.
    """
    truth, hard = task.objective(targets), options.hard

    def loss(outputs: Tensor, wanted: Tensor, taught: Tensor) -> Tensor:
        if outputs.shape != taught.shape:
            raise CompressitError(
                f"the teacher's outputs have shape {tuple(taught.shape)}, the student's {tuple(outputs.shape)}",
                "teacher and student must answer with the same classes",
            )
        outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # bf16 under autocast
        if hard == 1:
            return truth(outputs, wanted)
        soft = _distance(options, task, outputs, wanted, taught.to(outputs.dtype))
        return soft if hard == 0 else (1 - hard) * soft + hard * truth(outputs, wanted)

    return loss


def _distance(
    options: TeacherConfig, task: Task[Any], outputs: Tensor, wanted: Tensor, taught: Tensor
) -> Tensor:
    """From the student's outputs to the teacher's: the task's own, or one of those that know classes."""
    temperature = options.temperature
    if options.loss == "dkd":
        return decoupled(outputs, taught, wanted, temperature, options.alpha, options.beta)
    if options.loss == "dist":
        return correlated(outputs, taught, temperature, options.inter, options.intra)
    return task.distance(outputs, taught, options.loss, temperature)
