"""Distillation with soft labels: what `distill.soft_labels` does."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from compressit import FitConfig, StageContext, fit


def distil(
    student: nn.Module,
    teacher: nn.Module,
    ctx: StageContext,
    options: FitConfig,
    temperature: float,
    alpha: float,
) -> nn.Module:
    """Trains `student` in place on `ctx.data.train` and returns it; the teacher's logits are made once."""
    x, y = ctx.data.train.tensors()
    taught = ctx.compute.forward(teacher, x)

    def loss(outputs: Tensor, labels: Tensor, logits: Tensor) -> Tensor:
        return soft_label_loss(outputs, labels, logits, temperature, alpha)

    return fit(student, ctx, options, lambda epoch: (x, y, taught), loss)


def soft_label_loss(
    outputs: Tensor, labels: Tensor, taught: Tensor, temperature: float, alpha: float
) -> Tensor:
    """alpha * T² * KL(softmax(taught / T) || softmax(outputs / T)) + (1 - alpha) * cross-entropy, batch mean.

    `outputs` and `taught` are logits (N, classes), `labels` (N,) int64. T² keeps the size of the soft part's
    gradients as T changes (Hinton, Vinyals & Dean 2015, section 2).
    """
    outputs = outputs.float()
    student = F.log_softmax(outputs / temperature, 1)
    teacher = F.log_softmax(taught / temperature, 1)
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(outputs, labels)
