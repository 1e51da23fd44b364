"""Opens files from untrusted sources without blocking, and finds the file that a user means."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from compressit.errors import CompressitError

_KINDS = {stat.S_IFLNK: "link", stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFIFO: "pipe",
          stat.S_IFSOCK: "socket"}  # fmt: skip
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def kind(path: Path) -> str | None:
    """What the path is: "file", "folder", "link", "pipe", "socket" or "device"; None if it does not exist."""
    try:
        return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "device")
    except (OSError, ValueError):
        return None


def opened(path: Path) -> BufferedReader:
    """Opens a file for reading. Use it for all untrusted files: data, recipes, checkpoints.

    Raises OSError if the file does not exist, and for anything that could block or never end: a pipe, a socket, a
    device, a file in /proc.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS))  # noqa: SIM115
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError as error:
        if error.errno != errno.ENXIO:  # raised for sockets and devices without a driver
            raise
        raise _irregular(path) from error
    facts = os.fstat(file.fileno())
    # Files that the system generates on reading have size 0.
    if not stat.S_ISREG(facts.st_mode) or (facts.st_size == 0 and _gives_bytes(file)):
        file.close()
        raise _irregular(path)
    return file


def content(path: Path) -> bytes:
    """Reads all bytes of a file. Raises OSError like `opened`."""
    with opened(path) as file:
        return file.read()


def digest(path: Path) -> str:
    """sha256 of a file, in hexadecimal digits. Raises OSError like `opened`."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """`digest` of a file that the user named. Raises CompressitError if it cannot be read."""
    try:
        return digest(path)
    except OSError as error:
        raise CompressitError(f"{path}: {error.strerror}") from error


def checkpoint_file(path: Path | str) -> Path:
    """The path of a checkpoint. Raises CompressitError for a folder; the hint names the checkpoint in it."""
    path = Path(path)
    if path.is_dir():
        found = sorted(path.glob("*.safetensors"))
        hint = f"did you mean {found[0]}?" if len(found) == 1 else "give the path of a .safetensors file"
        raise CompressitError(f"{path} is a folder, not a checkpoint", hint)
    return path


def _gives_bytes(file: BufferedReader) -> bool:
    try:
        return bool(file.peek(1))
    except OSError:
        return True


def _irregular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file; copy its content to one first", str(path))
