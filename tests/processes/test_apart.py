"""Somebody's code in a process of its own: whatever it does, there is an answer or a reason."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from compressit.processes.forked import Ended, asked

PATIENCE = 60.0


def test_it_answers_and_changes_nothing_here() -> None:
    mine = [1, 2]

    def work() -> list[int]:
        mine.clear()
        os.chdir("/")
        return [3]

    here = Path.cwd()
    assert asked(work, PATIENCE) == [3]
    assert mine == [1, 2]
    assert Path.cwd() == here


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (lambda: os._exit(0), "exit code 0"),
        (lambda: os._exit(3), "exit code 3"),
        (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
        (lambda: object(), "exit code 1"),
        (lambda: time.sleep(1000), "stopped after 0.5 s"),
    ],
)
def test_the_end_of_its_process_is_told(work: Callable[[], object], words: str) -> None:
    with pytest.raises(Ended, match=words):
        asked(work, 0.5 if "stopped after" in words else PATIENCE)


def test_closing_streams_and_printing_escapes_is_no_harm(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> str:
        sys.stdout.write("printed")
        os.write(2, b"\x1b[31mraw")
        sys.stdout.close()
        os.close(1)
        os.close(2)
        return "fine"

    assert asked(work, PATIENCE) == "fine"
    said = capfd.readouterr()
    assert "\\x1b[31mraw" in said.err
    assert "\x1b" not in said.out + said.err


TORCH = """
import torch
from compressit.processes.forked import asked
torch.set_num_threads(2)
window = torch.hann_window(100_000) * 2  # the threads start here, and are not in the forked process
print(asked(lambda: float((window * window).sum()) > 0, 60))
"""


def test_torch_computes_there() -> None:
    done = subprocess.run([sys.executable, "-c", TORCH], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_temporary_files_go_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made = asked(tempfile.mkdtemp, PATIENCE)
    assert Path(made).is_relative_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_stops_its_guard_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compressit.processes.forked._PATIENCE", 0.2)

    def work() -> None:
        os.kill(os.getppid(), signal.SIGSTOP)
        time.sleep(1000)

    with pytest.raises(Ended, match="stopped after"):
        asked(work, 0.5)


@pytest.mark.parametrize("hangs", [False, True])
def test_what_it_started_ends_with_it(tmp_path: Path, hangs: bool) -> None:
    def work() -> int:
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        (tmp_path / "pid").write_text(str(child.pid))
        if hangs:
            time.sleep(1000)
        return child.pid

    with contextlib.suppress(Ended):
        asked(work, 1.0 if hangs else PATIENCE)
    started = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + PATIENCE
    while _runs(started):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
