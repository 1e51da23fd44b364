"""Files written to last: what is there is the old content or the new one, never half of it."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Generator, Iterable
from pathlib import Path
from types import FrameType

from compressit.files.reading import kind

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.tmp")
"""The names that `beside` gives."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def beside(target: Path) -> Path:
    """A free name in the same folder, for what will take the target's place."""
    return target.with_name(f".{target.name[:50]}.{secrets.token_hex(6)}.tmp")  # a name has 255 bytes at most


@contextlib.contextmanager
def replacing(target: Path, mode: int | None = None) -> Generator[Path]:
    """An empty file beside `target` that takes its place, at once and for good, if nothing goes wrong.

    A link to the target or from it stays as it was. `mode`: who may do what with it; by default the umask says so.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = beside(target)
    try:
        temporary.touch(0o666 if mode is None else mode, exist_ok=False)
        rights = temporary.stat().st_mode  # safetensors makes its files private
        yield temporary
        temporary.chmod(rights)
        sync(temporary)
        os.replace(temporary, target)
        sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace(target: Path, content: bytes, mode: int | None = None) -> None:
    """Puts these bytes in the place of the file, as `replacing` does."""
    with replacing(target, mode) as temporary:
        temporary.write_bytes(content)


def clear(path: Path) -> None:
    """Removes what is there, as far as it can: a link, not what it leads to."""
    if kind(path) == "folder":
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


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
    before = {number: signal.getsignal(number) for number in _ENDING if is_main}
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
