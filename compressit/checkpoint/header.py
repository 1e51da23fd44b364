"""Safetensors headers as bytes: read, check, rewrite. No torch, no numpy.

The format: 8 bytes little-endian length, a JSON header of that length, then the tensors' bytes without gaps
(https://github.com/huggingface/safetensors, "Format").
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import struct
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from compressit.checkpoint.manifest import Manifest, decode, encode, strict_json
from compressit.errors import CompressitError
from compressit.files.reading import opened
from compressit.files.sealed import canonical
from compressit.files.writing import replacing

KEY = "compressit"
"""The only metadata key: with several, safetensors orders them differently in every process."""
MASK, VALUES = "::mask", "::values"
"""Suffixes of the two parts of a compactly stored tensor (see `tensors`)."""
MOST_HEADER_BYTES = 2**23  # safetensors allows 100 MB; parsing JSON takes up to 30 times its size
BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E4M3FNUZ": 1, "F8_E5M2": 1, "F8_E5M2FNUZ": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes per value, by safetensors type name."""


class NoManifestError(CompressitError):
    """A valid safetensors file that compressit did not write."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's dtype, shape and position in the file. `offsets` count from the first byte after the header."""

    dtype: str
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def values(self) -> int:
        """The number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """A checked header: its tensors fill the rest of the file exactly."""

    tensors: Mapping[str, TensorInfo]  # in file order
    manifest: Manifest
    start: int  # where the tensors' bytes begin
    file_bytes: int

    def loaded(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of every tensor as loaded, including those stored compactly."""
        compact = self.manifest.compact
        parts = {name + end for name in compact for end in (MASK, VALUES)}
        found = {n: (info.dtype, info.shape) for n, info in self.tensors.items() if n not in parts}
        return found | {n: (self.tensors[n + VALUES].dtype, shape) for n, shape in compact.items()}


def read_header(path: Path) -> Header:
    """Reads and checks a checkpoint's header.

    Raises CompressitError if the file is missing, truncated, not a safetensors file, not from compressit, of another
    format version, or if its manifest was changed.
    """
    with naming(path), opened(path) as file:
        return checked(file)


def shapes_in(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors in any safetensors file. Those of a checkpoint are as they are once loaded: dense, and
    tied ones under each of their names.

    Raises CompressitError if it is no such file, or damaged.
    """
    with naming(path), opened(path) as file:
        tensors, text, start, file_bytes = _table(file)
        if text is None:
            return {name: info.shape for name, info in tensors.items()}
        header = _header(tensors, text, start, file_bytes)
        shapes = {name: shape for name, (_, shape) in header.loaded().items()}
        return shapes | {other: shapes[kept] for kept, other in header.manifest.tied if kept in shapes}


def checked(file: BinaryIO) -> Header:
    """The header of an open file. Raises CompressitError like `read_header`, without the file name."""
    tensors, text, start, file_bytes = _table(file)
    if text is None:
        raise NoManifestError(
            "a safetensors file, but not a compressit checkpoint",
            "to start a recipe's model from its tensors, use `model: {weights: …}`",
        )
    return _header(tensors, text, start, file_bytes)


def _header(tensors: Mapping[str, TensorInfo], text: str, start: int, file_bytes: int) -> Header:
    manifest = decode(text)
    for name, shape in manifest.compact.items():
        _check_compact(name, shape, tensors)
    return Header(tensors, manifest, start, file_bytes)


def _table(file: BinaryIO) -> tuple[dict[str, TensorInfo], str | None, int, int]:
    """The tensors of an open safetensors file, the text of its manifest (None: it has none), where the tensors begin,
    and the size of the file."""
    file_bytes = os.fstat(file.fileno()).st_size
    if file_bytes < 8:
        raise CompressitError("not a safetensors file: it is shorter than 8 bytes")
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if length > MOST_HEADER_BYTES:
        archive = start.startswith(b"PK")  # a zip archive, as `torch.save` writes
        raise CompressitError(
            f"not a safetensors file: its header claims {length} bytes (the limit is {MOST_HEADER_BYTES})",
            "`compressit import` makes one of a file of `torch.save`" if archive else None,
        )
    if 8 + length > file_bytes:
        raise CompressitError(f"truncated: a header of {length} bytes in a file of {file_bytes} bytes")
    table = strict_json(file.read(length), "its safetensors header")
    if not isinstance(table, dict):
        raise CompressitError("not a safetensors file: its header is not a JSON object")
    metadata = table.pop("__metadata__", None)
    found = ((name, _tensor(name, entry)) for name, entry in table.items())
    tensors = dict(sorted(found, key=lambda item: item[1].offsets))
    _check_places(tensors, file_bytes - 8 - length)
    text = metadata.get(KEY) if isinstance(metadata, dict) else None
    return tensors, text if isinstance(text, str) else None, 8 + length, file_bytes


def copy_with(source: Path, target: Path, **updates: Any) -> None:
    """Copies a checkpoint with changed manifest fields (`lineage=…`, `metrics=…`) and the same tensors.

    `target` may equal `source`; it is replaced atomically. Raises CompressitError like `read_header`.
    """
    with naming(source), opened(source) as file:
        header = checked(file)
        manifest = header.manifest.updated(**updates)
        with naming(target), replacing(target) as temporary, open(temporary, "wb") as copy:
            copy.write(_header_bytes(header.tensors, manifest))
            file.seek(header.start)
            shutil.copyfileobj(file, copy, 1 << 20)


def verify(path: Path) -> Header:
    """Like `read_header`, and checks the tensors' digest too. Raises CompressitError."""
    with naming(path), opened(path) as file:
        header = checked(file)
        check_digest(header, _parts(header, file))
        return header


def tensors_digest(parts: Iterable[tuple[str, str, tuple[int, ...], Any]]) -> str:
    """sha256 over (name, safetensors type, shape, bytes) of every tensor. `parts` must be sorted by name.

    The order of the tensors in the file does not matter.
    """
    digest = hashlib.sha256()
    for name, dtype, shape, data in parts:
        digest.update(canonical([name, dtype, list(shape)]).encode() + b"\n")
        digest.update(data)
    return digest.hexdigest()


def check_digest(header: Header, parts: Iterable[tuple[str, str, tuple[int, ...], Any]]) -> None:
    """Raises CompressitError unless these tensors are the ones that were saved."""
    if tensors_digest(parts) != header.manifest.tensors_sha256:
        raise CompressitError(
            "its tensors were changed after saving: the digest does not match", "get the file again"
        )


@contextmanager
def naming(path: Path) -> Generator[None]:
    """Prefixes every CompressitError with the file name, and converts OSErrors to CompressitErrors."""
    try:
        yield
    except CompressitError as error:
        named = CompressitError(f"{path}: {_short(error.message)}", error.hint and _short(error.hint))
        named.exit_code = error.exit_code
        raise named from error
    except OSError as error:
        raise CompressitError(f"{path}: {error.strerror or error}") from error


def _tensor(name: str, entry: Any) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise CompressitError(f"not a safetensors file: the entry of tensor {name!r} is malformed")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BYTES:
        raise CompressitError(f"tensor {name!r} has the unknown type {dtype!r}")
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise CompressitError(f"not a safetensors file: tensor {name!r} has malformed shape or offsets")
    if math.prod(max(1, size) for size in shape) >= 2**63:  # even if it is empty: torch computes its strides
        raise CompressitError(f"not a safetensors file: tensor {name!r} has impossible shape {tuple(shape)}")
    return TensorInfo(dtype, tuple(shape), (offsets[0], offsets[1]))


def _counts(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) <= 64 and all(type(v) is int and 0 <= v < 2**63 for v in value)
    )


def _short(text: str) -> str:
    """Names in a file can be very long: keeps the beginning and the end, which says what is wrong."""
    return text if len(text) <= 1200 else f"{text[:600]} … {text[-600:]}"


def _check_places(tensors: Mapping[str, TensorInfo], data_bytes: int) -> None:
    end = 0
    for name, tensor in tensors.items():
        begin, stop = tensor.offsets
        if begin != end:
            raise CompressitError(
                f"tensor {name!r} overlaps another or leaves a gap (offsets {begin}, {stop})"
            )
        if stop - begin != tensor.values * BYTES[tensor.dtype]:
            raise CompressitError(
                f"tensor {name!r} has {stop - begin} bytes, which does not match its shape {tensor.shape}"
            )
        end = stop
    if end > data_bytes:
        raise CompressitError(f"truncated: only {data_bytes} of {end} tensor bytes are present")
    if end < data_bytes:
        raise CompressitError(f"{data_bytes - end} unexpected bytes after the last tensor")


def _check_compact(name: str, shape: tuple[int, ...], tensors: Mapping[str, TensorInfo]) -> None:
    mask, values = tensors.get(name + MASK), tensors.get(name + VALUES)
    count = math.prod(shape)
    if (
        mask is None
        or values is None
        or name in tensors
        or count == 0
        or (mask.dtype, mask.shape) != ("U8", (-(-count // 8),))
        or len(values.shape) != 1
        or values.values > count
    ):
        raise CompressitError(f"the parts of the compact tensor {name!r} do not match its shape")


def _parts(header: Header, file: BinaryIO) -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
    for name, tensor in sorted(header.tensors.items()):
        begin, end = tensor.offsets
        file.seek(header.start + begin)
        yield name, tensor.dtype, tensor.shape, file.read(end - begin)


def _header_bytes(tensors: Mapping[str, TensorInfo], manifest: Manifest) -> bytes:
    table: dict[str, Any] = {"__metadata__": {KEY: encode(manifest)}}
    for name, info in tensors.items():
        table[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": info.offsets}
    text = canonical(table).encode()
    text += b" " * (-len(text) % 8)  # keeps the tensors aligned
    return struct.pack("<Q", len(text)) + text
