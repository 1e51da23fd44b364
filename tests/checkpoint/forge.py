"""Files as an attacker would write them: any header, any description, with digests that match."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compressit.checkpoint.header import tensors_digest
from compressit.files.sealed import canonical


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A file's table, its description (without the digest) and the tensors' bytes."""
    return split(path.read_bytes())


def split(content: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """As `parts`, from a file's bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    entry = json.loads(table.pop("__metadata__")["compressit"])
    entry.pop("sha256")
    return table, entry, content[8 + length :]


def write(path: Path, table: Mapping[str, Any], entry: Any, data: bytes, sign: bool = True) -> Path:
    """Writes a file of these parts, whatever they are."""
    path.write_bytes(joined(table, entry, data, sign))
    return path


def joined(table: Mapping[str, Any], entry: Any, data: bytes, sign: bool = True) -> bytes:
    """The bytes of a file of these parts; `sign` gives the description its digest."""
    if isinstance(entry, dict) and sign:
        entry = {**entry, "sha256": hashlib.sha256(canonical(entry).encode()).hexdigest()}
    text = entry if isinstance(entry, str) else canonical(entry)
    header = json.dumps({"__metadata__": {"compressit": text}, **table}).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + data


def forged(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The same file with `change` done to its description, and a digest to match."""
    table, entry, data = parts(path)
    change(entry)
    return write(path.with_name("forged.safetensors"), table, entry, data)


def digest(table: Mapping[str, Any], data: bytes) -> str:
    """The digest that goes with these tensors, as far as they have one."""
    entries = sorted(table.items())
    return tensors_digest((n, e["dtype"], e["shape"], data[slice(*e["data_offsets"])]) for n, e in entries)
