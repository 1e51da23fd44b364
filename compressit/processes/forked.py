"""Asks somebody's code for something in a process of its own: however that ends, this one goes on, unchanged."""

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

_STEP = 0.05  # seconds between two looks at the process
_PATIENCE = 5.0  # seconds until what was told to end is killed
_SHOWN = 20_000  # bytes of what it prints


class Ended(Exception):  # noqa: N818 - it reads as what it is
    """The process ended without an answer; its text says how."""


def asked(work: Callable[[], Any], limit: float) -> Any:
    """What `work` returns, a JSON value, out of a forked process, which sees all that this one has.

    What it changes, closes or leaves running concerns nobody else; what it prints is shown on stderr. Raises Ended
    where the process ends by itself, by a signal, or because it takes longer than `limit` seconds.
    """
    with (
        tempfile.TemporaryFile() as answer,
        tempfile.TemporaryFile() as printed,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
    ):
        _flush()  # or both processes would say it
        living, lifeline = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: the child waits for none of them
            child = os.fork()
        if child == 0:
            os.close(lifeline)
            tempfile.tempdir = os.environ["TMPDIR"] = scratch  # it ends before it could clear up
            _answer(work, answer, printed, living)
        os.close(living)
        try:
            code = _wait(child, time.monotonic() + limit)
        finally:
            os.close(lifeline)  # whoever is still there ends now
        if code is None and _wait(child, time.monotonic() + _PATIENCE) is None:
            os.kill(child, signal.SIGKILL)  # its guard was stopped; what it guards ends with it
            os.waitpid(child, 0)
        printed.seek(0)
        sys.stderr.write(sound(printed.read(_SHOWN).decode(errors="replace"), _SHOWN))
        if code is None:
            raise Ended(f"it took longer than {limit:g} s and was ended")
        if code < 0:
            raise Ended(f"it crashed: {signal.Signals(-code).name}")
        answer.seek(0)
        try:
            return json.load(answer)
        except ValueError as error:
            raise Ended(f"it ended its process, with exit code {code}") from error


def _wait(child: int, deadline: float) -> int | None:
    """The exit code, negative for a signal; None where it is still running then."""
    while True:
        late = time.monotonic() >= deadline  # before it is asked: this process too may have stood still
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if late:
            return None
        time.sleep(_STEP)


def _answer(work: Callable[[], Any], answer: IO[bytes], printed: IO[bytes], living: int) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        os.dup2(living, 0)
        os.close(living)
        guard.stand()  # what it starts ends with it, and both when the other end of `living` is closed
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(printed.fileno(), 1)
        os.dup2(printed.fileno(), 2)
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(1)  # threads that it started before the fork are not here
        found = json.dumps(work()).encode()
        answer.write(found)
        answer.flush()
        code = 0
    except BaseException as error:  # noqa: BLE001 - of whatever class
        os.write(2, f"{sound(repr(error))}\n".encode())
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # it is full, or was closed
            stream.flush()
