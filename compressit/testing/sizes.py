"""Sizes that have one meaning wherever they are told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from compressit.contract import measure

SIZES: Mapping[str, Callable[[nn.Module, Sequence[int]], int]] = {
    "parameters": lambda model, shape: measure.parameters(model),
    "nonzero": lambda model, shape: measure.nonzero(model),
    "bytes": lambda model, shape: measure.tensor_bytes(model),
    "macs": measure.macs,
}
"""Metrics and notes by these names are sizes of the whole model: what `compressit.contract.measure` counts."""


def wrong_sizes(told: Mapping[str, Any], model: nn.Module, input_shape: Sequence[int]) -> str | None:
    """`parameters = 3, which is 4` of those sizes among `told` that are wrong; None where none is."""
    counted = {name: count(model, input_shape) for name, count in SIZES.items() if name in told}
    wrong = [
        f"{name} = {told[name]}, which is {size}" for name, size in counted.items() if told[name] != size
    ]
    return ", ".join(wrong) or None
