"""The loss for distillation with soft labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def soft_label_loss(
    outputs: Tensor, labels: Tensor, taught: Tensor, temperature: float, alpha: float
) -> Tensor:
    """alpha * T² * KL(softmax(taught / T) || softmax(outputs / T)) + (1 - alpha) * cross-entropy, batch mean.

    `outputs` and `taught` are logits (N, classes), `labels` (N,) int64. The factor T² keeps the gradients of the soft
    part about the same size when T changes (Hinton, Vinyals & Dean 2015, section 2).
    """
    student = F.log_softmax(outputs.float() / temperature, 1)
    teacher = F.log_softmax(taught / temperature, 1)
    soft = F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(outputs.float(), labels)
