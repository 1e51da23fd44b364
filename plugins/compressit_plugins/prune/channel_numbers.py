"""Functions on tensors that hold the channel number of each value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STAYS = 1
"""The number of values that are not a layer's channels but are joined to them: padding, concatenated constants."""


def along(numbers: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """Expands numbers (n,) along one dimension to `shape`; constant along the others."""
    return numbers.view([-1 if d == dim else 1 for d in range(len(shape))]).expand(shape)


def constant(numbers: Tensor, dim: int) -> bool:
    """Whether the numbers are constant along a dimension."""
    if numbers.shape[dim] <= 1 or numbers.stride(dim) == 0:
        return True
    return bool((numbers == numbers.narrow(dim, 0, 1)).all())


def compact(numbers: Tensor, keep: int | None = None) -> Tensor:
    """The numbers with size 1 in every dimension along which they are constant."""
    for dim in range(numbers.ndim):
        if (keep is None or dim != keep % numbers.ndim) and constant(numbers, dim):
            numbers = numbers.narrow(dim, 0, min(1, numbers.shape[dim]))
    return numbers


def alike(pieces: Sequence[Tensor]) -> bool:
    """Whether all pieces have the same shape when compact."""
    return len({compact(piece).shape for piece in pieces}) == 1


def padded(numbers: Tensor, shape: torch.Size, pads: Sequence[int]) -> Tensor:
    """The numbers after padding: STAYS along channels, but the same channel along dimensions such as height."""
    for at in range(len(pads) // 2):
        dim, own = numbers.ndim - 1 - at, pads[2 * at : 2 * at + 2]
        if constant(numbers, dim):
            numbers = numbers.narrow(dim, 0, 1).expand(
                [*numbers.shape[:dim], shape[dim], *numbers.shape[dim + 1 :]]
            )
        else:
            numbers = torch.constant_pad_nd(numbers, [0, 0] * at + list(own), float(STAYS))
    return numbers
