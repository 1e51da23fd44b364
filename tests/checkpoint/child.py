"""What a piece of work takes: done in a forked process, whose peak of memory is its own."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MOST_BYTES, MOST_SECONDS = 8 * 2**30, 120


@dataclass(frozen=True)
class Took:
    """The work's words, its seconds of the processor, and the bytes its peak of memory lies above the start."""

    said: str
    seconds: float
    memory: int


def taken(work: Callable[[], str]) -> Took:
    """Raises AssertionError where the work does not end by itself: a crash, a hang, memory without end."""
    reading, writing = os.pipe()
    if not (child := os.fork()):
        os.close(reading)
        _answer(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as answer:
        content = answer.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert not code, f"{signal.Signals(-code).name if code < 0 else f'exit code {code}'}: {content}"
    seconds, kilobytes, said = content.split("\n", 2)
    return Took(said, float(seconds), int(kilobytes) * 1024)


def _answer(work: Callable[[], str], to: int) -> None:
    """Never returns; an exception is told, and gives exit code 1."""
    ended, content = 1, ""
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
        signal.alarm(MOST_SECONDS)
        torch.set_num_threads(1)  # the threads of the pool are not in this process
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        said = work()
        seconds = time.process_time() - started
        content = f"{seconds}\n{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before}\n{said}"
        ended = 0
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the caller's frames
        content = f"{type(error).__name__}: {error}"
    finally:
        os.write(to, content.encode(errors="replace")[:60_000])
        os._exit(ended)
