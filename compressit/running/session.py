"""One run from plan to folder: what is there already, an estimate, the workers, the folder kept fresh."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console

from compressit.contract.job import Job
from compressit.contract.results import Results
from compressit.errors import CompressitError, SeveralErrors, StageFailed
from compressit.formatting import counted, duration
from compressit.host.plugins import Host
from compressit.paths import default_cache
from compressit.planning.points import Plan
from compressit.printable import Forgiving, folded
from compressit.results.collect import collect, short_name
from compressit.results.runfolder import RunFolder
from compressit.running.estimate import Estimate, History, unknown
from compressit.running.live import PlainLive, Progress, RichLive, live_display
from compressit.running.pool import WorkerOptions
from compressit.running.runner import Failure, Runner
from compressit.store.objects import Artifact, Store

CALIBRATION_SECONDS = 2.0
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
    """Runs what the store lacks and writes the folder. Returns the results and what failed, a line each.

    Raises CompressitError, before anything is run, for a folder or store that cannot be written. A store that has all
    results need not be.
    """
    console = console or Console(file=cast("IO[str]", Forgiving(sys.stderr)))
    say = _speaker(console)
    objects = Store(store, warn=say)
    artifacts = {key: found for key in plan.jobs if (found := objects.find(key)) is not None}
    jobs = plan.pending(dict.fromkeys(artifacts, True))
    target = RunFolder(folder, plan, host, command, say)
    if not jobs and (finished := target.finished()) is not None:
        objects.note(folder, plan.jobs)
        objects.tidy(plan.jobs)
        say(f"nothing to do: all {len(plan.jobs)} results are in the store; see {folder / 'report.html'}")
        _warn(finished, say)
        return finished, []
    if jobs:
        try:
            objects.require_writable()
        except OSError as error:
            raise CompressitError(
                f"{store}: the store cannot be written: {error.strerror or error}",
                "give another folder with --store",
            ) from error
    options = WorkerOptions(
        store=store.resolve(),
        cache=default_cache().resolve(),
        threads=_threads(plan, workers),
        logs=folder / "logs",
        plugins=plan.recipe.plugins,
        save_every=save_every,
        job_timeout=job_timeout,
    )
    failures: list[str] = []
    with target.writing():
        objects.note(folder, plan.jobs)
        try:
            if jobs:
                failures = _execute(plan, jobs, artifacts, options, objects, target, host, workers, console)
        finally:
            objects.tidy(plan.jobs)
        complete = not failures and not plan.pending(dict.fromkeys(artifacts, True))
        if not target.finish(artifacts, failures, complete):
            failures = [*failures, f"{folder}: the report could not be written in full"]
    results = collect(plan, artifacts, failures, host, command)
    _warn(results, say)
    return results, failures


def _warn(results: Results, say: Callable[[str], None]) -> None:
    warnings = results.warnings()
    for warning in warnings[:MOST_WARNINGS]:
        say(f"warning: {warning}")
    if len(warnings) > MOST_WARNINGS:
        say(f"warning: {len(warnings) - MOST_WARNINGS} more, see the report")


def _execute(
    plan: Plan,
    jobs: Sequence[Job],
    artifacts: dict[str, Artifact],
    options: WorkerOptions,
    store: Store,
    target: RunFolder,
    host: Host,
    workers: int,
    console: Console,
) -> list[str]:
    """Runs the jobs, adding to `artifacts`; returns what failed. Interrupted, it still fills the folder."""
    history = History(options.store, options.threads)
    listener = _Listener(artifacts, store, target, history)
    try:
        with Runner(options, host, listener, workers) as runner:
            estimate = Estimate(history, _calibration(plan, jobs, history, runner))
            _speaker(console)(_announcement(plan, jobs, estimate, store, workers, options.threads))
            with live_display(console, Progress(jobs, estimate, workers)) as live:
                listener.live = live
                _dry_run(jobs, runner, listener)
                runner.run([job for job in jobs if job.key not in artifacts])
    except CompressitError:  # nothing was trained
        raise
    except BaseException as error:  # Ctrl-C above all; the workers have ended
        stopped = f"stopped by {type(error).__name__}"
        why = str(error) or "interrupted" if isinstance(error, KeyboardInterrupt) else stopped
        unfinished = [f"{job.label}: {why}" for job in listener.running]
        target.finish(artifacts, [*listener.failures, *unfinished], complete=False)
        raise
    finally:
        history.save()
    return listener.failures


def _dry_run(jobs: Sequence[Job], runner: Runner, listener: _Listener) -> None:
    """Tries what can be tried before hours of training. Raises CompressitError for what can never work."""
    tried = [job for job in jobs if job.kind == "dry_run"]
    made = {job.key for job in tried}.union(*(job.inputs.values() for job in tried))
    runner.run([job for job in jobs if job.key in made])
    if tried and listener.failures:
        told = "\n".join([*listener.failures, "nothing was trained"])
        raise StageFailed(told) if listener.ended else SeveralErrors(told)


class _Listener:
    """Passes events on to the display and keeps artifacts, history and the folder up to date."""

    live: PlainLive | RichLive

    def __init__(
        self, artifacts: dict[str, Artifact], store: Store, target: RunFolder, history: History
    ) -> None:
        self._artifacts = artifacts
        self._store = store
        self._target = target
        self._history = history
        self.failures: list[str] = []
        self.running: list[Job] = []
        self.ended = False  # whether a worker was killed or crashed: no mistake of the recipe's

    def started(self, job: Job) -> None:
        self.running.append(job)
        self.live.started(job)

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self.live.progress(job, event)

    def finished(self, job: Job, seconds: float) -> None:
        self.running.remove(job)
        self._history.add(job, seconds)
        artifact = self._store.find(job.key)
        if artifact is not None:
            self._artifacts[job.key] = artifact
        else:
            self.failures.append(f"{job.label}: its result cannot be read back from the store")
        self.live.finished(job, seconds)

    def failed(self, job: Job, failure: Failure) -> None:
        self.running.remove(job)
        self.ended |= failure.ended
        self.failures.append(_failure_text(self._target, job, failure))
        self.live.failed(job, failure)

    def announce(self, text: str) -> None:
        self.live.announce(text)

    def tick(self) -> None:
        self._target.refresh(self._artifacts, self.failures)


def _failure_text(target: RunFolder, job: Job, failure: Failure) -> str:
    if failure.traceback is None:
        return str(failure)
    name = short_name(job.label.replace("/", "_").replace(" ", "_"))
    try:
        return f"{failure} (the traceback is in {target.write_log(f'{name}.txt', failure.traceback)})"
    except OSError as error:
        return f"{failure} (the traceback could not be written: {error.strerror})"
    except CompressitError as error:
        return f"{failure} (the traceback could not be written: {error.message})"


def _calibration(plan: Plan, jobs: Sequence[Job], history: History, runner: Runner) -> dict[str, Any] | None:
    """Measures only when something that trains has never run here, and what can be built without data."""
    new = unknown(jobs, history)
    variant = plan.recipe.variants[0]
    if not new or variant.model.use is None:
        return None
    return runner.calibrate(
        {
            **variant.model.use.to_json(),
            "input_shape": list(variant.offer.shape),
            "classes": variant.offer.classes,
            "batch_sizes": sorted({int((job.work or {})["batch_size"]) for job in new}),
            "seconds": CALIBRATION_SECONDS,
            "compute": dict(new[0].compute),
        }
    )


def _announcement(
    plan: Plan, jobs: Sequence[Job], estimate: Estimate, store: Store, workers: int, threads: int
) -> str:
    resumed = sum(store.has_progress(job.key) for job in jobs)
    text = f"{plan.recipe.name}: {len(jobs)} of {len(plan.jobs)} jobs to do"
    if resumed:
        text += f" ({resumed} of them begun)"
    about = duration(round(estimate.total(jobs) / workers))
    return f"{text}, about {about} with {counted(workers, 'worker')} of {counted(threads, 'thread')}"


def _threads(plan: Plan, workers: int) -> int:
    asked = plan.recipe.compute.threads
    return asked if isinstance(asked, int) else max(1, (os.cpu_count() or 1) // workers)


def _speaker(console: Console) -> Any:
    return lambda text: console.print(
        folded(text), markup=False, emoji=False, highlight=False, soft_wrap=True
    )
