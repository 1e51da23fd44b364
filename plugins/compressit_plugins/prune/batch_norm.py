"""Measures the statistics of batch norms again after pruning, since those of the wider model no longer hold."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from compressit import InputTensors, call, tensors_of


def running_norms(model: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:  # pyright: ignore[reportPrivateUsage]
    """The batch norms that keep running statistics."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]  # pyright: ignore[reportPrivateUsage]
    return [norm for norm in norms if norm.track_running_stats]


@torch.no_grad()
def recalibrate(model: nn.Module, batches: Iterable[InputTensors]) -> int:
    """Replaces the running statistics by the mean over `batches` (N, ...), in place. Returns how many were used.

    Skips batches of one input, which have no variance. Everything except the batch norms runs in eval mode; modes and
    momenta are restored. Does nothing to a model without batch norms. Li et al., "EagleEye" (2020), show that pruned
    models are misjudged without this.
    """
    norms = running_norms(model)
    if not norms:
        return 0
    used = 0
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()
    try:
        for batch in batches:
            if tensors_of(batch)[0].shape[0] < 2:
                continue
            if not used:
                for norm in norms:
                    norm.reset_running_stats()
                    norm.train()
                    norm.momentum = None  # the unweighted mean over all batches
            call(model, batch)
            used += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return used
