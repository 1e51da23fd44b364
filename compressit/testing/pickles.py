"""Detects pickles in files by their bytes, without unpickling."""

from __future__ import annotations

import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 1 << 20  # how much of a stream is searched for the end of a pickle
LEAST_OPCODES = 3  # fewer may be a coincidence


def pickles(folder: Path) -> list[str]:
    """The relative paths of files in a folder that contain pickles; for an archive, with the member's name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.relative_to(folder)}{inside}" for path in files for inside in _in_file(path)]


def is_pickle(data: bytes) -> bool:
    """Whether bytes begin with a pickle (protocols 2 to 5), or are one from end to end (0 and 1)."""
    end = _end(data)
    return end is not None and (
        data[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05") or not data[end:].strip()
    )


def _in_file(path: Path) -> Iterator[str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".pkl") or _suspicious(archive.read(name)):
                    yield f" ({name})"
    else:
        with path.open("rb") as file:
            if _suspicious(file.read(MOST_BYTES)):
                yield ""


def _suspicious(data: bytes) -> bool:
    """Whether bytes are a pickle, or a NumPy file of Python objects."""
    return is_pickle(data) or (data[:6] == b"\x93NUMPY" and b"'|O'" in data[:256])


def _end(data: bytes) -> int | None:
    """The end of a pickle at the start of the bytes (their end if it continues beyond); None if there is none."""
    count = 0
    try:
        with warnings.catch_warnings(action="ignore"):  # most data is not a pickle
            for opcode, _, position in pickletools.genops(data):
                count += 1
                if opcode.name == "STOP" and position is not None:
                    return position + 1 if count >= LEAST_OPCODES else None
    except Exception:  # noqa: BLE001 - any error means that this is not a pickle
        cut_short = len(data) == MOST_BYTES and data[:1] == b"\x80" and count >= LEAST_OPCODES
        return len(data) if cut_short else None
    return None
