"""Gives the jobs of a plan to workers, in an order their inputs allow, and listens."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from compressit.contract.job import Job
from compressit.files.lock import FIRST_WORD, LONGEST_SILENCE
from compressit.host.plugins import Host
from compressit.printable import folded, line
from compressit.running.pool import Events, Worker, WorkerOptions
from compressit.running.schedule import Schedule

START_TIMEOUT = 300.0  # seconds for a worker to import torch and the plugins


class Listener(Protocol):
    """Who is told how a run goes: the progress display, the run folder."""

    def started(self, job: Job) -> None: ...
    def progress(self, job: Job, event: Mapping[str, Any]) -> None: ...
    def finished(self, job: Job, seconds: float) -> None: ...
    def failed(self, job: Job, failure: Failure) -> None: ...
    def announce(self, text: str) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True)
class Failure:
    """Why a job did not end well."""

    label: str
    message: str
    hint: str | None = None
    traceback: str | None = None
    ended: bool = False  # its worker did, which need not happen again

    def __str__(self) -> str:
        told = f"{line(self.label)}: {folded(self.message)}"
        return f"{told}\n      help: {folded(self.hint)}" if self.hint else told


@dataclass
class _Wait:
    """For another run, which is making a result of this one."""

    since: float
    tell_at: float
    pause: float = FIRST_WORD


@dataclass
class Runner:
    """Runs jobs in `workers` processes. Use it as a context manager: leaving it ends the workers."""

    options: WorkerOptions
    host: Host
    listener: Listener
    workers: int = 1
    failures: list[Failure] = field(default_factory=list[Failure])
    _unusable: bool = False  # a worker could not start, so none can
    _ready: set[Worker] = field(default_factory=set["Worker"])
    _deadlines: dict[Worker, float] = field(default_factory=dict["Worker", float])  # of busy ones
    _waits: dict[str, _Wait] = field(default_factory=dict[str, "_Wait"])  # by key
    _events: Events = field(default_factory=queue.Queue)
    _workers: list[Worker] = field(default_factory=list[Worker])
    _started: int = 0

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()

    def calibrate(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Lets the first worker measure this machine; None when it could not."""
        worker = self._start_worker()
        worker.send({"calibrate": request})
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                _, event = self._events.get(timeout=0.25)
            except queue.Empty:
                continue
            self._ready.add(worker)  # it has spoken
            if event["event"] == "calibrated":
                return event["result"]
            if event["event"] in ("failed", "unusable", "ended"):
                break
        self._forget(worker, [])
        return None

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs; a failed one takes down only what needs it. `failures` tells what went wrong."""
        schedule = Schedule(jobs)
        busy: dict[Worker, Job] = {}
        idle: list[Worker] = list(self._workers)
        while schedule.unfinished and not self._unusable:
            self._give_out(schedule, busy, idle)
            if not busy:
                break
            self._listen(schedule, busy, idle)
            self._end_overdue(schedule, busy, idle)
            self.listener.tick()

    def _give_out(self, schedule: Schedule, busy: dict[Worker, Job], idle: list[Worker]) -> None:
        while len(busy) < self.workers:
            worker = idle[-1] if idle else None
            job = schedule.next(list(busy.values()), worker.number if worker else None)
            if job is None:
                return
            if worker is None:
                worker = self._start_worker()
            else:
                idle.pop()
            busy[worker] = job
            self._set_deadline(worker)
            schedule.start(job, worker.number)
            worker.send({"job": job.to_json()})
            if job.key not in self._waits:
                self.listener.started(job)
                self._observe(self.host.tell("compressit_stage_started", job=job))

    def _listen(self, schedule: Schedule, busy: dict[Worker, Job], idle: list[Worker]) -> None:
        try:
            worker, event = self._events.get(timeout=0.25)
        except queue.Empty:
            return
        kind = event["event"]
        job = busy.get(worker)
        if kind == "announce":
            self.listener.announce(event["text"])
        elif kind == "ready":
            self._ready.add(worker)
            self._set_deadline(worker)
        elif job is None:
            if kind == "ended":
                self._forget(worker, idle)
        elif kind == "progress":
            if "announce" in event:
                self.listener.announce(event["announce"])
            else:
                self.listener.progress(job, event)
        elif kind == "done":
            idle.append(worker)
            del busy[worker]
            schedule.finish(job)
            self.listener.finished(job, event["seconds"])
            self._observe(self.host.tell("compressit_stage_finished", job=job, seconds=event["seconds"]))
        elif kind == "taken":
            idle.append(worker)
            del busy[worker]
            self._postpone(schedule, job, event["by"])
        elif kind in ("failed", "unusable", "ended"):
            del busy[worker]
            if kind == "failed":
                idle.append(worker)
            else:
                self._unusable = kind == "unusable"
                self._forget(worker, idle)
            self._fail(schedule, job, _failure(job, worker, event))

    def _postpone(self, schedule: Schedule, job: Job, by: str) -> None:
        """Another run is making it: whatever else is ready goes first, and its place is not kept."""
        now, limit = time.monotonic(), self.options.job_timeout
        wait = self._waits.setdefault(job.key, _Wait(now, now))
        if limit is not None and now - wait.since > limit:
            hint = "start the run again when that one has ended"
            told = f"it waited longer than {limit:g} s (--job-timeout): {by}"
            self._fail(schedule, job, Failure(job.label, told, hint, ended=True))
            return
        if now >= wait.tell_at:
            self.listener.announce(f"{job.label}: waits, {by}")
            wait.tell_at, wait.pause = now + wait.pause, min(2 * wait.pause, LONGEST_SILENCE)
        schedule.postpone(job)

    def _set_deadline(self, worker: Worker) -> None:
        """A job's time begins when its worker has loaded everything."""
        if self.options.job_timeout is not None:
            start = 0.0 if worker in self._ready else START_TIMEOUT
            self._deadlines[worker] = time.monotonic() + start + self.options.job_timeout

    def _end_overdue(self, schedule: Schedule, busy: dict[Worker, Job], idle: list[Worker]) -> None:
        """Ends what takes too long, with its worker: there is no other way to stop it."""
        now = time.monotonic()
        for worker in [worker for worker in busy if self._deadlines.get(worker, math.inf) < now]:
            job = busy.pop(worker)
            self._forget(worker, idle)
            taken = f"it took longer than {self.options.job_timeout:g} s and was ended (--job-timeout)"
            hint = "give it more time: it goes on from what it saved, if it trains"
            self._fail(schedule, job, Failure(job.label, taken, hint, ended=True))

    def _fail(self, schedule: Schedule, job: Job, failure: Failure) -> None:
        skipped = schedule.fail(job)
        self.failures.append(failure)
        self.listener.failed(job, failure)
        self._observe(self.host.tell("compressit_stage_failed", job=job, message=failure.message))
        if skipped:
            self.listener.announce(
                f"not run, since {job.label} failed: {', '.join(t.label for t in skipped)}"
            )

    def _start_worker(self) -> Worker:
        self._started += 1
        worker = Worker(self._started, self.options, self._events)
        self._workers.append(worker)
        return worker

    def _forget(self, worker: Worker, idle: list[Worker]) -> None:
        worker.end()
        self._workers = [other for other in self._workers if other is not worker]
        idle[:] = [other for other in idle if other is not worker]

    def _observe(self, complaints: Sequence[str]) -> None:
        for complaint in complaints:
            self.listener.announce(f"observer {complaint}")


def _failure(job: Job, worker: Worker, event: Mapping[str, Any]) -> Failure:
    if event["event"] == "ended":
        return Failure(job.label, worker.how_it_ended(), ended=True)
    message = event["message"]
    if event["event"] == "unusable":
        message = f"no worker can start: {message}"
    return Failure(job.label, message, event["hint"], event["traceback"])
