"""The IDX file format: the container of MNIST (LeCun, Cortes & Burges 1998, "The MNIST database")."""

from __future__ import annotations

import math
import struct

import torch
from torch import Tensor

_UINT8 = 0x08  # the third byte of the magic number: the element type


def parse_idx(content: bytes, dimensions: int) -> Tensor:
    """A tensor of uint8 with that many dimensions from the bytes of an uncompressed IDX file.

    Raises ValueError when the magic number is another one, or the length is not what the header says.
    """
    header = 4 + 4 * dimensions
    if len(content) < header or content[:4] != bytes((0, 0, _UINT8, dimensions)):
        raise ValueError(
            f"not an IDX file of uint8 with {dimensions} dimensions: it starts with {content[:4].hex()}"
        )
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if len(content) != header + math.prod(shape):
        raise ValueError(
            f"an IDX file of shape {shape} has {header + math.prod(shape)} bytes, this one {len(content)}"
        )
    if 0 in shape:
        return torch.zeros(shape, dtype=torch.uint8)
    return torch.frombuffer(bytearray(content[header:]), dtype=torch.uint8).view(shape)
