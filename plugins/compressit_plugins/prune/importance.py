"""How much a channel matters: from a model to a Torch-Pruning importance, which scores the channels of a group.

A plain `Importance` is a function of the model, so that it can look at the weights, and at gradients, before every
step of pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch.nn import functional as F

from compressit.errors import CompressitError
from compressit_plugins.prune.coupling import Scorer

Importance: TypeAlias = Callable[[nn.Module], Scorer]


def magnitude(model: nn.Module) -> Scorer:
    """The mean L2 norm of a channel's weights over all coupled layers (Fang et al. 2023, after Li et al. 2017)."""
    return tp.importance.GroupMagnitudeImportance(p=2)


def fpgm(model: nn.Module) -> Scorer:
    """Distance to the layer's other filters (He et al., "Filter pruning via geometric median", 2019)."""
    return tp.importance.FPGMImportance()


def lamp(model: nn.Module) -> Scorer:
    """The squared norm over the sum of those not smaller (Lee et al., "Layer-adaptive sparsity", 2021)."""
    return tp.importance.LAMPImportance()


def bn_scale(model: nn.Module) -> Scorer:
    """The batch norms' scales (Liu et al., "Network slimming", 2017). Groups without batch norm get no score.

    Raises CompressitError for a model that has none at all.
    """
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine for m in model.modules()):  # pyright: ignore[reportPrivateUsage]
        raise CompressitError(
            f"importance 'bn_scale' needs batch norms, and {type(model).__name__} has none",
            "use `importance: magnitude`",
        )
    return tp.importance.BNScaleImportance()


def random(generator: torch.Generator) -> Importance:
    """Uniform random numbers from `generator` (on the CPU): the control every other importance must beat."""
    return lambda model: lambda group: torch.rand(len(group[0].idxs), generator=generator)


def taylor(batches: Iterable[tuple[Tensor, Tensor]]) -> Importance:
    """First-order change of the cross-entropy when a channel goes (Molchanov et al. 2019): |weight * gradient|.

    `batches`: inputs (N, ...) and labels (N,) int64, on the model's device. The gradients stay on the model, in eval
    mode, until the channels are chosen; `prune_channels` clears them.
    """

    def scored(model: nn.Module) -> Scorer:
        model.zero_grad()
        for x, y in batches:
            F.cross_entropy(model(x), y).backward()
        for parameter in model.parameters():  # layers that run only in training
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        return _in_order(tp.importance.GroupTaylorImportance())

    return scored


def _in_order(scorer: Scorer) -> Scorer:
    """Torch-Pruning's Taylor importance sorts a layer's channels in place and not their root channels."""

    def scored(group: Any) -> Tensor | None:
        for item in group.items:
            pairs = sorted(zip(item.idxs, item.root_idxs, strict=True))
            item.idxs[:] = [channel for channel, _ in pairs]
            item.root_idxs[:] = [root for _, root in pairs]
        return scorer(group)

    return scored
