"""Reads the headers of `.npz` and `.safetensors` files, and small arrays, without torch and numpy."""

from __future__ import annotations

import ast
import json
import math
import sys
import zipfile
import zlib
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from compressit import CompressitError, opened

LONGEST_HEADER = 10_000  # characters of a .npy header, as numpy; 1,000 times that of a .safetensors file
# numpy's and safetensors' names; numpy writes the byte order before its own
_FROM_NUMPY = {"u1": "U8", "i1": "I8", "b1": "BOOL", "u2": "U16", "i2": "I16", "u4": "U32", "i4": "I32",
               "u8": "U64", "i8": "I64", "f2": "F16", "f4": "F32", "f8": "F64"}  # fmt: skip
_CODES = {
    "BOOL": "B",
    "U8": "B",
    "I8": "b",
    "U16": "H",
    "I16": "h",
    "U32": "I",
    "I32": "i",
    "U64": "Q",
    "I64": "q",
}
_BYTES = {
    "BF16": 2,
    "F16": 2,
    "F32": 4,
    "F64": 8,
    **{kind: array(code).itemsize for kind, code in _CODES.items()},
}
MALFORMED = (OSError, ValueError, KeyError, TypeError, SyntaxError, MemoryError, EOFError, RuntimeError,
             AttributeError, zipfile.BadZipFile, zlib.error)  # fmt: skip


@dataclass(frozen=True)
class Header:
    """What an array is."""

    kind: str  # as safetensors calls it: U8, F32 …
    shape: tuple[int, ...]
    start: int  # of its values: in a .safetensors file, or in the .npy file inside an .npz
    swapped: bool = False  # bytes in the other order than this machine's

    @property
    def is_whole(self) -> bool:
        """Whether its values are whole numbers."""
        return self.kind in _CODES

    @property
    def size(self) -> int:
        """Of its values, in bytes."""
        return math.prod(self.shape) * _BYTES[self.kind]


def headers(path: Path) -> Mapping[str, Header]:
    """The arrays of a file by name. Raises CompressitError for what is no such file."""
    if path.suffix not in (".npz", ".safetensors"):
        raise CompressitError(
            f"{path} is neither .npz nor .safetensors", "save the arrays with one of the two"
        )
    try:
        with opened(path) as file:
            return _of_npz(file) if path.suffix == ".npz" else _of_safetensors(file, path.stat().st_size)
    except FileNotFoundError:
        hint = "`file` is relative to the recipe, in --set to the current folder"
        raise CompressitError(f"there is no file {path}", hint) from None
    except MALFORMED as error:
        raise _damaged(path, error) from error


def whole_numbers(path: Path, name: str, header: Header) -> array[int]:
    """The values of an array of whole numbers. Raises CompressitError for a damaged file."""
    values = array(_CODES[header.kind])
    try:
        with opened(path) as file:
            if path.suffix == ".npz":
                with zipfile.ZipFile(file) as archive, archive.open(f"{name}.npy") as member:
                    raw = member.read(header.start + header.size)[header.start :]
            else:
                file.seek(header.start)
                raw = file.read(header.size)
        values.frombytes(raw)
    except MALFORMED as error:
        raise _damaged(path, error) from error
    if header.swapped:
        values.byteswap()
    return values


def _damaged(path: Path, error: BaseException) -> CompressitError:
    told = getattr(error, "strerror", None) or error
    return CompressitError(f"{path} cannot be read: {told}", "save it again")


def _of_npz(file: IO[bytes]) -> dict[str, Header]:
    found: dict[str, Header] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            with archive.open(member) as stream:
                found[name] = _of_npy(stream, name, member.file_size)
    return found


def _of_npy(stream: IO[bytes], name: str, size: int) -> Header:
    """https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html"""
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or len(start) != 8:
        raise ValueError(f"{name} is not an array of numpy's")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"the header of {name} is too long")
    facts: Any = ast.literal_eval(stream.read(length).decode("latin1").strip())
    kind, shape = str(facts["descr"]), _shape(facts["shape"], name)
    if kind[1:] not in _FROM_NUMPY:
        raise ValueError(f"{name} has the dtype {kind}: whole numbers and floats are read")
    swapped = kind[0] == (">" if sys.byteorder == "little" else "<")
    header = Header(_FROM_NUMPY[kind[1:]], shape, 8 + width + length, swapped)
    if header.start + header.size != size:
        raise ValueError(
            f"{name} has {size - header.start} bytes of values, and its header speaks of {header.size}"
        )
    return header


def _of_safetensors(file: IO[bytes], size: int) -> dict[str, Header]:
    length = int.from_bytes(file.read(8), "little")
    if length > 1000 * LONGEST_HEADER or length > size:
        raise ValueError("it has no header of safetensors")
    facts: dict[str, Any] = json.loads(file.read(length))
    found: dict[str, Header] = {}
    for name, about in facts.items():
        if name == "__metadata__":
            continue
        if about["dtype"] not in _BYTES:
            raise ValueError(f"{name} has the dtype {about['dtype']}: whole numbers and floats are read")
        begin, end = about["data_offsets"]
        header = Header(
            about["dtype"], _shape(about["shape"], name), 8 + length + begin, sys.byteorder == "big"
        )
        if begin < 0 or header.size != end - begin or 8 + length + end > size:
            raise ValueError(
                f"{name} has {end - begin} bytes of values, and its shape speaks of {header.size}"
            )
        found[name] = header
    return found


def _shape(value: Any, name: str) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(type(side) is int and side >= 0 for side in value):
        raise ValueError(f"{name} has no shape")
    return tuple(value)
