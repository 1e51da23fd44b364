"""The norm of a net's weights, and the radius that Glorot's initialisation gives it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor, nn

from compressit import CompressitError, StageContext, pruned_zeros


def norm(weights: Iterable[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together: a scalar, which may still be on the device."""
    return nn.utils.get_total_norm(list(weights))


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, by name; each tied one once. Raises CompressitError if there are none, and for complex
    numbers."""
    found = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not found:
        raise CompressitError(
            f"there is nothing to train: {type(model).__name__} has no parameter that learns",
            "unfreeze the layers to train: layer.requires_grad_(True)",
        )
    for name, parameter in found.items():
        if parameter.is_complex():
            raise CompressitError(
                f"'{name}' has complex numbers, and a space of weights is one of real numbers here",
                "train the net by `train.supervised`",
            )
    return found


def zeros_to_keep(model: nn.Module, ctx: StageContext, keep: bool) -> dict[str, Tensor]:
    """Bool masks of pruned weights, by name, of parameters that learn and have any; none unless `keep`."""
    masks = pruned_zeros(model) if keep and not ctx.fresh else {}
    return {name: masks[name] for name in trained(model) if name in masks}


def glorot_radius(model: nn.Module, masks: Mapping[str, Tensor]) -> float:
    """The norm that Glorot & Bengio's initialisation (2010) gives in expectation: the root of the sum, over all
    parameters of two or more dimensions that learn, of 2 · count / (inputs + outputs). `count` is the number of weights
    without the pruned ones of `masks`. Biases begin at zero; scales of norms are not counted. 0 for a net without any.

    784-200-200-10 has √537.7 = 23.2.
    """
    squared = 0.0
    for name, weight in trained(model).items():
        if weight.ndim > 1:
            kept = weight.numel() - (int(masks[name].sum()) if name in masks else 0)
            squared += 2 * kept / ((weight.shape[0] + weight.shape[1]) * math.prod(weight.shape[2:]))
    return math.sqrt(squared)


def radius_of(model: nn.Module, radius: float | Literal["initial"], masks: Mapping[str, Tensor]) -> float:
    """The norm that the option `radius` means: of all parameters that learn, biases too.

    Raises CompressitError for weights that are all zero, and for a multiple where there is no Glorot radius."""
    now = float(norm(parameter.detach() for parameter in trained(model).values()))
    if not now:
        raise CompressitError(
            "all weights are zero, and no factor brings them to a radius", "start from other weights"
        )
    if radius == "initial":
        return now
    if not (unit := glorot_radius(model, masks)):
        raise CompressitError(
            f"{type(model).__name__} has no matrix of weights, so there is no Glorot radius",
            "use `radius: initial`",
        )
    return radius * unit
