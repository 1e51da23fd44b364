"""On a terminal a run draws a table that follows the training, and takes it away again at its end."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator

import pytest

from .recipes import LONG
from .sandbox import PATIENCE, Sandbox

ROWS, COLUMNS = 40, 120
SHORT = LONG[: LONG.index("  noise: ")] + "evaluate: [eval.accuracy]\n"
_CODE = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|[\r\n]|[^\x1b\r\n]+")


class Screen:
    """What a terminal shows: the few control codes that a display which updates itself needs."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = self._column = 0

    def feed(self, text: str) -> None:
        """Text and whole control codes, in the order in which they came."""
        for found in _CODE.finditer(text):
            arguments, code = found[1], found[2]
            if found[0] == "\r":
                self._column = 0
            elif found[0] == "\n":
                self._row, self._column = self._row + 1, 0
                self.lines += [""] * (self._row + 1 - len(self.lines))
            elif code is None:
                line = self.lines[self._row].ljust(self._column)
                self.lines[self._row] = line[: self._column] + found[0] + line[self._column + len(found[0]) :]
                self._column += len(found[0])
            elif code == "A":
                self._row = max(0, self._row - int(arguments or 1))
            elif code == "K":
                self.lines[self._row] = "" if arguments == "2" else self.lines[self._row][: self._column]
            else:
                assert code in "mhl", f"the terminal of this test does not know {found[0]!r}"

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip("\n")


@pytest.fixture
def drawn(sandbox: Sandbox) -> list[str]:
    """The screens of a run with one stage of 200 epochs, in the order in which they were seen."""
    sandbox.write("recipe.yaml", SHORT)
    terminal, run = pty.openpty()
    termios.tcsetwinsize(run, (ROWS, COLUMNS))
    quiet = {"TTY_COMPATIBLE", "TTY_INTERACTIVE", "NO_COLOR", "FORCE_COLOR"}
    inherited = {name: value for name, value in sandbox.environment().items() if name not in quiet}
    process = subprocess.Popen(
        [sys.executable, "-m", "compressit", "run", "recipe.yaml", "--out", "out"],
        cwd=sandbox.folder,
        env={**inherited, "TERM": "xterm-256color"},
        stdin=run,
        stdout=run,
        stderr=run,
    )
    os.close(run)
    screen, screens = Screen(), [""]
    for text in _frames(terminal):
        for part in re.split(r"(?=\r)", text):  # the last row is whole before the cursor goes back
            screen.feed(part)
            if screen.text != screens[-1]:
                screens.append(screen.text)
    os.close(terminal)
    assert process.wait(timeout=PATIENCE) == 0, screen.text
    return screens


def _frames(terminal: int) -> Iterator[str]:
    """What is written to a terminal until everybody has closed it, never ending inside a control code."""
    kept = b""
    while True:
        try:
            read = os.read(terminal, 1 << 16)
        except OSError:  # Linux says so when the last writer is gone
            read = b""
        if not read:
            yield kept.decode()
            return
        kept += read
        end = max(kept.rfind(b"\n"), kept.rfind(b"\r")) + 1
        yield kept[:end].decode()
        kept = kept[end:]


def test_the_table_follows_the_training_and_the_report_is_the_last_line(drawn: list[str]) -> None:
    tables = [screen for screen in drawn if "jobs" in screen and "epoch" in screen]
    assert tables, drawn
    followed = [
        row
        for screen in tables
        for row in re.findall(r"base/seed0/train .*epoch (\d+)/200, loss \d+\.\d{4}", screen)
    ]
    assert len(set(followed)) > 1, tables
    assert [int(epoch) for epoch in followed] == sorted(int(epoch) for epoch in followed)
    assert any(re.search(r"\d/3 jobs .*about \d+.* left", screen) for screen in tables), tables
    assert any(re.search(r"base/seed0/train.*accuracy \d+\.\d%", screen) for screen in tables), (
        "and the accuracy"
    )

    *before, report, numbers = drawn[-1].splitlines()
    assert (report, numbers) == ("report: out/report.html", "numbers: out/results.csv")
    assert before[0].startswith("long: 3 of 3 jobs to do, about ")
    assert re.fullmatch(
        r"base/seed0/train: epoch 200/200, loss \d\.\d{4}, accuracy \d+\.\d%, done in .+", before[1].strip()
    )
    assert "left" not in drawn[-1], "the table is gone"
