"""The lock: one holder at a time, who is named to those who wait; no file stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from compressit.files import lock
from compressit.files.lock import held, holder

HOLD = """
import sys, time
from pathlib import Path
from compressit.files.lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
COUNT = """
import os, sys, time
from pathlib import Path
from compressit.files.lock import held
lock, inside = Path(sys.argv[1]), Path(sys.argv[2])
for _ in range(40):
    with held(lock):
        os.close(os.open(inside, os.O_CREAT | os.O_EXCL))  # fails where another is inside
        time.sleep(0.001)
        inside.unlink()
"""


@pytest.fixture
def other(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock `file` for as long as it lives."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "file")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_file_is_there_while_it_is_held_and_gone_after(tmp_path: Path) -> None:
    file = tmp_path / "locks" / "file"
    with held(file):
        assert f"process {os.getpid()} on " in holder(file)
    assert list(file.parent.iterdir()) == []
    with pytest.raises(KeyError), held(file):
        raise KeyError
    assert list(file.parent.iterdir()) == []


def test_many_processes_are_never_inside_together(tmp_path: Path) -> None:
    """Also though each removes the file that the others wait for."""
    command = [sys.executable, "-c", COUNT, str(tmp_path / "file"), str(tmp_path / "inside")]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told_for_whom_and_goes_on_when_that_process_is_killed(
    tmp_path: Path, other: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "FIRST_WORD", 0.05)
    said: list[str] = []
    told = threading.Event()

    def say(text: str) -> None:
        said.append(text)
        told.set()

    def wait() -> None:
        with held(tmp_path / "file", say):
            said.append("mine")

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert told.wait(60)
    other.kill()
    waiting.join(60)
    assert said[-1] == "mine"
    assert said[0].startswith(f"waiting for process {other.pid} on ")
    assert str(tmp_path / "file") in said[0]
    assert f"since {time.strftime('%Y-')}" in said[0]
    assert f"kill {other.pid}" in said[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of a process in /proc")
def test_a_stopped_process_is_told_to_be_stopped(tmp_path: Path, other: subprocess.Popen[str]) -> None:
    other.send_signal(signal.SIGSTOP)
    os.waitpid(other.pid, os.WUNTRACED)
    words = f"process {other.pid} .* is stopped: `kill -CONT {other.pid}`"
    with pytest.raises(TimeoutError, match=words), held(tmp_path / "file", patience=0):
        pass


@pytest.mark.parametrize(
    "written",
    [b"", b"{", b"[]", b"\xff", b'{"pid": "x"}', b'{"pid": 1, "host": "a", "since": 1e300}',
     b'{"pid": 1, "host": "\\u001b[31m", "since": NaN}', b"[" * 100_000],
)  # fmt: skip
def test_a_file_that_says_nothing_useful_is_named_itself(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(written)
    assert holder(file) == f"another process, which holds {file}"


def test_a_pipe_in_its_place_keeps_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with held(tmp_path / "file"):
        assert str(tmp_path / "file") in holder(tmp_path / "file")


def test_what_a_file_claims_is_shown_without_control_characters(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b'{"pid": 1, "host": "\\u001b[31m\\ud800", "since": 0}')
    assert "\x1b" not in holder(file)
    assert holder(file).isascii()
