"""The loss of a student that learns from a teacher and from labels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from compressit import CompressitError
from compressit_plugins.distill.options import Match, TeacherConfig


def loss_of(
    options: TeacherConfig, label_smoothing: float = 0.0
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """`taught_loss` with these options, of (outputs, labels, the teacher's logits)."""
    return partial(
        taught_loss,
        hard=options.hard,
        match=options.match,
        temperature=options.temperature,
        label_smoothing=label_smoothing,
    )


def taught_loss(
    outputs: Tensor,
    labels: Tensor,
    taught: Tensor,
    *,
    hard: float,
    match: Match = "probabilities",
    temperature: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    """(1 - hard) * distance to the teacher + hard * cross-entropy with the labels, a mean over the batch.

    `outputs` of the student and `taught` of the teacher are logits (N, classes), `labels` (N,) int64. The distance of
    probabilities is T² * KL(softmax(taught / T) || softmax(outputs / T)); the factor T² keeps its gradients about the
    same size when T changes (Hinton, Vinyals & Dean 2015, section 2). The distance of logits is their mean squared
    error (Ba & Caruana 2014), twice the limit of the other one for a high T and centred logits. A part of weight 0 is
    not computed. Raises CompressitError if the two do not have the same shape.
    """
    if outputs.shape != taught.shape:
        raise CompressitError(
            f"the teacher's outputs have shape {tuple(taught.shape)}, the student's {tuple(outputs.shape)}",
            "teacher and student must answer with the same classes",
        )
    outputs = outputs.to(torch.promote_types(outputs.dtype, torch.float32))  # bf16 under autocast
    taught = taught.to(outputs.dtype)
    if hard == 1:
        return F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)
    soft = F.mse_loss(outputs, taught) if match == "logits" else _divergence(outputs, taught, temperature)
    if hard == 0:
        return soft
    return (1 - hard) * soft + hard * F.cross_entropy(outputs, labels, label_smoothing=label_smoothing)


def _divergence(outputs: Tensor, taught: Tensor, temperature: float) -> Tensor:
    student = F.log_softmax(outputs / temperature, 1)
    teacher = F.log_softmax(taught / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
