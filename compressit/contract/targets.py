"""Targets of a split as a task takes them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from compressit.errors import CompressitError
from compressit.formatting import counted


def cast_targets(
    given: Tensor, target: Literal["class", "vector", "map"], outputs: int, ignored: int | None = None
) -> Tensor:
    """`class`: (N,) whole numbers from 0 below `outputs`, as int64; `map`: (N, H, W) of them, or `ignored`; `vector`:
    (N, outputs) finite numbers, as float32, or (N,) for one output. Raises CompressitError for anything else."""
    if target == "vector":
        return _vectors(given, outputs)
    dims, shape = (1, "(N,)") if target == "class" else (3, "(N, height, width)")
    whole = not (given.is_floating_point() or given.is_complex() or given.dtype is torch.bool)
    if not whole or given.ndim != dims:
        raise CompressitError(
            f"targets are {given.dtype} of shape {tuple(given.shape)}, not whole numbers {shape}",
            "labels count from 0, one for each class; other targets pose another task",
        )
    labels = given.long()
    counted_ones = labels if ignored is None else labels[labels != ignored]
    if len(counted_ones) and ((low := int(counted_ones.min())) < 0 or int(counted_ones.max()) >= outputs):
        raise CompressitError(
            f"labels from {low} to {int(counted_ones.max())}, and there are {outputs} classes",
            "labels count from 0"
            + ("; `ignore_index` of the task is the label of pixels that do not count" if dims == 3 else ""),
        )
    return labels


def _vectors(given: Tensor, outputs: int) -> Tensor:
    values = given[:, None] if given.ndim == 1 and outputs == 1 else given
    if given.is_complex() or values.ndim != 2 or values.shape[1] != outputs:
        raise CompressitError(
            f"targets are {given.dtype} of shape {tuple(given.shape)}, not numbers (N, {outputs})",
            "give each example one number for each output",
        )
    values = values.float()
    if wrong := int((~values.isfinite()).any(1).sum()):
        raise CompressitError(
            f"targets of {counted(wrong, 'example')} are not finite", "leave these examples out"
        )
    return values
