"""Distances to a teacher that know classes. Of logits (N, K), K > 1: scalars, means over the batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def decoupled(
    outputs: Tensor, taught: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float
) -> Tensor:
    """Decoupled knowledge distillation (Zhao et al. 2022): T² (alpha * TCKD + beta * NCKD), at temperature T.

    TCKD is the Kullback-Leibler divergence of (target, all others) as two classes, NCKD that among the others. With
    alpha = 1 and beta the teacher's probability that it is none of the target's, it is the usual divergence. `labels`
    (N,) int64. Where the authors' code takes 1000 off the target's logit, this leaves the target out, and it takes no
    logarithm of a probability, which may be 0.
    """
    target = F.one_hot(labels, outputs.shape[1]).bool()
    never = torch.finfo(outputs.dtype).min / 2  # finite: what has no probability adds 0, not NaN

    def parts(logits: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities of (target, others), (N, 2), and among the others, (N, K)."""
        softened = logits / temperature
        others = softened.masked_fill(target, never)
        two = torch.stack([softened.masked_fill(~target, never).logsumexp(1), others.logsumexp(1)], 1)
        return two.log_softmax(1), others.log_softmax(1)

    ours, theirs = parts(outputs), parts(taught)
    tckd, nckd = (
        F.kl_div(our, their, reduction="batchmean", log_target=True)
        for our, their in zip(ours, theirs, strict=True)
    )
    return temperature**2 * (alpha * tckd + beta * nckd)


def correlated(outputs: Tensor, taught: Tensor, temperature: float, inter: float, intra: float) -> Tensor:
    """DIST (Huang et al., "Knowledge distillation from a stronger teacher", 2022), T² times as in the authors' code.

    1 minus Pearson's correlation of the two models' probabilities at temperature T: over the classes of an example,
    averaged over examples (`inter`), and over the examples of a class, averaged over classes (`intra`).
    """
    ours, theirs = ((logits / temperature).softmax(1) for logits in (outputs, taught))
    apart = inter * (1 - pearson(ours, theirs, 1).mean()) + intra * (1 - pearson(ours, theirs, 0).mean())
    return temperature**2 * apart


def pearson(one: Tensor, other: Tensor, dim: int) -> Tensor:
    """Pearson's correlation along `dim`; 0 where one of the two is constant."""
    centred = (x - x.mean(dim, keepdim=True) for x in (one, other))
    return F.cosine_similarity(*centred, dim=dim, eps=1e-8)
