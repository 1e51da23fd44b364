"""Gives the jobs of a plan to workers, each after its inputs, and handles their messages."""

from __future__ import annotations

import queue
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from compressit.contract.job import Job
from compressit.printable import folded, line
from compressit.running.insession import SessionWorker
from compressit.running.job_order import Schedule
from compressit.running.pool import Events, Worker, WorkerOptions, WorkerProcess

START_TIMEOUT = 300.0  # seconds for a worker to import torch and the plugins


class Listener(Protocol):
    """Receives a run's events, for example to display progress or refresh the run folder."""

    def started(self, job: Job) -> None: ...
    def progress(self, job: Job, event: Mapping[str, Any]) -> None: ...
    def finished(self, job: Job, seconds: float) -> None: ...
    def failed(self, job: Job, failure: Failure) -> None: ...
    def announce(self, text: str) -> None: ...
    def tick(self) -> None: ...


@dataclass(frozen=True)
class Failure:
    """Why a job failed."""

    label: str
    message: str
    hint: str | None = None
    traceback: str | None = None
    ended: bool = False  # its worker ended or it ran out of time: a retry may succeed

    def __str__(self) -> str:
        told = f"{line(self.label)}: {folded(self.message)}"
        return f"{told}\n      help: {folded(self.hint)}" if self.hint else told


@dataclass
class Runner:
    """Runs jobs in `workers` processes, or in this one, one at a time, where `options` say so. A context manager:
    exiting it ends the workers."""

    options: WorkerOptions
    listener: Listener
    workers: int = 1
    _schedule: Schedule = field(default_factory=lambda: Schedule(()))
    _unusable: bool = False  # a worker could not start, so no worker can
    _waits: dict[str, float] = field(default_factory=dict[str, float])  # key -> when waiting began
    _events: Events = field(default_factory=queue.Queue)
    _workers: list[Worker] = field(default_factory=list[Worker])
    _started: int = 0

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.end()

    def start(self, jobs: Sequence[Job]) -> None:
        """Starts the workers that these jobs can keep busy, side by side: each takes seconds to import torch."""
        together = sum(not job.exclusive for job in jobs)
        while len(self._workers) < min(self.workers, together):
            self._start_worker()

    def calibrate(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Measures this machine in the first worker; None if that fails."""
        worker = self._workers[0] if self._workers else self._start_worker()
        worker.send({"calibrate": request})
        deadline = time.monotonic() + START_TIMEOUT
        of_others: list[tuple[Worker, dict[str, Any]]] = []
        found: dict[str, Any] = {}
        while found.get("event") not in ("calibrated", "failed", "unusable", "ended"):
            try:
                sender, found = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            if sender is worker:
                worker.ready = True  # any message shows that it started
            else:
                of_others.append((sender, found))
                found = {}
        for event in of_others:
            self._events.put(event)
        if found.get("event") == "calibrated":
            return found["result"]
        self._forget(worker)
        return None

    def run(self, jobs: Sequence[Job]) -> None:
        """Runs all jobs. If one fails, only the jobs that need it are skipped. Failures go to the listener."""
        self._schedule = Schedule(jobs)
        while self._schedule.unfinished and not self._unusable:
            self._give_out()
            if not self._busy():
                break
            self._listen()
            self._end_overdue()
            self.listener.tick()

    def _busy(self) -> list[Job]:
        return [worker.job for worker in self._workers if worker.job is not None]

    def _give_out(self) -> None:
        while len(busy := self._busy()) < self.workers:
            free = [worker for worker in reversed(self._workers) if worker.job is None]
            worker = next((worker for worker in free if worker.ready), free[0] if free else None)
            if worker is not None and not worker.ready and busy:
                return  # those that have started may be done with a job before this one can begin
            job = self._schedule.next(busy, worker.number if worker else None)
            if job is None:
                return
            if job.exclusive:  # a worker that starts would disturb what is measured
                for other in [other for other in free if not other.ready and other is not worker]:
                    self._forget(other)
            worker = worker or self._start_worker()
            worker.job = job
            self._set_deadline(worker)
            self._schedule.start(job, worker.number)
            if job.key not in self._waits:
                self.listener.started(job)
            worker.send({"job": job.to_json()})

    def _listen(self) -> None:
        try:
            worker, event = self._events.get(timeout=0.25)
        except queue.Empty:
            return
        self._hear(worker, event)

    def _hear(self, worker: Worker, event: Mapping[str, Any]) -> None:
        kind, job = event["event"], worker.job
        if kind == "announce":
            self.listener.announce(event["text"])
        elif kind == "ready":
            worker.ready = True
            self._set_deadline(worker)
        elif kind == "progress":
            if "announce" in event:
                self.listener.announce(event["announce"])
            elif job is not None:
                self.listener.progress(job, event)
        else:
            worker.job = None
            if kind in ("unusable", "ended"):
                self._unusable |= kind == "unusable" and job is not None  # otherwise the next job tells why
                self._forget(worker)
            if job is not None:
                self._end(job, worker, event)

    def _end(self, job: Job, worker: Worker, event: Mapping[str, Any]) -> None:
        """Handles the end of a job."""
        match event["event"]:
            case "done":
                self._schedule.finish(job)
                self.listener.finished(job, event["seconds"])
            case "taken":
                self._postpone(job, event["by"])
            case "ended":
                self._fail(job, Failure(job.label, worker.how_it_ended(), ended=True))
            case kind:
                told = "no worker can start: " if kind == "unusable" else ""
                message = told + event["message"]
                self._fail(job, Failure(job.label, message, event["hint"], event["traceback"]))

    def _postpone(self, job: Job, by: str) -> None:
        """Puts back a job that another run is making, so that other jobs go first."""
        limit = self.options.job_timeout
        if job.key not in self._waits:
            self.listener.announce(f"{job.label}: waiting, {by}")
        since = self._waits.setdefault(job.key, time.monotonic())
        if limit is not None and time.monotonic() - since > limit:
            hint = "start the run again when the other one has ended"
            told = f"waited for another run for more than {limit:g} s (--job-timeout): {by}"
            self._fail(job, Failure(job.label, told, hint, ended=True))
        else:
            self._schedule.postpone(job)

    def _set_deadline(self, worker: Worker) -> None:
        """A job's time starts once its worker has loaded everything."""
        if self.options.job_timeout is not None:
            start = 0.0 if worker.ready else START_TIMEOUT
            worker.deadline = time.monotonic() + start + self.options.job_timeout

    def _end_overdue(self) -> None:
        """Ends jobs that exceed their time, together with their worker: there is no other way to stop them."""
        for worker in list(self._workers):
            if (job := worker.job) is not None and worker.deadline < time.monotonic():
                worker.job = None
                self._forget(worker)
                taken = f"stopped after {self.options.job_timeout:g} s (--job-timeout)"
                hint = "give it more time; training resumes from its last saved state"
                self._fail(job, Failure(job.label, taken, hint, ended=True))

    def _fail(self, job: Job, failure: Failure) -> None:
        skipped = self._schedule.fail(job)
        self.listener.failed(job, failure)
        if skipped:
            labels = ", ".join(other.label for other in skipped)
            self.listener.announce(f"skipped because {job.label} failed: {labels}")

    def _start_worker(self) -> Worker:
        self._started += 1
        if self.options.session is not None and not self.options.forks:
            worker: Worker = SessionWorker(self._started, self.options, self.options.session, self._told)
        else:
            others = [other for other in self._workers if isinstance(other, WorkerProcess)]
            worker = WorkerProcess(self._started, self.options, self._events, others)
        self._workers.append(worker)
        return worker

    def _told(self, worker: Worker, event: dict[str, Any]) -> None:
        """By a worker of this process, which does not return until its job is done: meanwhile the run goes on here."""
        if event["event"] in ("progress", "announce"):
            self._hear(worker, event)
            self.listener.tick()
        else:
            self._events.put((worker, event))

    def _forget(self, worker: Worker) -> None:
        worker.end()
        self._workers = [other for other in self._workers if other is not worker]
