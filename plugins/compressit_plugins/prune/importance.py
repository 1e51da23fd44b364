"""Importances: functions from a model to a Torch-Pruning importance, which scores the channels of a group.

An `Importance` is called before every pruning step, so it can use the current weights and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import torch
import torch_pruning as tp
from torch import Tensor, nn

from compressit import CompressitError, InputTensors, Task, call
from compressit_plugins.prune.coupling import Scorer

Importance: TypeAlias = Callable[[nn.Module], Scorer]
Loss: TypeAlias = Callable[[Any, Tensor], Tensor]  # of a model's outputs and the targets


def checked_loss(task: Task[Any], targets: Tensor) -> Loss:
    """What trainings of this task minimise on examples with these targets; raises CompressitError for other outputs."""
    objective = task.objective(targets)

    def loss(outputs: Any, wanted: Tensor) -> Tensor:
        try:
            task.check(outputs, len(wanted))
        except CompressitError as error:
            raise CompressitError(
                f"importance 'taylor' needs gradients of the loss of {task.name}, but {error.message}",
                "use `importance: magnitude`, which needs no loss",
            ) from error
        return objective(outputs, wanted)

    return loss


def magnitude(model: nn.Module) -> Scorer:
    """The mean L2 norm of a channel's weights over all coupled layers (Fang et al. 2023, after Li et al. 2017).

    The same as Torch-Pruning's, but without its copies of a layer's weights: squares a few rows at a time.
    """
    importance: Any = tp.importance.GroupMagnitudeImportance(p=2)

    @torch.no_grad()
    def scored(group: Any) -> Tensor | None:
        squares = [(_squares(item.dep, item.idxs), item.root_idxs) for item in group.items]
        found = [(norms, roots) for norms, roots in squares if norms is not None]
        if not found:
            return None
        reduced = importance._reduce([norms for norms, _ in found], [roots for _, roots in found])
        return importance._normalize(reduced, importance.normalizer)

    return scored


def _squares(dep: Any, channels: list[int]) -> Tensor | None:
    """The sum of squares of each channel's weights in one layer, on one side; None if the layer does not count."""
    layer, prune = dep.layer, dep.pruning_fn
    if prune in (tp.prune_conv_out_channels, tp.prune_linear_out_channels):
        weight = layer.weight.detach()
        return _rows((weight.transpose(0, 1) if getattr(layer, "transposed", False) else weight), channels)
    if prune in (tp.prune_conv_in_channels, tp.prune_linear_in_channels):
        weight = layer.weight.detach()
        rows = weight if getattr(layer, "transposed", False) else weight.transpose(0, 1)
        norms = _rows(rows, list(range(len(rows))))
        if getattr(layer, "groups", 1) not in (1, getattr(layer, "in_channels", 1)):
            norms = norms.repeat(layer.groups)
        return norms[channels]
    if prune in (tp.prune_batchnorm_out_channels, tp.prune_layernorm_out_channels):
        weight = layer.weight
        return None if weight is None else weight.detach()[channels].square()
    return None


def _rows(weight: Tensor, rows: list[int]) -> Tensor:
    some = max(1, 2**20 // max(weight[0].numel(), 1))
    parts = [rows[at : at + some] for at in range(0, len(rows), some)]
    return torch.cat([weight[part].flatten(1).square().sum(1) for part in parts])


def fpgm(model: nn.Module) -> Scorer:
    """Distance to the layer's other filters (He et al., "Filter pruning via geometric median", 2019)."""
    return tp.importance.FPGMImportance()


def lamp(model: nn.Module) -> Scorer:
    """The squared norm divided by the sum of those not smaller (Lee et al., "Layer-adaptive sparsity", 2021)."""
    return tp.importance.LAMPImportance()


def bn_scale(model: nn.Module) -> Scorer:
    """The scales of batch norms (Liu et al., "Network slimming", 2017). Groups without batch norm get no score.

    Raises CompressitError if the model has no batch norm.
    """
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine for m in model.modules()):  # pyright: ignore[reportPrivateUsage]
        raise CompressitError(
            f"importance 'bn_scale' needs batch norms, and {type(model).__name__} has none",
            "use `importance: magnitude`",
        )
    return tp.importance.BNScaleImportance()


def random(generator: torch.Generator) -> Importance:
    """Uniform random numbers from `generator` (on the CPU): the control that other importances must beat."""
    return lambda model: lambda group: torch.rand(len(group[0].idxs), generator=generator)


def taylor(batches: Iterable[tuple[InputTensors, Tensor]], loss: Loss) -> Importance:
    """First-order change of the loss when a channel is removed (Molchanov et al. 2019): |weight * gradient|.

    `batches`: inputs (N, ...) and targets, on the model's device. `loss(outputs, targets)` returns a scalar, the
    training loss. The gradients, computed in eval mode, stay on the model until channels are chosen; `prune_channels`
    clears them.
    """

    def scored(model: nn.Module) -> Scorer:
        model.zero_grad()
        for x, y in batches:
            loss(call(model, x), y).backward()
        for parameter in model.parameters():  # layers that run only in training
            if parameter.grad is None and parameter.requires_grad:
                parameter.grad = torch.zeros_like(parameter)
        return _in_order(tp.importance.GroupTaylorImportance())

    return scored


def _in_order(scorer: Scorer) -> Scorer:
    """Sorts channels and roots together: Torch-Pruning's Taylor importance sorts only the channels, in place."""

    def scored(group: Any) -> Tensor | None:
        for item in group.items:
            pairs = sorted(zip(item.idxs, item.root_idxs, strict=True))
            item.idxs[:] = [channel for channel, _ in pairs]
            item.root_idxs[:] = [root for _, root in pairs]
        return scorer(group)

    return scored
