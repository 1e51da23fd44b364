"""Tensors in files and in memory: dtypes, bytes, and sparse tensors stored without their zeros.

A tensor NAME listed in the manifest's `compact` is stored as NAME::mask (uint8; bit i % 8 of byte i // 8 says
whether value i is stored, in row-major order) and NAME::values. Only values whose bits are all zero are omitted:
-0.0 is kept, so every tensor is restored bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compressit.checkpoint.header import KEY, MASK, VALUES, Header, check_digest
from compressit.checkpoint.manifest import Manifest, encode
from compressit.errors import CompressitError
from compressit.files.reading import opened

TYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.uint16: "U16", torch.int16: "I16",
    torch.uint32: "U32", torch.int32: "I32", torch.uint64: "U64", torch.int64: "I64", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e4m3fnuz: "F8_E4M3FNUZ", torch.float8_e5m2: "F8_E5M2",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
}  # fmt: skip
"""Safetensors names of torch dtypes."""
_DTYPES = {name: dtype for dtype, name in TYPES.items()}
_LEAST_SAVING = 256  # bytes: about what the second entry in the file's header costs
_WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes per value


def write(tensors: dict[str, Tensor], path: Path, manifest: Manifest) -> None:
    """Writes the tensors to one safetensors file. Raises CompressitError if it cannot be written."""
    try:
        save_file(tensors, path, {KEY: encode(manifest)})
    except SafetensorError as error:  # a full disk, for example
        raise CompressitError(f"cannot write the file: {error}") from error


def read(path: Path, header: Header) -> dict[str, Tensor]:
    """The file's tensors by name, all dense. Raises CompressitError if they changed after saving.

    The file is not memory-mapped: it could change later, and its alignment could change the last bits of outputs.
    """
    tensors: dict[str, Tensor] = {}
    with opened(path) as file:
        file.seek(header.start)
        for name, info in header.tensors.items():
            tensors[name] = torch.empty(info.shape, dtype=_DTYPES[info.dtype])
            file.readinto(_bytes(tensors[name]))  # the digest catches a short read
    check_digest(header, parts(tensors))
    for name, tensor in tensors.items():
        if tensor.dtype is torch.bool and tensor.view(torch.uint8).gt(1).any():
            raise CompressitError(f"the bool tensor {name!r} holds bytes other than 0 and 1")
    return unpack(tensors, header.manifest.compact)


def read_any(path: Path) -> dict[str, Tensor]:
    """The tensors of any safetensors file, copied rather than memory-mapped, as in `read`.

    Raises OSError or SafetensorError.
    """
    opened(path).close()
    return {name: value.clone() for name, value in load_file(path).items()}


def parts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str, tuple[int, ...], Any]]:
    """The input for `header.tensors_digest`, from contiguous CPU tensors."""
    for name, tensor in sorted(tensors.items()):
        yield name, TYPES[tensor.dtype], tuple(tensor.shape), _bytes(tensor)


def same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are equal bit for bit, NaNs included."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (one, other)))


def pack(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """The tensors to store for these contiguous CPU tensors, and the shapes of those stored compactly.

    A tensor is stored compactly if mask and values take less space.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        flat = tensor.detach().reshape(-1)
        present = _whole(flat) != 0
        mask = torch.from_numpy(np.packbits(present.numpy(), bitorder="little"))
        saved = (len(flat) - int(present.sum())) * flat.element_size() - len(mask)
        if saved < _LEAST_SAVING or {name + MASK, name + VALUES} & tensors.keys():
            stored[name] = tensor
            continue
        stored |= {name + MASK: mask, name + VALUES: _whole(flat)[present].view(flat.dtype)}
        shapes[name] = list(tensor.shape)
    return stored, shapes


def unpack(stored: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Makes all tensors dense. `shapes` (checked by `read_header`) names those stored compactly.

    A dense tensor takes at most 64 times the bytes of its mask (8 values per byte, 8 bytes per value). Raises
    CompressitError if a mask does not match its values.
    """
    tensors = dict(stored)
    for name, shape in shapes.items():
        mask, values = tensors.pop(name + MASK), tensors.pop(name + VALUES)
        count = math.prod(shape)
        bits = np.unpackbits(mask.numpy(), bitorder="little")
        present = torch.from_numpy(bits[:count]).bool()
        if bits[count:].any() or int(present.sum()) != len(values):
            raise CompressitError(f"the mask of the compact tensor {name!r} does not match its values")
        dense = torch.zeros(count, dtype=values.dtype)
        _whole(dense)[present] = _whole(values)
        tensors[name] = dense.reshape(tuple(shape))
    return tensors


def _bytes(tensor: Tensor) -> Any:
    """A contiguous CPU tensor's memory as bytes."""
    return tensor.reshape(-1).view(torch.uint8).numpy()


def _whole(flat: Tensor) -> Tensor:
    """The same memory as integers, one per value: torch cannot index every dtype."""
    return flat.view(_WHOLE[flat.element_size()])
