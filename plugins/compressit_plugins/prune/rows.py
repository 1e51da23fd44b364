"""The output rows of weight matrices: what one output neuron or channel reads."""

from __future__ import annotations

from torch import Tensor, nn


def transposed(model: nn.Module) -> dict[str, int]:
    """The groups of the transposed convolutions, by the names of their weights: outputs are their second dimension."""
    return {
        f"{name}.weight".lstrip("."): layer.groups
        for name, layer in model.named_modules()
        if isinstance(layer, nn.modules.conv._ConvTransposeNd)  # pyright: ignore[reportPrivateUsage]
    }


def as_rows(weight: Tensor, groups: int | None) -> Tensor:
    """A weight (outputs, ...) as (1, outputs, ...), and that of a transposed convolution of so many groups, (inputs,
    outputs / groups, ...), as (groups, outputs / groups, inputs / groups, ...). A view, if the weight is contiguous."""
    if groups is None:
        return weight.unsqueeze(0)
    inputs, outputs, *kernel = weight.shape
    return weight.reshape(groups, inputs // groups, outputs, *kernel).transpose(1, 2)
