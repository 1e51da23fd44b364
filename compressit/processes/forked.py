"""Runs plugin code in a forked process: whatever happens there, this process continues unchanged."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
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
