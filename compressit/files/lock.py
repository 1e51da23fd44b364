"""A file lock that records its holder and removes its file when released."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import socket
import time
from collections.abc import Callable, Generator
from pathlib import Path

from filelock import FileLock, Timeout

from compressit.files.reading import opened
from compressit.files.sealed import parse

FIRST_WORD = 2.0  # seconds of waiting before the first message
LONGEST_SILENCE = 60.0  # maximum seconds between messages; the interval doubles up to this


@contextlib.contextmanager
def held(
    file: Path, say: Callable[[str], None] = lambda text: None, patience: float = math.inf
) -> Generator[None]:
    """Holds the lock `file`. If another process holds it, waits and tells `say` now and then which one.

    The kernel releases the lock when a process ends, however it ends. The file is removed at the end of the block.
    Raises TimeoutError, naming the holder, after `patience` seconds; OSError if the file cannot be created.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file)
    end = time.monotonic() + patience
    pause = FIRST_WORD
    while True:
        try:
            lock.acquire(timeout=max(0.0, min(pause, end - time.monotonic())))
            break
        except Timeout:
            if time.monotonic() >= end:
                raise TimeoutError(f"locked by {holder(file)}") from None
            say(f"waiting for {holder(file)}")
            pause = min(2 * pause, LONGEST_SILENCE)
    try:
        _sign(file)
        yield
    finally:
        file.unlink(missing_ok=True)  # a waiting process notices and creates a new one
        lock.release()


def is_held(file: Path) -> bool:
    """Whether another process holds the lock now. Does not remove the lock file of a killed process."""
    try:
        lock = opened(file)
    except OSError:
        return False
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def holder(file: Path) -> str:
    """Describes who holds the lock, since when, and what to do, for messages."""
    try:
        with opened(file) as lock:
            facts = parse(lock.read(4096))
        pid, host, since = int(facts["pid"]), _ascii(facts["host"]), float(facts["since"])
        begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since))
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return f"another process, which holds {file}"
    text = f"process {pid} on {host}, which has held {file} since {begun}"
    if host != _ascii(socket.gethostname()):
        return text
    if _stopped(pid):
        return f"{text} and is stopped: `kill -CONT {pid}` continues it, `kill -KILL {pid}` ends it"
    return f"{text}; if it hangs, `kill {pid}` ends it"


def _sign(file: Path) -> None:
    facts = {"pid": os.getpid(), "host": _ascii(socket.gethostname()), "since": time.time()}
    # do not block on a pipe or follow a link
    flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOFOLLOW
    with (
        contextlib.suppress(OSError),  # the disk is full: only the holder's name is lost
        open(file, "wb", opener=lambda name, _: os.open(name, flags)) as lock,
    ):
        lock.write(json.dumps(facts).encode())


def _ascii(host: object) -> str:
    return ascii(str(host)[:80])[1:-1]


def _stopped(pid: int) -> bool:
    """Whether a process on this machine is stopped (SIGSTOP, Ctrl-Z); False if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False
