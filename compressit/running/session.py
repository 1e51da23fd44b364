"""Runs a plan: looks up what the store has, estimates the rest, runs the workers, updates the run folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol, cast

from rich.console import Console

from compressit.contract.job import Job
from compressit.contract.results import Results
from compressit.datasets.specs import to_json
from compressit.errors import CompressitError, SeveralErrors, StageFailed
from compressit.formatting import counted, duration
from compressit.host.plugins import Host
from compressit.paths import default_cache
from compressit.planning.points import Plan
from compressit.printable import Forgiving, folded
from compressit.recipe.model import Recipe
from compressit.results.collect import collect, short_name
from compressit.results.runfolder import RunFolder
from compressit.running.display import Live
from compressit.running.estimate import Estimate, History, unknown
from compressit.running.observers import Observers
from compressit.running.pool import WorkerOptions
from compressit.running.runner import Failure, Runner
from compressit.store.objects import Artifact, Store

CALIBRATION_SECONDS = 1.0
MOST_WARNINGS = 10


def run_plan(
    plan: Plan,
    host: Host,
    *,
    folder: Path,
    store: Path,
    workers: int = 1,
    console: Console | None = None,
    save_every: float = 10.0,
    job_timeout: float | None = None,
    command: str = "",
) -> tuple[Results, list[str]]:
    """Runs the jobs that the store lacks and writes the folder. Returns the results and a line per failure.

    Raises CompressitError, before running anything, if the folder or store is not writable. A store that already has
    all results may be read-only.
    """
    console = console or Console(file=cast("IO[str]", Forgiving(sys.stderr)), force_jupyter=False)
    say = _speaker(console)
    objects = Store(store, warn=say)
    artifacts = {key: found for key in plan.jobs if (found := objects.find(key)) is not None}
    jobs = plan.pending(dict.fromkeys(artifacts, True))
    target = RunFolder(folder, plan, host, command, say)
    observers = Observers.of(plan, folder, say)
    if not jobs and (finished := target.finished()) is not None:
        objects.note(folder, plan.jobs)
        objects.tidy(plan.jobs)
        with observers.watching((), artifacts, ()):
            pass
        say(f"nothing to do: all {len(plan.jobs)} results are in the store; see {folder / 'report.html'}")
        _warn(finished, say)
        return finished, []
    if jobs:
        _require_writable(objects, store)
    forks = not jobs or _forks(plan, job_timeout, say)
    options = WorkerOptions(
        store=store.resolve(),
        cache=default_cache().resolve(),
        threads=_threads(plan.recipe, workers),
        logs=folder / "logs",
        plugins=plan.recipe.plugins,
        save_every=save_every,
        job_timeout=job_timeout,
        session=host if plan.live else None,
        forks=forks,
    )
    workers = workers if forks else 1
    run = _Run(plan, objects, target, artifacts, observers)
    with target.writing(), observers.watching(jobs, artifacts, run.failures):
        objects.note(folder, plan.jobs)
        try:
            if jobs:
                run.execute(jobs, options, Runner(options, run, workers), workers, console)
        finally:
            objects.tidy(plan.jobs)
        failures = run.failures
        complete = not failures and not plan.pending(dict.fromkeys(artifacts, True))
        if not target.finish(artifacts, failures, complete):
            failures = [*failures, f"{folder}: the report is incomplete"]
    results = collect(plan, artifacts, failures, command, folder)
    _warn(results, say)
    return results, failures


def _forks(plan: Plan, job_timeout: float | None, say: Callable[[str], None]) -> bool:
    """Whether processes forked from this one can run the plan. If it needs them and they cannot, says so.

    Raises CompressitError for a `job_timeout` then, since nothing could end a job.
    """
    if not plan.live or "torch" not in sys.modules:
        return True
    from compressit.contract.compute import device_of, forks_compute

    device = device_of(plan.recipe.compute.device)
    if forks_compute(device):
        return True
    why = (
        f"they need what only it has ({', '.join(plan.live)}), and processes forked from it cannot compute on the "
        f"{'GPU' if device == 'cuda' else 'CPU'}, because torch uses a GPU here, or has started threads for gradients"
    )
    if job_timeout is not None:
        raise CompressitError(
            f"job_timeout={job_timeout:g}: the jobs would run in this process, where nothing can stop one: {why}",
            "leave it out; or start Python anew, and run this before anything is trained or exported",
        )
    say(f"the jobs run in this process, one at a time: {why}")
    return False


class Target(Protocol):
    """What is kept up to date while jobs run: a run's folder, for example."""

    def refresh(self, artifacts: Mapping[str, Artifact], failures: Sequence[str]) -> None: ...
    def finish(self, artifacts: Mapping[str, Artifact], failures: Sequence[str], complete: bool) -> bool: ...
    def write_log(self, name: str, text: str) -> Path: ...


@dataclass(frozen=True)
class Batch:
    """What became of the jobs of a plan."""

    plan: Plan
    artifacts: Mapping[str, Artifact]  # by key
    failed: Mapping[str, str]  # why, by key

    def why(self, key: str) -> str | None:
        """Why the result of this key is missing: its job failed, or one that it needs."""
        inputs = [*self.plan.jobs[key].inputs.values(), self.plan.dry_runs.get(key)]
        if key in self.artifacts:
            return None
        needed = (self.why(other) for other in inputs if other is not None)
        return self.failed.get(key) or next((why for why in needed if why is not None), None)


class Batches:
    """Runs plans of one recipe one after another, without run folders, by the same workers. A context manager: exiting
    it ends the workers. `folder`: where logs go, and whose results `compressit store gc` keeps."""

    def __init__(
        self,
        recipe: Recipe,
        *,
        target: Target,
        folder: Path,
        store: Path,
        workers: int,
        console: Console,
        job_timeout: float | None = None,
    ) -> None:
        self._target, self._workers, self._console = target, workers, console
        self._store, self._named = Store(store, warn=_speaker(console)), store
        self._runner: Runner | None = None
        self._folder, self._used = folder, set[str]()
        self._options = WorkerOptions(
            store=store.resolve(),
            cache=default_cache().resolve(),
            threads=_threads(recipe, workers),
            logs=folder / "logs",
            plugins=recipe.plugins,
            job_timeout=job_timeout,
        )

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *error: object) -> None:
        if self._runner is not None:
            self._runner.__exit__(*error)

    def run(self, plan: Plan) -> Batch:
        """Runs the jobs that the store lacks. A stage whose dry run fails is left out with what needs it; everything
        else is run.

        Raises CompressitError, before running anything, if the store is not writable.
        """
        artifacts = {key: found for key in plan.jobs if (found := self._store.find(key)) is not None}
        self._used |= plan.jobs.keys()
        self._store.note(self._folder, self._used)
        observers = Observers.of(plan, self._folder, _speaker(self._console))
        run = _Run(plan, self._store, self._target, artifacts, observers, strict=False)
        jobs = plan.pending(dict.fromkeys(artifacts, True))
        if jobs:
            _require_writable(self._store, self._named)
        with observers.watching(jobs, artifacts, run.failures):
            if jobs:
                self._runner = self._runner or Runner(self._options, run, self._workers)
                try:
                    run.execute(jobs, self._options, nullcontext(self._runner), self._workers, self._console)
                finally:
                    self._store.tidy(plan.jobs)
        return Batch(plan, artifacts, run.failed_jobs)


def _require_writable(objects: Store, store: Path) -> None:
    try:
        objects.require_writable()
    except OSError as error:
        raise CompressitError(
            f"{store}: the store cannot be written to: {error.strerror or error}",
            "choose another folder with --store",
        ) from error


def _warn(results: Results, say: Callable[[str], None]) -> None:
    warnings = results.warnings()
    for warning in warnings[:MOST_WARNINGS]:
        say(f"warning: {warning}")
    if len(warnings) > MOST_WARNINGS:
        say(f"warning: {len(warnings) - MOST_WARNINGS} more warnings, see the report")


@dataclass
class _Run:
    """Runs jobs and keeps the display, artifacts, history and folder up to date."""

    plan: Plan
    store: Store
    target: Target
    artifacts: dict[str, Artifact]  # by key, including those that this run makes
    observers: Observers
    strict: bool = True  # whether nothing is trained if a dry run fails
    failures: list[str] = field(default_factory=list[str])  # one line each
    failed_jobs: dict[str, str] = field(default_factory=dict[str, str])  # the same, by key
    _running: list[Job] = field(default_factory=list[Job])
    _ended: bool = False  # whether a worker was killed or crashed, which is not the recipe's fault

    def execute(
        self,
        jobs: Sequence[Job],
        options: WorkerOptions,
        opened: AbstractContextManager[Runner],
        workers: int,
        console: Console,
    ) -> None:
        """Runs the jobs. Updates the folder even if interrupted."""
        self._history = History(options.store, options.threads)
        try:
            with opened as runner:
                runner.listener = self
                runner.start(jobs)
                estimate = Estimate(self._history, self._calibration(jobs, runner))
                about = duration(round(estimate.total(jobs) / workers))
                hands = f"{counted(workers, 'worker')} of {counted(options.threads, 'thread')}"
                _speaker(console)(f"{self._to_do(jobs)}, about {about} with {hands}")
                with Live(console, jobs, estimate, workers) as self._live:
                    self._dry_run(jobs, runner)
                    hopeless = self._hopeless(jobs)
                    runner.run([job for job in jobs if job.key not in {*self.artifacts, *hopeless}])
        except CompressitError:  # nothing was trained
            raise
        except BaseException as error:  # usually Ctrl-C; the workers have ended
            stopped = f"stopped by {type(error).__name__}"
            why = str(error) or "interrupted" if isinstance(error, KeyboardInterrupt) else stopped
            unfinished = [f"{job.label}: {why}" for job in self._running]
            self.target.finish(self.artifacts, [*self.failures, *unfinished], complete=False)
            raise
        finally:
            self._history.save()

    def _calibration(self, jobs: Sequence[Job], runner: Runner) -> dict[str, Any] | None:
        """Calibrates only if a training job has never run here and its model can be built without data."""
        new = unknown(jobs, self._history)
        variant = self.plan.recipe.variants[0]
        if not new or variant.model.use is None:
            return None
        return runner.calibrate(
            {
                **variant.model.use.to_json(),
                "inputs": to_json(variant.offer.inputs),
                "outputs": variant.offer.classes,
                "work": [dict(job.work or {}) for job in new],
                "seconds": CALIBRATION_SECONDS,
                "compute": dict(new[0].compute),
            }
        )

    def _to_do(self, jobs: Sequence[Job]) -> str:
        begun = sum(self.store.has_progress(job.key) for job in jobs)
        text = f"{self.plan.recipe.name}: {len(jobs)} of {len(self.plan.jobs)} jobs to do"
        return f"{text} ({begun} already started)" if begun else text

    def _dry_run(self, jobs: Sequence[Job], runner: Runner) -> None:
        """Tries out stages before hours of training. Raises CompressitError for those that cannot work."""
        tried = [job for job in jobs if job.kind == "dry_run"]
        made = {job.key for job in tried}.union(*(job.inputs.values() for job in tried))
        runner.run([job for job in jobs if job.key in made])
        if tried and self.failures and self.strict:
            told = "\n".join([*self.failures, "nothing was trained"])
            raise StageFailed(told) if self._ended else SeveralErrors(told)

    def _hopeless(self, jobs: Sequence[Job]) -> set[str]:
        """The jobs that have failed, those whose dry run has, and those that need one of them. `jobs`: inputs first."""
        found = set(self.failed_jobs)
        for job in jobs:
            if found & {*job.inputs.values(), self.plan.dry_runs.get(job.key, "")}:
                found.add(job.key)
        return found

    # The runner's Listener interface

    def started(self, job: Job) -> None:
        self._running.append(job)
        self._live.started(job)
        self.observers.started(job)

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self._live.progress(job, event)
        self.observers.progress(job, event)

    def finished(self, job: Job, seconds: float) -> None:
        self._running.remove(job)
        self._history.add(job, seconds)
        artifact = self.store.find(job.key)
        if artifact is not None:
            self.artifacts[job.key] = artifact
            self.observers.finished(job, artifact)
        else:
            self.failures.append(f"{job.label}: its result cannot be read from the store")
        self._live.finished(job, seconds)

    def failed(self, job: Job, failure: Failure) -> None:
        self._running.remove(job)
        self._ended |= failure.ended
        self.failed_jobs[job.key] = _failure_text(self.target, job, failure)
        self.failures.append(self.failed_jobs[job.key])
        self._live.failed(job, failure)
        self.observers.failed(job, failure.message)

    def announce(self, text: str) -> None:
        self._live.announce(text)

    def tick(self) -> None:
        self._live.tick()
        self.target.refresh(self.artifacts, self.failures)


def _failure_text(target: Target, job: Job, failure: Failure) -> str:
    if failure.traceback is None:
        return str(failure)
    name = short_name(job.label.replace("/", "_").replace(" ", "_"))
    try:
        return f"{failure} (the traceback is in {target.write_log(f'{name}.txt', failure.traceback)})"
    except (OSError, CompressitError) as error:
        why = error.message if isinstance(error, CompressitError) else error.strerror
        return f"{failure} (the traceback could not be written: {why})"


def _threads(recipe: Recipe, workers: int) -> int:
    asked = recipe.compute.threads
    return asked if isinstance(asked, int) else max(1, (os.cpu_count() or 1) // workers)


def _speaker(console: Console) -> Any:
    return lambda text: console.print(
        folded(text), markup=False, emoji=False, highlight=False, soft_wrap=True
    )
