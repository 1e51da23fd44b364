"""Worker processes: started once, given one task after another, ended with the run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressit.process import environment, python
from compressit.recipe.model import LocalPlugin

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

    def command(self) -> list[str]:
        """The command line."""
        options = {
            "store": self.store,
            "cache": self.cache,
            "threads": self.threads,
            "save-every": self.save_every,
        }
        flags = [f"--{name}={value}" for name, value in options.items()]
        return python("compressit.worker", *flags, *(f"--plugin={p.path}={p.digest}" for p in self.plugins))


class Worker:
    """One process. Its messages arrive in `events`; its end arrives as {"event": "ended"}."""

    def __init__(self, number: int, options: WorkerOptions, events: Events) -> None:
        options.logs.mkdir(parents=True, exist_ok=True)
        self.number = number
        self.log = options.logs / f"worker-{number}.log"
        threads = str(options.threads)
        own = {**environment(), "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        with self.log.open("wb") as log:  # an older run's worker of this number has had its say
            self._process = subprocess.Popen(
                options.command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=own,
                start_new_session=True,  # Ctrl-C is the parent's business; what it starts ends with it
                text=True,
                encoding="utf-8",
            )
        threading.Thread(target=self._read, args=(events,), daemon=True).start()

    def send(self, message: Mapping[str, Any]) -> None:
        """Gives the worker something to do; a worker that has ended says so through its events."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass

    def end(self) -> None:
        """Ends the process at once: what it was doing goes on from its last saved state in the next run."""
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def how_it_ended(self) -> str:
        """For the user: the exit status in words and the last lines of its log."""
        code = self._process.wait()
        if code == -signal.SIGKILL:
            ending = "was killed (often: the machine ran out of memory)"
        elif code < 0:
            ending = f"ended by signal {signal.Signals(-code).name}"
        else:
            ending = f"ended with exit code {code}"
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
        return f"the worker process {ending}" + (": " + " / ".join(lines) if lines else "")

    def _read(self, events: Events) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # half a line: it was killed while it spoke
                events.put((self, json.loads(line)))
        events.put((self, {"event": "ended"}))
