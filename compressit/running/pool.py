"""Workers: each runs one job after another, and ends with the run. Most are processes."""

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
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from compressit.contract.job import Job
from compressit.errors import CompressitError, sound
from compressit.files.ownfolder import OwnFolder
from compressit.host.plugins import Host
from compressit.processes.forked import Forked
from compressit.processes.python import environment, python
from compressit.recipe.model import LocalPlugin
from compressit.running.worker import CHANNEL, serve

PATIENCE = 5.0  # seconds a process has to end when asked to
LOG_BYTES = 20_000  # how much of a log's end is read


class Worker(Protocol):
    """What carries out a run's jobs, one after another."""

    number: int
    job: Job | None  # the current one
    ready: bool  # whether it has loaded everything
    deadline: float  # of the current job

    def send(self, message: Mapping[str, Any]) -> None:
        """Gives it a job, or a question. What becomes of it is told in events."""
        ...

    def end(self) -> None:
        """Ends the worker. The next run resumes its job from the last saved state."""
        ...

    def how_it_ended(self) -> str:
        """In words, for the user."""
        ...


Events = queue.Queue[tuple[Worker, dict[str, Any]]]


@dataclass(frozen=True)
class WorkerOptions:
    """Options that all workers of a run share."""

    store: Path
    cache: Path
    threads: int
    logs: Path  # folder for what workers print
    plugins: Sequence[LocalPlugin] = ()
    save_every: float = 10.0  # seconds between saves of a stage's progress
    job_timeout: float | None = None  # seconds after which the run ends a job; not passed to the worker
    session: Host | None = None  # with plugins that only this process has: then workers are forked from it
    forks: bool = True  # whether they can compute; else the session's only worker is this process

    def command(self) -> list[str]:
        """The command line that starts a worker."""
        return python("compressit.running.worker", json.dumps(self.told()))

    def told(self) -> dict[str, Any]:
        """What a worker is told, as JSON values."""
        return {
            "store": str(self.store),
            "cache": str(self.cache),
            "threads": self.threads,
            "save_every": self.save_every,
            "plugins": [(str(plugin.path), plugin.digest) for plugin in self.plugins],
        }


class WorkerProcess:
    """One worker process. Its messages arrive in `events`; the last one is {"event": "ended"}.

    `others`: the run's other workers, whose pipes a forked one must not keep open.
    """

    def __init__(
        self, number: int, options: WorkerOptions, events: Events, others: Sequence[WorkerProcess] = ()
    ) -> None:
        self.number = number
        self.job: Job | None = None  # the current one
        self.ready = False  # whether it has loaded everything
        self.deadline = math.inf  # of the current job
        self.log = options.logs / f"worker-{number}.log"
        self._token = secrets.token_hex(8)  # marks the worker's messages among what plugins print
        with _writable(self.log) as log:  # replaces the log of an earlier run
            self._process = (
                self._forked(options, log, others) if options.session else self._started(options, log)
            )
        reader = threading.Thread(target=self._read, args=(events,), daemon=True)
        reader.start()
        self._waiter = threading.Thread(target=self._wait, args=(events, reader), daemon=True)
        self._waiter.start()

    def _started(self, options: WorkerOptions, log: IO[bytes]) -> subprocess.Popen[bytes]:
        threads = str(options.threads)
        own = {**environment(), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return subprocess.Popen(
            options.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**own, CHANNEL: self._token},
            start_new_session=True,  # the parent handles Ctrl-C
        )

    def _forked(self, options: WorkerOptions, log: IO[bytes], others: Sequence[WorkerProcess]) -> Forked:
        pipes = [pipe for other in others for pipe in (other._process.stdin, other._process.stdout)]
        closing = [pipe.fileno() for pipe in pipes if pipe is not None and not pipe.closed]
        return Forked(partial(serve, options.told(), self._token, options.session), log, closing)

    @property
    def pid(self) -> int:
        """The pid of the guard process, which is also the id of the worker's process group."""
        return self._process.pid

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends the worker a message. If the worker has ended, its events report that."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def end(self) -> None:
        """Ends the worker and all its child processes. The next run resumes its job from the last saved state."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # the worker has ended already
            self._process.stdin.close()  # makes the guard end all processes
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._end_group()
        self._waiter.join()

    def how_it_ended(self) -> str:
        """The exit status in words and the last lines of the log, for the user."""
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
            # Other output may precede the token, and the message may be incomplete if the worker was killed.
            with contextlib.suppress(ValueError, RecursionError):
                events.put((self, json.loads(line[line.index(token) + len(token) :])))

    def _wait(self, events: Events, reader: threading.Thread) -> None:
        """Reports the worker's end at once; its child processes may keep its stdout open for longer."""
        self._process.wait()
        self._end_group()  # in case the guard was killed, or this system has none
        reader.join(PATIENCE)
        events.put((self, {"event": "ended"}))

    def _end_group(self) -> None:
        # The kernel does not reuse the id while a process of the group is alive.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _writable(log: Path) -> IO[bytes]:
    """The log file, opened anew; the null device if that fails."""
    try:
        return OwnFolder(log.parent.parent).fresh(f"{log.parent.name}/{log.name}")
    except (OSError, CompressitError):
        return open(os.devnull, "wb")


def _last_words(log: Path) -> str:
    """The last lines of a log; after a crash, its reason and the line of plugin code."""
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
