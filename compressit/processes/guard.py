"""Ends all processes that a worker started, however the worker or its run ends.

A worker runs as the child of a small guard process that only watches. When the run ends, the guard ends the worker,
even if it is stopped or hangs in C code, and all its descendants, even those in a session of their own. If the guard
itself is killed, Linux kills the worker, and the run kills the rest of their process group.
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
_PATIENCE = 5.0  # seconds to wait for processes to disappear after SIGKILL


def stand() -> None:
    """Forks a worker; call it before starting threads. Returns in the worker, never in the guard.

    The guard ends with exit code 0 when the other end of its stdin closes, or with the worker's exit code or signal
    when the worker ends. It leaves no process behind.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # SIGINT ends the process without a KeyboardInterrupt
    wake, woken = os.pipe()
    guard = os.getpid()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # the guard adopts orphaned descendants
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
    """Makes this process end with its parent, of this pid; exits at once if the parent has ended already."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _watch(worker: int, wake: int, woken: int) -> int:
    """Waits for the worker to end and returns its exit code (negative: a signal), or 0 when stdin closes."""
    silence = os.open(os.devnull, os.O_RDWR)
    os.dup2(silence, 1)  # only the worker writes to the run, so that stdout closes when it ends
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    poll = select.poll()
    poll.register(0, 0)  # only to notice that stdin closes (always reported): its content is for the worker
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
    """Kills all children, including adopted ones, until none is left."""
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
    """The processes whose parent is this one (only where /proc exists)."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            if int(stat.read_bytes().rpartition(b")")[2].split()[1]) == os.getpid():
                found.append(int(stat.parent.name))
    return found


def _end_as(code: int) -> None:
    """Ends with this exit code, or by this signal without a second core dump."""
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


def _prctl(option: int, value: int) -> None:
    """Calls prctl on Linux. On other systems, a worker watches its own stdin, and the run kills its group."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
