"""Files: read without waiting for ever, written to last, and the one a user means."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import signal
import stat
import threading
from collections.abc import Generator, Iterable
from io import BufferedReader
from pathlib import Path
from types import FrameType

from compressit.errors import CompressitError

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


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


def sync(path: Path) -> None:
    """Returns when the disk has this file, or this folder's list of files. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_together(names: Iterable[str], source: Path, target: Path) -> None:
    """Moves these files from one folder into another of its file system, in the place of what is there.

    Whoever wants to end this process by a signal waits until all of them are there: no file of before lies beside one
    of now, unless the process is killed. Raises OSError.
    """
    with _undisturbed():
        for name in names:
            os.replace(source / name, target / name)
    sync(target)


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """A block after which the signals arrive that came meanwhile. Python hands them to its main thread alone."""
    arrived: list[int] = []

    def later(number: int, frame: FrameType | None) -> None:
        arrived.append(number)

    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _ENDING} if is_main else {}
    changed = {number: handler for number, handler in before.items() if handler not in (None, signal.SIG_IGN)}
    try:
        for number in changed:
            signal.signal(number, later)
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)
        for number in dict.fromkeys(arrived):
            os.kill(os.getpid(), number)


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
