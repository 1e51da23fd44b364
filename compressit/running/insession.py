"""The worker of a session whose forks cannot compute: the session itself."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from compressit.contract.job import Job
from compressit.host.plugins import Host
from compressit.running.pool import WorkerOptions
from compressit.running.worker import RECURSION, carry_out, encoded
from compressit.store.objects import Store

if TYPE_CHECKING:
    from compressit.running.job import JobRunner


class SessionWorker:
    """A worker in this process and thread: `send` returns when the job is done, and `tell` hears of it meanwhile.

    The session finds its settings as they were (`process_state.borrowed`). Ctrl-C ends the job, as everywhere in a
    session. Nothing else can: a job has no deadline, and a crash takes the session with it. What plugins print is
    shown.
    """

    def __init__(
        self,
        number: int,
        options: WorkerOptions,
        session: Host,
        tell: Callable[[SessionWorker, dict[str, Any]], None],
    ) -> None:
        self.number = number
        self.job: Job | None = None
        self.ready = True
        self.deadline = math.inf
        self._options, self._session, self._tell = options, session, tell
        self._runner: JobRunner | None = None

    def send(self, message: Mapping[str, Any]) -> None:
        """Carries out the message. Raises KeyboardInterrupt."""
        from compressit.contract import compute
        from compressit.running import process_state

        with process_state.borrowed():
            sys.setrecursionlimit(max(sys.getrecursionlimit(), RECURSION))
            compute.set_threads(self._options.threads)
            carry_out(message, self._jobs(), self._session, self._hear, ending=(KeyboardInterrupt,))

    def end(self) -> None:
        """Forgets data and models."""
        self._runner = None

    def how_it_ended(self) -> str:
        """It cannot end before the session does."""
        raise AssertionError("a session's own worker ended")

    def _jobs(self) -> JobRunner:
        from compressit.running.job import JobRunner

        if self._runner is None:
            options = self._options
            store = Store(options.store, warn=lambda text: self._hear({"event": "announce", "text": text}))
            self._runner = JobRunner(store, self._session, options.cache, options.save_every)
        return self._runner

    def _hear(self, event: Mapping[str, Any]) -> None:
        self._tell(self, json.loads(encoded(event)))  # as it arrives from a process
