"""Atomic writes: a file has either the old content or the new, never a part of it."""

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
"""Matches the names that `beside` returns."""
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def beside(target: Path) -> Path:
    """An unused path in the same folder, for a temporary file that will replace the target."""
    return target.with_name(f".{target.name[:50]}.{secrets.token_hex(6)}.tmp")  # names have at most 255 bytes


@contextlib.contextmanager
def replacing(target: Path, mode: int | None = None) -> Generator[Path]:
    """Yields an empty file beside `target`, which atomically replaces it at the end unless the block raises.

    If `target` is a link, the link is replaced and its target is left alone. `mode`: the file's permissions, by default
    from the umask.
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
    """Atomically replaces the file with these bytes, like `replacing`."""
    with replacing(target, mode) as temporary:
        temporary.write_bytes(content)


def clear(path: Path) -> None:
    """Removes a file, folder or link (not its target) if possible."""
    if kind(path) == "folder":
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def sync(path: Path) -> None:
    """Flushes this file, or this folder's list of files, to disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_together(names: Iterable[str], source: Path, target: Path) -> None:
    """Moves these files to another folder on the same file system, replacing existing ones.

    Signals that would end the process are delayed until all files are moved, so old and new files are never mixed
    unless the process is killed. Raises OSError.
    """
    with _undisturbed():
        for name in names:
            os.replace(source / name, target / name)
    sync(target)


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """A block that delays signals until its end. Python delivers signals only to the main thread."""
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
