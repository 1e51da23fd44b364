"""Files as an attacker would write them: any header, any description, with digests that match."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compressit.checkpoint.manifest import canonical


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """A file's table, its description (without the digest) and the tensors' bytes."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    table = json.loads(content[8 : 8 + length])
    entry = json.loads(table.pop("__metadata__")["compressit"])
    entry.pop("sha256")
    return table, entry, content[8 + length :]


def write(path: Path, table: Mapping[str, Any], entry: Any, data: bytes, sign: bool = True) -> Path:
    """Writes a file of these parts, whatever they are."""
    if isinstance(entry, dict) and sign:
        entry = {**entry, "sha256": hashlib.sha256(canonical(entry).encode()).hexdigest()}
    text = entry if isinstance(entry, str) else canonical(entry)
    header = json.dumps({"__metadata__": {"compressit": text}, **table}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def forged(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The same file with `change` done to its description, and a digest to match."""
    table, entry, data = parts(path)
    change(entry)
    return write(path.with_name("forged.safetensors"), table, entry, data)
