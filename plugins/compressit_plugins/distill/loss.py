"""The loss of a student that learns from a teacher and from targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compressit import CompressitError, Task
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
        soft = task.distance(outputs, taught.to(outputs.dtype), options.match, options.temperature)
        return soft if hard == 0 else (1 - hard) * soft + hard * truth(outputs, wanted)

    return loss
