"""One run from plan to folder: what is there already, an estimate, the workers, the folder kept fresh."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from rich.console import Console

from compressit.contract.kinds import Dataset
from compressit.contract.results import Results
from compressit.contract.tasks import Task
from compressit.errors import CompressitError, SeveralErrors, StageFailed
from compressit.formatting import counted
from compressit.host.plugins import Host
from compressit.paths import default_cache
from compressit.planning.points import Plan
from compressit.printable import Forgiving, folded
from compressit.results.collect import collect, short_name
from compressit.results.runfolder import RunFolder
from compressit.running.estimate import Estimate, History, in_words, unknown
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
    jobs: int = 1,
    console: Console | None = None,
    save_every: float = 10.0,
    task_timeout: float | None = None,
    command: str = "",
) -> tuple[Results, list[str]]:
    """Runs what the store lacks and writes the folder. Returns the results and what failed, a line each.

    Raises CompressitError, before anything is run, for a folder or store that cannot be written. A store that has all
    results need not be.
    """
    console = console or Console(file=cast("IO[str]", Forgiving(sys.stderr)))
    say = _speaker(console)
    objects = Store(store, warn=say)
    artifacts = {key: found for key in plan.tasks if (found := objects.find(key)) is not None}
    tasks = plan.pending(dict.fromkeys(artifacts, True))
    target = RunFolder(folder, plan, host, command, say)
    if not tasks and (finished := target.finished()) is not None:
        objects.note(folder, plan.tasks)
        objects.tidy(plan.tasks)
        say(f"nothing to do: all {len(plan.tasks)} results are in the store; see {folder / 'report.html'}")
        _warn(finished, say)
        return finished, []
    if tasks:
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
        threads=_threads(plan, jobs),
        logs=folder / "logs",
        plugins=plan.recipe.plugins,
        save_every=save_every,
        task_timeout=task_timeout,
    )
    failures: list[str] = []
    with target.writing():
        objects.note(folder, plan.tasks)
        try:
            if tasks:
                failures = _execute(plan, tasks, artifacts, options, objects, target, host, jobs, console)
        finally:
            objects.tidy(plan.tasks)
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
    tasks: Sequence[Task],
    artifacts: dict[str, Artifact],
    options: WorkerOptions,
    store: Store,
    target: RunFolder,
    host: Host,
    jobs: int,
    console: Console,
) -> list[str]:
    """Runs the tasks, adding to `artifacts`; returns what failed. Interrupted, it still fills the folder."""
    history = History(options.store, options.threads)
    listener = _Listener(artifacts, store, target, history)
    try:
        with Runner(options, host, listener, jobs) as runner:
            estimate = Estimate(history, _calibration(plan, tasks, history, runner, host))
            _speaker(console)(_announcement(plan, tasks, estimate, store, jobs, options.threads))
            with live_display(console, Progress(tasks, estimate, jobs)) as live:
                listener.live = live
                _rehearse(tasks, runner, listener)
                runner.run([task for task in tasks if task.key not in artifacts])
    except CompressitError:  # nothing was trained
        raise
    except BaseException as error:  # Ctrl-C above all; the workers have ended
        stopped = f"stopped by {type(error).__name__}"
        why = str(error) or "interrupted" if isinstance(error, KeyboardInterrupt) else stopped
        unfinished = [f"{task.label}: {why}" for task in listener.running]
        target.finish(artifacts, [*listener.failures, *unfinished], complete=False)
        raise
    finally:
        history.save()
    return listener.failures


def _rehearse(tasks: Sequence[Task], runner: Runner, listener: _Listener) -> None:
    """Tries what can be tried before hours of training. Raises CompressitError for what can never work."""
    tried = [task for task in tasks if task.kind == "rehearse"]
    made = {task.key for task in tried}.union(*(task.inputs.values() for task in tried))
    runner.run([task for task in tasks if task.key in made])
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
        self.running: list[Task] = []
        self.ended = False  # whether a worker was killed or crashed: no mistake of the recipe's

    def started(self, task: Task) -> None:
        self.running.append(task)
        self.live.started(task)

    def progress(self, task: Task, event: Mapping[str, Any]) -> None:
        self.live.progress(task, event)

    def finished(self, task: Task, seconds: float) -> None:
        self.running.remove(task)
        self._history.add(task, seconds)
        artifact = self._store.find(task.key)
        if artifact is not None:
            self._artifacts[task.key] = artifact
        else:
            self.failures.append(f"{task.label}: its result cannot be read back from the store")
        self.live.finished(task, seconds)

    def failed(self, task: Task, failure: Failure) -> None:
        self.running.remove(task)
        self.ended |= failure.ended
        self.failures.append(_failure_text(self._target, task, failure))
        self.live.failed(task, failure)

    def announce(self, text: str) -> None:
        self.live.announce(text)

    def tick(self) -> None:
        self._target.refresh(self._artifacts, self.failures)


def _failure_text(target: RunFolder, task: Task, failure: Failure) -> str:
    if failure.traceback is None:
        return str(failure)
    name = short_name(task.label.replace("/", "_").replace(" ", "_"))
    try:
        return f"{failure} (the traceback is in {target.write_log(f'{name}.txt', failure.traceback)})"
    except OSError as error:
        return f"{failure} (the traceback could not be written: {error.strerror})"
    except CompressitError as error:
        return f"{failure} (the traceback could not be written: {error.message})"


def _calibration(
    plan: Plan, tasks: Sequence[Task], history: History, runner: Runner, host: Host
) -> dict[str, Any] | None:
    """Measures only when something that trains has never run here, and what can be built without data."""
    new = unknown(tasks, history)
    variant = plan.recipe.variants[0]
    if not new or variant.model.use is None:
        return None
    dataset = host.create(Dataset, variant.data.uses, variant.data.config)
    return runner.calibrate(
        {
            "uses": variant.model.use.uses,
            "config": variant.model.use.config,
            "input_shape": list(dataset.input_shape),
            "classes": dataset.classes,
            "batch_sizes": sorted({int((task.work or {})["batch_size"]) for task in new}),
            "seconds": CALIBRATION_SECONDS,
            "compute": dict(new[0].compute),
        }
    )


def _announcement(
    plan: Plan, tasks: Sequence[Task], estimate: Estimate, store: Store, jobs: int, threads: int
) -> str:
    resumed = sum(store.has_progress(task.key) for task in tasks)
    text = f"{plan.recipe.name}: {len(tasks)} of {len(plan.tasks)} tasks to do"
    if resumed:
        text += f" ({resumed} of them begun)"
    about = in_words(estimate.total(tasks) / jobs)
    return f"{text}, about {about} with {counted(jobs, 'worker')} of {counted(threads, 'thread')}"


def _threads(plan: Plan, jobs: int) -> int:
    asked = plan.recipe.compute.threads
    return asked if isinstance(asked, int) else max(1, (os.cpu_count() or 1) // jobs)


def _speaker(console: Console) -> Any:
    return lambda text: console.print(
        folded(text), markup=False, emoji=False, highlight=False, soft_wrap=True
    )
