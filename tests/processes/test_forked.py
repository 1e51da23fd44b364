"""A process forked from this one: it works, ends when its stdin closes, and says how it ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from tiny import gone_soon

from compressit.processes.forked import Forked

Start = Callable[..., Forked]


@pytest.fixture
def started(tmp_path: Path) -> Generator[Start]:
    """Forks a process that logs to `log`; whatever is left of it ends with the test."""
    made: list[Forked] = []

    def started(work: Callable[[], Any], closing: tuple[int, ...] = ()) -> Forked:
        with (tmp_path / "log").open("ab") as log:
            made.append(Forked(work, log, closing))
        return made[-1]

    yield started
    for process in made:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _speaks() -> None:
    with os.fdopen(os.dup(0), "rb") as source:
        for line in source:
            os.write(1, line.upper())


def test_it_speaks_over_its_pipes_and_ends_when_they_close(started: Start) -> None:
    process = started(_speaks)
    process.stdin.write(b"hello\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"HELLO\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.stdin.close()
    assert process.wait(60) == 0


def _fails() -> None:
    raise ValueError("out of paper")


@pytest.mark.parametrize(
    ("work", "code", "said"),
    [
        (_fails, 1, "ValueError: out of paper"),
        (lambda: sys.exit(5), 5, ""),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL, ""),
        (lambda: os.write(2, b"seen\n"), 0, "seen"),
    ],
    ids=["raises", "exits", "is killed", "writes"],
)
def test_how_it_ended_is_told(started: Start, tmp_path: Path, work: Any, code: int, said: str) -> None:
    assert started(work).wait(60) == code
    assert said in (tmp_path / "log").read_text()


def test_one_that_still_runs_keeps_no_other_alive(started: Start) -> None:
    first = started(_speaks)
    second = started(_speaks, (first.stdin.fileno(), first.stdout.fileno()))
    first.stdin.close()
    assert first.wait(60) == 0
    second.stdin.write(b"here\n")
    second.stdin.flush()
    assert second.stdout.readline() == b"HERE\n"
    second.stdin.close()
    assert second.wait(60) == 0


def test_what_it_started_ends_with_it(started: Start) -> None:
    def starts() -> None:
        child = subprocess.Popen(["sleep", "600"], start_new_session=True)
        os.write(1, f"{child.pid}\n".encode())
        time.sleep(600)

    process = started(starts)
    child = int(process.stdout.readline())
    process.stdin.close()
    assert process.wait(60) == 0
    assert gone_soon([child])


def test_signals_mean_there_what_they_mean_in_a_new_process(started: Start) -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        process = started(lambda: os.kill(os.getpid(), signal.SIGTERM))
    finally:
        signal.signal(signal.SIGTERM, before)
    assert process.wait(60) == -signal.SIGTERM


def test_torch_computes_in_it_after_the_session_computed_with_threads() -> None:
    code = """
    import os, tempfile, torch
    from compressit.processes.forked import Forked
    def work():
        x = torch.randn(600, 600, requires_grad=True)
        (x @ x.T).relu().sum().backward()
        os.write(1, f"{torch.get_num_threads()} {bool(x.grad.isfinite().all())}\\n".encode())
    torch.set_num_threads(2)
    x = torch.randn(600, 600, requires_grad=True)
    (x @ x.T).relu().sum().backward()
    with tempfile.TemporaryFile() as log:
        process = Forked(work, log)
    print(process.stdout.readline().decode(), process.wait(60))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=180, check=True
    )
    assert done.stdout.split() == ["1", "True", "0"]
