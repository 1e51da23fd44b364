"""Gives what is left of a pruned net the values of another model of its shape."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from compressit import CompressitError, pruned_zeros


def rewind(model: nn.Module, to: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Copies all tensors of `to` into `model`, in place; what `masks` (true at zeros, by parameter name) and an earlier
    pruning zeroed stays zero (Frankle & Carbin, "The lottery ticket hypothesis", 2019).

    Raises CompressitError if their tensors have other names or shapes.
    """
    theirs, ours = _tensors(to), _tensors(model)
    unlike = [
        n for n in {**ours, **theirs} if n not in ours or n not in theirs or ours[n].shape != theirs[n].shape
    ]
    if unlike:
        raise CompressitError(
            f"`rewind` names a model of another shape: {', '.join(unlike[:3])} differs",
            "name a model from which this one was made by training and `prune.magnitude` alone",
        )
    gone = {**pruned_zeros(model), **masks}
    with torch.no_grad():
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])
        for name, mask in gone.items():
            model.get_parameter(name).masked_fill_(mask, 0)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
