"""From what a dataset keeps to what a model takes: float32, augmented, permuted, scaled."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compressit.datasets.augmentation import Step, augmented
from compressit.datasets.batched import InputTensors, each_tensor

ALIGNMENT = 64
"""Bytes by which torch aligns the memory that it allocates."""


@dataclass(frozen=True)
class Pixels:
    """What is done to a batch of raw inputs (B, *shape), floats or uint8 in 0..255, in this order. To several inputs
    nothing is done but that bytes become floats in 0..1; whole numbers stay as they are."""

    augment: tuple[Step, ...] = ()  # in training only
    mean: Tensor | None = None  # of floats, bytes as 0..1, as `row` shapes it
    std: Tensor | None = None
    permutation: Tensor | None = None  # (D,) int64: one order of the pixels of every input

    def __call__(self, x: InputTensors, seeds: Tensor | None = None) -> InputTensors:
        """Inputs for a model, floats as float32; `seeds` (B,) int64: of a training's examples, which are augmented."""
        if not isinstance(x, Tensor):
            return each_tensor(x, unit)
        if seeds is not None and self.augment:
            x = augmented(x, self.augment, seeds)
        own = x.dtype == torch.uint8  # then `unit` makes new memory, to be written to
        x = unit(x)
        if self.mean is not None and self.std is not None:
            x = x.sub_(self.mean).div_(self.std) if own else (x - self.mean) / self.std
        return x if self.permutation is None else x.flatten(1)[:, self.permutation].view_as(x)


def unit(x: Tensor) -> Tensor:
    """Floats as float32, bytes as float32 in 0..1; whole numbers and booleans as they are."""
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if not x.is_floating_point():
        return x
    x = x.detach()
    # A dataset's memory may be a map or an array's. Kernels depend on its alignment, and so do outputs' last bits.
    return x.float() if x.data_ptr() % ALIGNMENT == 0 else x.to(torch.float32, copy=True)


def row(values: tuple[float, ...], ndim: int, device: str | torch.device = "cpu") -> Tensor:
    """A number per channel (the dimension after the batch), shaped to go with inputs of `ndim` dimensions."""
    return torch.tensor(values, device=device).view(1, -1, *[1] * (ndim - 2))
