"""Decides which job of a run starts next."""

from __future__ import annotations

from collections.abc import Sequence

from compressit.contract.job import Job


class Schedule:
    """The unfinished jobs of a run, each listed after its inputs."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.unfinished: dict[str, Job] = {job.key: job for job in jobs}
        self._waiting: dict[str, Job] = dict(self.unfinished)
        self._taken: set[str] = set()  # keys that another run was making when last tried
        self._maker: dict[str, int] = {}  # key -> number of the worker that made it

    def next(self, running: Sequence[Job], worker: int | None) -> Job | None:
        """The first job whose inputs exist. A job that another run was making comes after all others.

        Evaluations come first, preferably of a model that this worker has in memory. Exclusive jobs wait until
        nothing else can run.
        """
        if any(job.exclusive for job in running):
            return None
        ready = [
            job for job in self._waiting.values() if self.unfinished.keys().isdisjoint(job.inputs.values())
        ]
        ready = [job for job in ready if job.key not in self._taken] or ready
        shared = [job for job in ready if not job.exclusive]
        if not shared:
            return ready[0] if ready and not running else None
        evaluations = [job for job in shared if job.kind == "evaluate"]
        own = [job for job in evaluations if self._maker.get(job.inputs["model"]) == worker]
        return (own or evaluations or shared)[0]

    def start(self, job: Job, worker: int) -> None:
        """Marks the job as given to this worker."""
        del self._waiting[job.key]
        self._maker[job.key] = worker

    def postpone(self, job: Job) -> None:
        """Puts back a job that another run is making, to try it again after all others."""
        self._waiting[job.key] = job
        self._taken.add(job.key)

    def finish(self, job: Job) -> None:
        """Marks the job as done."""
        del self.unfinished[job.key]

    def fail(self, job: Job) -> list[Job]:
        """Drops the job and all jobs that need it; returns the latter."""
        gone = {job.key: job}
        for other in self._waiting.values():
            if not gone.keys().isdisjoint(other.inputs.values()):
                gone[other.key] = other
        for key in gone:
            self.unfinished.pop(key, None)
            self._waiting.pop(key, None)
        return list(gone.values())[1:]
