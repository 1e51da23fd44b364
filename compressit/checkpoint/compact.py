"""Sparse tensors in a file: one bit per place and the values that are there. Loading gives the dense ones.

A tensor NAME of the manifest's `compact` lies in the file as NAME::mask (uint8; bit i % 8 of byte i // 8 says
whether value i is there, in row-major order) and NAME::values. Left out are values whose bits are all zero:
-0.0 is kept, so everything comes back to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from compressit.checkpoint.header import MASK, VALUES
from compressit.errors import CompressitError

_LEAST_SAVING = 256  # bytes: about what the second entry in the file's header costs
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a value


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """What to store for these contiguous CPU tensors, and the shapes of those that are stored compactly.

    Those are the ones that take less room as mask and values.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().reshape(-1)
        present = _bits(flat) != 0
        saved = (len(flat) - int(present.sum())) * flat.element_size() - _mask_bytes(len(flat))
        if saved < _LEAST_SAVING or {name + MASK, name + VALUES} & tensors.keys():
            stored[name] = tensor
            continue
        packed = np.packbits(present.numpy(), bitorder="little")
        stored |= {
            name + MASK: torch.from_numpy(packed),
            name + VALUES: _bits(flat)[present].view(flat.dtype),
        }
        shapes[name] = list(tensor.shape)
    return stored, shapes


def unpack(stored: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """The dense tensors, of which `shapes` (checked by `read_header`) names those stored compactly.

    A dense tensor takes at most 64 times the bytes of its mask (8 values a byte, 8 bytes a value). Raises
    CompressitError where a mask does not count its values.
    """
    tensors = dict(stored)
    for name, shape in shapes.items():
        mask, values = tensors.pop(name + MASK), tensors.pop(name + VALUES)
        count = math.prod(shape)
        bits = np.unpackbits(mask.numpy(), bitorder="little")
        present = torch.from_numpy(bits[:count]).bool()
        if bits[count:].any() or int(present.sum()) != len(values):
            raise CompressitError(f"the mask of the compact tensor {name!r} does not fit its values")
        dense = torch.zeros(count, dtype=values.dtype)
        _bits(dense)[present] = _bits(values)
        tensors[name] = dense.reshape(tuple(shape))
    return tensors


def _bits(flat: Tensor) -> Tensor:
    """The same memory as whole numbers, one a value: torch cannot index every type."""
    return flat.view(_WHOLE[flat.element_size()])


def _mask_bytes(count: int) -> int:
    return -(-count // 8)
