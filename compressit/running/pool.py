"""Worker processes: started once, given one job after another, ended with the run."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import queue
import secrets
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from compressit.contract.job import Job
from compressit.errors import CompressitError, sound
from compressit.files.ownfolder import OwnFolder
from compressit.processes.python import environment, python
from compressit.recipe.model import LocalPlugin
from compressit.running.worker import CHANNEL

PATIENCE = 5.0  # seconds for a process to end that was told to
LOG_BYTES = 20_000  # of a log's end that are looked at

Events = queue.Queue[tuple["Worker", dict[str, Any]]]


@dataclass(frozen=True)
class WorkerOptions:
    """What every worker of a run is started with."""

    store: Path
    cache: Path
    threads: int
    logs: Path  # folder for what workers print
    plugins: Sequence[LocalPlugin] = ()
    save_every: float = 10.0  # seconds between saves of a stage's progress
    job_timeout: float | None = None  # seconds after which a job is ended; the worker does not know

    def command(self) -> list[str]:
        """The command line."""
        told = {
            "store": str(self.store),
            "cache": str(self.cache),
            "threads": self.threads,
            "save_every": self.save_every,
            "plugins": [(str(plugin.path), plugin.digest) for plugin in self.plugins],
        }
        return python("compressit.running.worker", json.dumps(told))


class Worker:
    """One process. Its messages arrive in `events`; its end arrives as {"event": "ended"}, after all of them."""

    def __init__(self, number: int, options: WorkerOptions, events: Events) -> None:
        self.number = number
        self.job: Job | None = None  # what it does
        self.ready = False  # it has loaded everything
        self.deadline = math.inf  # of its job
        self.log = options.logs / f"worker-{number}.log"
        self._token = secrets.token_hex(8)  # what has it is the worker's, what has not is a plugin's noise
        threads = str(options.threads)
        own = {**environment(), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with _writable(self.log) as log:  # an older run's worker of this number has had its say
            self._process = subprocess.Popen(
                options.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**own, CHANNEL: self._token},
                start_new_session=True,  # Ctrl-C is the parent's business
            )
        reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        reader.start()
        self._waiter = threading.Thread(target=self._wait, args=(events, reader), daemon=True)
        self._waiter.start()

    @property
    def pid(self) -> int:
        """Of the process that watches the worker; both are in the group of that number."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Gives the worker something to do; a worker that has ended says so through its events."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Ends the process and all it has started: what it was doing goes on from its last saved state in the next
        run."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # nobody reads it any more
            self._process.stdin.close()  # its guard leaves no process behind
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._end_group()
        self._waiter.join()

    def how_it_ended(self) -> str:
        """For the user: the exit status in words and what its log says last."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            ending = "was killed (often: the machine ran out of memory)"
        elif code < 0:
            ending = f"ended by signal {_signal_name(-code)}"
        else:
            ending = f"ended with exit code {code}"
        said = _last_words(self.log)
        return f"the worker process {ending}" + (f": {said}" if said else "")

    def _read(self, events: Events) -> None:
        assert self._process.stdout is not None
        token = self._token.encode()
        for line in self._process.stdout:
            # Somebody's bytes may stand before the token, and half a message behind it: it was killed while it spoke.
            with contextlib.suppress(ValueError, RecursionError):
                events.put((self, json.loads(line[line.index(token) + len(token) :])))

    def _wait(self, events: Events, reader: threading.Thread) -> None:
        """Tells of the end when there is one: what the worker has forked may keep its stdout open for longer."""
        self._process.wait()
        self._end_group()  # its guard was killed, or this system has none
        reader.join(PATIENCE)
        events.put((self, {"event": "ended"}))

    def _end_group(self) -> None:
        # As long as one of the group lives, the kernel gives its number to nobody else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _writable(log: Path) -> IO[bytes]:
    """The log, opened anew; nothing is lost but words where it cannot be."""
    try:
        return OwnFolder(log.parent.parent).fresh(f"{log.parent.name}/{log.name}")
    except (OSError, CompressitError):
        return open(os.devnull, "wb")


def _last_words(log: Path) -> str:
    """The last lines of a log; of a crash, its reason and where the plugin was."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - LOG_BYTES))
            text = file.read().decode(errors="replace").strip()
    except OSError:
        return ""
    _, crashed, dump = text.rpartition("Fatal Python error: ")
    if not crashed:
        return sound(" / ".join(text.splitlines()[-3:]))
    stack = dump.rpartition("Current thread ")[2].splitlines()
    frames = [line.strip() for line in stack if line.startswith("  File ")]
    theirs = list(itertools.takewhile(lambda line: str(Path(__file__).parents[1]) not in line, frames))
    return sound(f"{dump.splitlines()[0]} at {(theirs or frames or ['an unknown line'])[-1]}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)
