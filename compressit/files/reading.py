"""Files that somebody else may have put there: read without waiting for ever, and the one a user means."""

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
    """What stands there: "file", "folder", "link", "pipe", "socket" or "device"; None for nothing."""
    try:
        return _KINDS.get(stat.S_IFMT(path.lstat().st_mode), "device")
    except (OSError, ValueError):
        return None


def opened(path: Path) -> BufferedReader:
    """The file, open for reading. Data, recipes, checkpoints: what somebody else may have put there is opened here.

    Raises OSError where there is none, and at once for what could block or never end: a pipe, a socket, a device, a
    file of /proc.
    """
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _FLAGS))  # noqa: SIM115
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    except OSError as error:
        if error.errno != errno.ENXIO:  # what opening a socket, or a device that nobody serves, gives
            raise
        raise _irregular(path) from error
    facts = os.fstat(file.fileno())
    # What the system makes up as it is read has no size.
    if not stat.S_ISREG(facts.st_mode) or (facts.st_size == 0 and _gives_bytes(file)):
        file.close()
        raise _irregular(path)
    return file


def content(path: Path) -> bytes:
    """All bytes of a file that `opened` takes. Raises OSError as it does."""
    with opened(path) as file:
        return file.read()


def digest(path: Path) -> str:
    """sha256 of a file that `opened` takes, in hexadecimal digits. Raises OSError as it does."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """`digest` of a file that a user named. Raises CompressitError when it cannot be read."""
    try:
        return digest(path)
    except OSError as error:
        raise CompressitError(f"{path}: {error.strerror}") from error


def checkpoint_file(path: Path | str) -> Path:
    """The path of a checkpoint. Raises CompressitError for a folder, naming the checkpoint in it."""
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
    return OSError(errno.EINVAL, "no regular file; copy what it gives into one first", str(path))
