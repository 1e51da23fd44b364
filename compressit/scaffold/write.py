"""Writing files that are new, or none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from compressit.errors import CompressitError


def refuse_existing(paths: Iterable[Path], hint: str = "choose another name or --folder") -> None:
    """Raises CompressitError, naming them, when some of these paths exist."""
    there = [str(path) for path in paths if path.exists()]
    if there:
        raise CompressitError(
            f"{', '.join(there)}: already there, and nothing is overwritten",
            hint,
        )


def write_new(files: Mapping[Path, str]) -> None:
    """Writes files with their folders. Raises CompressitError, before anything is written, where one exists."""
    refuse_existing(files)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
