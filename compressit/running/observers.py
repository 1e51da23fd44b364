"""The observers of a run: told of its events, never heard of by its jobs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from compressit.contract.job import Job
from compressit.contract.observer import JobEnd, Observer, PlannedModel, RunEnd, RunStart
from compressit.errors import FOREIGN, CompressitError, told
from compressit.planning.points import Plan
from compressit.results.collect import path_of
from compressit.store.objects import Artifact


@dataclass(frozen=True)
class Observers:
    """Those that the recipe of a plan names. What they get are copies, so that nothing they do reaches the run."""

    plan: Plan
    folder: Path
    say: Callable[[str], None]
    _members: Sequence[Observer[Any]]
    _jobs: Mapping[str, Job]  # copies, by key
    _failed: set[int] = field(default_factory=set[int])  # which of the members

    @staticmethod
    def of(plan: Plan, folder: Path, say: Callable[[str], None]) -> Observers:
        """A new instance of each."""
        named = [cast("Observer[Any]", use.plugin) for use in plan.recipe.observe]
        members = [type(one)(one.config) for one in named]
        jobs = copy.deepcopy(dict(plan.jobs)) if members else {}
        return Observers(plan, folder, say, members, MappingProxyType(jobs))

    @contextmanager
    def watching(
        self, todo: Sequence[Job], artifacts: Mapping[str, Artifact], failures: Sequence[str]
    ) -> Generator[None]:
        """A block in which the run goes on. In it the artifacts, by key, and failures become more."""
        self._tell(lambda one: one.run_started(self._start(todo)))
        for end in (self._end(key, artifacts[key]) for key in self._jobs if key in artifacts):
            self._tell(lambda one, end=end: one.job_found(end))
        try:
            yield
        finally:
            complete = not failures and not self.plan.pending(dict.fromkeys(artifacts, True))
            self._tell(lambda one: one.run_ended(RunEnd(complete, tuple(failures))))

    def started(self, job: Job) -> None:
        """A worker starts the job."""
        self._tell(lambda one: one.job_started(self._jobs[job.key]))

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        """The job told this."""
        numbers = {name: float(value) for name, value in event.items() if _is_number(value)}
        if numbers:
            self._tell(lambda one: one.job_progress(self._jobs[job.key], MappingProxyType(numbers)))

    def finished(self, job: Job, artifact: Artifact) -> None:
        """This is its result."""
        self._tell(lambda one: one.job_finished(self._end(job.key, artifact)))

    def failed(self, job: Job, message: str) -> None:
        """The job ended with an error."""
        self._tell(lambda one: one.job_failed(self._jobs[job.key], message))

    def _start(self, todo: Sequence[Job]) -> RunStart:
        models = [
            PlannedModel(path_of(point), point.model, MappingProxyType(dict(point.metrics)))
            for point in self.plan.points
        ]
        keys = tuple(job.key for job in todo)
        return RunStart(self.folder, self.plan.recipe.name, tuple(models), self._jobs, keys)

    def _end(self, key: str, artifact: Artifact) -> JobEnd:
        curves = {name: tuple(points) for name, points in artifact.curves.items()}
        metrics = MappingProxyType(artifact.metrics)
        return JobEnd(self._jobs[key], artifact.seconds, metrics, MappingProxyType(curves))

    def _tell(self, call: Callable[[Observer[Any]], None]) -> None:
        for number, one in enumerate(self._members):
            try:
                call(one)
            except FOREIGN as error:  # never fails a run
                if number not in self._failed:
                    self._failed.add(number)
                    why = str(error) if isinstance(error, CompressitError) else told(error)
                    self.say(f"the observer {one.name} failed, which changes no result: {why}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
