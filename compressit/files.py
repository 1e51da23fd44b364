"""Files: written to last, and the one a user means."""

from __future__ import annotations

import os
from pathlib import Path

from compressit.errors import CompressitError


def sync(path: Path) -> None:
    """Returns when the disk has this file, or this folder's list of files. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checkpoint_file(path: Path | str) -> Path:
    """The path of a checkpoint. Raises CompressitError for a folder, naming the checkpoint in it."""
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        hint = f"did you mean {found[0]}?" if len(found) == 1 else "give the path of a .safetensors file"
        raise CompressitError(f"{path} is a folder, not a checkpoint", hint)
    return path
