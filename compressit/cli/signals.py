"""SIGTERM and SIGHUP end a command as Ctrl-C does; a second signal ends it at once."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator
from types import FrameType

_NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
_SAME = 1.0  # seconds in which further signals are ignored: a closing terminal sends several


class Ended(KeyboardInterrupt):
    """A signal asked this process to end; `number` is the signal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(
            "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
        )


@contextlib.contextmanager
def ending() -> Generator[list[int]]:
    """In this block the first of these signals raises Ended, so that a report can still be written.

    Yields a list that will hold the signal. A second signal, at least a second later, ends the process at once with
    exit code 128 + its number; the workers notice. A signal that was ignored before (`nohup`) stays ignored.
    """
    first: list[float] = []
    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append(time.monotonic())
            came.append(number)
            raise Ended(number)
        if time.monotonic() - first[0] >= _SAME:
            with contextlib.suppress(OSError):
                os.write(2, b"\nended at once, without a report; finished work is kept\n")
            os._exit(128 + number)

    before = {number: signal.getsignal(number) for number in _NUMBERS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, end)
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
