"""Notices code and commands that run, and files that are written, while a checkpoint is read."""

from __future__ import annotations

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

_SUSPECT = ("exec", "compile", "pickle.find_class", "marshal.loads", "os.system", "os.exec", "os.posix_spawn",
            "subprocess.Popen", "socket.connect", "ctypes.dlopen")  # fmt: skip
_watching: list[list[str]] = []  # an audit hook stays for the life of the process


@contextmanager
def watched(seconds: float = 20) -> Generator[list[str]]:
    """What happens in the block that reading a file must not cause. Raises when it takes that much CPU time."""
    if not _watching:
        sys.addaudithook(_hear)
        _watching.append([])
    events: list[str] = []
    _watching.append(events)
    before = signal.signal(signal.SIGVTALRM, _hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield events
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        _watching.pop()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if len(_watching) < 2:
        return
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if writes or event in _SUSPECT:
        _watching[-1].append(f"{event} {str(arguments)[:200]}")


def _hangs(*_: object) -> None:
    raise AssertionError("reading this file does not end")
