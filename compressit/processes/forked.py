"""Runs code in a forked process, which has a copy of this one's memory: whatever happens there, this process continues
unchanged. `asked` waits for an answer; a `Forked` process goes on beside this one, as a `subprocess.Popen` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import IO, Any

from compressit.errors import sound
from compressit.processes import guard

_STEP = 0.05  # seconds between polls of the process
_PATIENCE = 5.0  # seconds a process has to end before it is killed
_SHOWN = 20_000  # bytes of its output that are shown


class Ended(Exception):  # noqa: N818 - a clear name as it is
    """The process ended without an answer; the text says how."""


def asked(work: Callable[[], Any], limit: float, shown: bool = True) -> Any:
    """Runs `work` in a forked process, with a copy of this one's memory, and returns its result, a JSON value.

    Nothing that it changes, closes or leaves running affects this process; its output is shown on stderr if `shown`.
    Raises Ended if the process exits, crashes, or takes longer than `limit` seconds.
    """
    with (
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() as printed,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        _flush()  # otherwise both processes would print it
        living, lifeline = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the child waits for none
            child = os.fork()
        if child == 0:
            os.close(lifeline)
            tempfile.tempdir = os.environ["TMPDIR"] = scratch  # it may end before it cleans up
            _answer(work, answer, printed, living)
        os.close(living)
        try:
            code = _wait(child, time.monotonic() + limit)
        finally:
            os.close(lifeline)  # ends any process that is still running
        if code is None and _wait(child, time.monotonic() + _PATIENCE) is None:
            os.kill(child, signal.SIGKILL)  # the guard was stopped; its worker ends with it
            os.waitpid(child, 0)
        if shown:
            printed.seek(0)
            sys.stderr.write(sound(printed.read(_SHOWN).decode(errors="replace"), _SHOWN))
        if code is None:
            raise Ended(f"it was stopped after {limit:g} s")
        if code < 0:
            raise Ended(f"it crashed: {signal.Signals(-code).name}")
        answer.seek(0)
        try:
            return json.load(answer)
        except ValueError as error:
            raise Ended(f"it ended with exit code {code}") from error


class Forked:
    """A process that runs `work` with pipes as its stdin and stdout, and writes to `stderr`.

    It ends with all that it started when `stdin` closes, so also when this process is killed. It leaves this one's
    session, so Ctrl-C does not reach it. `closing`: descriptors that it must not keep open, as those of other workers'
    pipes. It has a single thread, that of the caller: nothing that another thread locked is free in it.
    """

    def __init__(self, work: Callable[[], None], stderr: IO[bytes], closing: Sequence[int] = ()) -> None:
        taken, given = os.pipe()
        heard, said = os.pipe()
        _flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the child waits for none
            self.pid = os.fork()
        if self.pid == 0:
            _work(work, (taken, said, stderr.fileno()), (given, heard, *closing))
        os.close(taken)
        os.close(said)
        self.stdin: IO[bytes] = os.fdopen(given, "wb")
        self.stdout: IO[bytes] = os.fdopen(heard, "rb")
        self._code: int | None = None
        self._asking = threading.Lock()

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self._poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            time.sleep(_STEP)
        return code

    def _poll(self) -> int | None:
        with self._asking:
            if self._code is None:
                try:
                    pid, status = os.waitpid(self.pid, os.WNOHANG)
                except (
                    ChildProcessError
                ):  # this process ignores SIGCHLD, or waits for all its children elsewhere
                    pid, status = self.pid, 0
                self._code = os.waitstatus_to_exitcode(status) if pid else None
            return self._code


def _work(work: Callable[[], None], streams: Sequence[int], closing: Sequence[int]) -> None:
    """Runs `work` in the child. Never returns."""
    code = 1
    try:
        gc.freeze()  # what this process would finalise belongs to the other one
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                if callable(signal.getsignal(number)):
                    signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        kept = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in streams]
        for descriptor in (*closing, *streams[:2]):
            os.close(descriptor)
        for number, descriptor in enumerate(kept):
            os.dup2(descriptor, number)
            os.close(descriptor)
        guard.stand()
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # torch's threads do not survive the fork
        work()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - any exception of a plugin
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    finally:
        os._exit(code)


def _wait(child: int, deadline: float) -> int | None:
    """The exit code, negative for a signal; None if the process is still running at the deadline."""
    while True:
        late = time.monotonic() >= deadline  # read first: this process may have been suspended too
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if late:
            return None
        time.sleep(_STEP)


def _answer(work: Callable[[], Any], answer: IO[bytes], printed: IO[bytes], living: int) -> None:
    """Runs `work` in the child and writes its answer. Never returns."""
    code = 1
    try:
        os.setsid()
        os.dup2(living, 0)
        os.close(living)
        guard.stand()  # its child processes end with it, and all end when the other end of `living` closes
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # torch's threads do not survive the fork
        found = json.dumps(work()).encode()
        answer.write(found)
        answer.flush()
        code = 0
    except BaseException as error:  # noqa: BLE001 - any exception of the plugin
        os.write(2, f"{sound(repr(error))}\n".encode())
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # the disk is full, or the stream closed
            stream.flush()
