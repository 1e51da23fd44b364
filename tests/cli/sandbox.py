"""Runs the `compressit` command in processes of its own, with a cache and a store of its own."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import warm

PATIENCE = 300.0  # seconds: far more than anything here takes
HEAVY = ("torch", "matplotlib", "numpy", "torchvision", "optuna")

# The command as it is, and then what it has imported.
_COMMAND = f"""
import sys
from compressit.cli import main
sys.argv[0] = "compressit"
try:
    main()
finally:
    print("imported:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""


@dataclass(frozen=True)
class Done:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Sandbox:
    """A folder to run commands in."""

    folder: Path

    @property
    def store(self) -> Path:
        """Where results are kept, unless `--store` says otherwise."""
        return self.folder / "store"

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *arguments: str | Path, code: int = 0, **environment: str) -> Done:
        """`compressit ARGUMENTS`, which must end with that exit code, and without a traceback.

        It and its workers need no time to start (`warm`).
        """
        return self._warm(["-m", "compressit", *map(str, arguments)], code, environment)

    def fresh(self, *arguments: str | Path, code: int = 0, **environment: str) -> Done:
        """As `run`, in processes that start from nothing."""
        return self._finished(["-m", "compressit", *map(str, arguments)], code, environment)

    def light(self, *arguments: str | Path, code: int = 0) -> Done:
        """As `fresh`; also, it must not import torch and the like."""
        done = self._finished(["-c", _COMMAND, *map(str, arguments)], code, {})
        assert done.err.splitlines()[-1].strip() == "imported:", done.err
        return done

    def python(self, source: str, *arguments: str | Path) -> str:
        """What a script prints in another process."""
        return self._warm(["-c", source, *map(str, arguments)], 0, {}).out

    def start(self, *arguments: str | Path) -> Running:
        """`compressit ARGUMENTS` in the background."""
        log = self.folder / f"stderr-{time.monotonic_ns()}.txt"
        with log.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "compressit", *map(str, arguments)],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # else a background job's
            )
        return Running(process, log)

    def environment(self, **more: str) -> dict[str, str]:
        """The environment of every command: this folder's cache and store, and nobody's settings."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("COMPRESSIT_", "COLUMNS"))}
        own = {"COMPRESSIT_CACHE": str(self.folder / "cache"), "COMPRESSIT_STORE": str(self.store)}
        return {**inherited, **own, **more}

    def jobs(self, *arguments: str | Path) -> dict[str, dict[str, Any]]:
        """The plan's jobs by label."""
        return {job["label"]: job for job in json.loads(self.run("plan", *arguments, "--json").out)}

    def progress(self, key: str) -> Path:
        """The file that says that a stage has been begun and can go on."""
        return self.store / "progress" / key / "progress.json"

    def _warm(self, arguments: Sequence[str], code: int, environment: dict[str, str]) -> Done:
        env = self.environment(**environment)
        return _checked(warm.python(*arguments, cwd=self.folder, env=env, timeout=PATIENCE), code)

    def _finished(self, arguments: Sequence[str], code: int, environment: dict[str, str]) -> Done:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return _checked(done, code)


@dataclass(frozen=True)
class Running:
    """A command in the background."""

    process: subprocess.Popen[str]
    log: Path

    def until(self, true: Callable[[], object]) -> None:
        """Waits until that holds; the command must not end before."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert self.process.poll() is None, "it ended too early: " + self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)

    def end(self, number: signal.Signals) -> Done:
        """Sends the signal to this process alone and waits for its end."""
        self.process.send_signal(number)
        out, _ = self.process.communicate(timeout=PATIENCE)
        return Done(self.process.returncode, out, self.log.read_text())


def _checked(done: subprocess.CompletedProcess[str], code: int) -> Done:
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    assert done.returncode == code, done.stderr + done.stdout
    return Done(done.returncode, done.stdout, done.stderr)


def wait_for(true: Callable[[], object]) -> None:
    """Returns as soon as that holds."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


def contents(folder: Path) -> dict[str, str]:
    """The digest of every file under a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """The models of a run folder, without what differs from run to run by its nature."""
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return [{name: value for name, value in row.items() if name != "seconds"} for row in results["rows"]]
