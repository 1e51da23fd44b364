"""Ends whatever a worker started, however the worker ends and whoever is killed.

A worker runs as the child of a small process that does nothing but watch. It ends as soon as the run does, and then it
ends the worker, also one that is stopped or hangs in C code, and every process that descends from it, also one with a
session of its own. Where the watching process itself is killed, Linux kills the worker, and the run the rest of their
group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # <linux/prctl.h>
_PATIENCE = 5.0  # seconds for processes to disappear that were sent SIGKILL


def stand() -> None:
    """Forks, before there are threads. Returns in the new process; the other one, the guard, never returns.

    The guard ends when the other end of its stdin is closed (with exit code 0) or when the worker has ended (the
    same way, signals included), and leaves no process behind.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_DFL
    )  # whoever ends this process: no KeyboardInterrupt of a plugin's
    wake, woken = os.pipe()
    guard = os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # what loses its parent is the guard's
    worker = os.fork()
    if worker == 0:
        os.close(wake)
        os.close(woken)
        _prctl(_PR_SET_CHILD_SUBREAPER, 0)
        end_with(guard)
        return
    code = 1
    try:
        code = _watch(worker, wake, woken)
    finally:
        _end_all()
        _end_as(code)


def end_with(parent: int) -> None:
    """From now on this process ends with its parent, of that number; at once if it has gone already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _watch(worker: int, wake: int, woken: int) -> int:
    """Returns when the worker has ended, with its exit code (negative: a signal), or when nobody needs it: 0."""
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)  # the way to the run is the worker's alone: where it ends, it ends
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    poll = select.poll()
    poll.register(0, 0)  # only its end, which is told unasked: what is in it is the worker's
    poll.register(wake, select.POLLIN)
    while True:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == worker:
                    return os.waitstatus_to_exitcode(ended[1])
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                return 0
            os.read(wake, 1024)


def _end_all() -> None:
    """Kills the children, and theirs as they become ours, until there is none."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.002)
        except ChildProcessError:
            return


def _children() -> list[int]:
    """The processes whose parent is this one (where there is /proc)."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just gone
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def _end_as(code: int) -> None:
    """Ends with that exit code, or by that signal without another dump of memory."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _prctl(option: int, value: int) -> None:
    """Elsewhere than on Linux, a worker watches its stdin itself, and the run ends its group."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
