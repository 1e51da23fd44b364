"""Live progress: bars on a terminal, plain lines elsewhere.

Written to stderr, so that stdout can be piped. Shows the events of plugins that it knows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from compressit.contract.job import Job
from compressit.formatting import duration
from compressit.printable import folded, line
from compressit.running.estimate import Estimate
from compressit.running.runner import Failure

PLAIN_EVERY = 15.0  # seconds between lines about one running job
SILENT_AFTER = 60.0  # seconds of silence until a job is reported as silent; the interval doubles each time


@dataclass
class _Running:
    job: Job
    bar: TaskID
    since: float
    heard: float
    spoke: float
    patience: float = SILENT_AFTER
    event: dict[str, Any] = field(default_factory=dict[str, Any])  # all its events merged


class Live:
    """Shows a run's progress. Use it as a context manager."""

    def __init__(self, console: Console, jobs: Sequence[Job], estimate: Estimate, workers: int) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._total = len(jobs)
        self._whole = self._bars.add_task("", total=len(jobs), facts="")
        self._running: dict[str, _Running] = {}
        self._left = {job.key: estimate.seconds(job) for job in jobs}
        self._guessed = {job.key for job in jobs if estimate.guessed(job)}
        # of finished jobs, guessed or not: seconds expected, and taken
        self._spent = dict.fromkeys((False, True), (0.0, 0.0))
        self._workers = workers

    def __enter__(self) -> Live:
        self._bars.start()
        self.tick()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def eta(self) -> float:
        """Seconds left: the estimate, corrected by the actual times of finished jobs and epochs.

        What is only guessed has a correction of its own: an evaluation that takes a hundred times its guess says
        nothing of a training.
        """
        return sum(map(self._left_of, (False, True))) / self._workers

    def _left_of(self, guessed: bool) -> float:
        """Seconds left of what is guessed, or of what is known better, by one worker."""
        left = sum(seconds for key, seconds in self._left.items() if (key in self._guessed) is guessed)
        expected, taken = self._spent[guessed]
        for running in self._running.values():
            epoch, epochs = (_number(running.event, name) for name in ("epoch", "epochs"))
            if epoch and epochs and (running.job.key in self._guessed) is guessed:
                done = self._left.get(running.job.key, 0.0) * min(epoch / epochs, 1.0)
                left -= done
                expected += done
                taken += epoch * (_number(running.event, "seconds") or done / epoch)
        return left * (taken + 10.0) / (expected + 10.0)  # initially trusts the estimate a little

    def started(self, job: Job) -> None:
        bar, now = self._bars.add_task(line(job.label), total=None, facts=""), time.monotonic()
        self._running[job.key] = _Running(job, bar, now, now, now)

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        running = self._running[job.key]
        running.event |= event
        running.heard, running.patience = time.monotonic(), SILENT_AFTER
        self._show(running)
        if "resumed" in event:
            self._say(f"{job.label}: resumed after epoch {event['resumed']}")
        elif not self._console.is_terminal and running.heard - running.spoke > PLAIN_EVERY:
            running.spoke = running.heard
            self._say(f"{job.label}: {_facts(running.event) or 'running'}")

    def finished(self, job: Job, seconds: float) -> None:
        event, took = self._ended(job)
        if job.kind == "stage":
            self._say(f"{job.label}: {', '.join(filter(None, [_facts(event), f'done in {duration(took)}']))}")

    def failed(self, job: Job, failure: Failure) -> None:
        self._ended(job)
        self._say(f"FAILED {failure.label}: {failure.message}", "red")  # the help comes at the end

    def announce(self, text: str) -> None:
        self._say(text)

    def tick(self) -> None:
        for running in self._running.values():
            silent = time.monotonic() - running.heard
            if silent > SILENT_AFTER:
                self._show(running, f"silent for {duration(round(silent))}")
            if silent > running.patience and not self._console.is_terminal:
                running.patience *= 2
                self._say(f"{running.job.label}: no progress for {duration(round(silent))}")
        done = self._total - len(self._left)
        told = f"about {duration(round(self.eta()))} left"
        self._bars.update(self._whole, completed=done, description=f"{done}/{self._total} jobs", facts=told)

    def _ended(self, job: Job) -> tuple[dict[str, Any], float]:
        """The job's merged events, and the seconds it took in this session."""
        running = self._running.pop(job.key)
        self._bars.remove_task(running.bar)
        taken = time.monotonic() - running.since
        guessed = job.key in self._guessed
        before, spent = self._spent[guessed]
        self._spent[guessed] = (before + self._left.pop(job.key, 0.0), spent + taken)
        return running.event, taken

    def _show(self, running: _Running, *more: str) -> None:
        told = ", ".join(filter(None, [_facts(running.event), *more]))
        epoch, epochs = (_number(running.event, name) for name in ("epoch", "epochs"))
        if epoch is not None and epochs is not None and math.isfinite(epoch) and math.isfinite(epochs):
            self._bars.update(running.bar, completed=epoch, total=epochs)
        self._bars.update(running.bar, facts=told)

    def _say(self, text: str, style: str = "") -> None:
        where = f"[{self._total - len(self._left)}/{self._total}, {duration(round(self.eta()))} left] "
        told = folded(text) if self._console.is_terminal else where + folded(text)
        self._console.print(told, style=style, markup=False, emoji=False, highlight=False, soft_wrap=True)


def _facts(event: Mapping[str, Any]) -> str:
    """The usual numbers of a training run, as text."""
    return ", ".join(_known(event))


def _known(event: Mapping[str, Any]) -> Iterator[str]:
    epoch, epochs = _number(event, "epoch"), _number(event, "epochs")
    if epoch is not None:
        yield f"epoch {epoch:g}" + (f"/{epochs:g}" if epochs is not None else "")
    if (loss := _number(event, "loss")) is not None:
        yield f"loss {loss:.4f}"
    if (accuracy := _number(event, "accuracy")) is not None:
        yield f"accuracy {accuracy:.1%}"


def _number(event: Mapping[str, Any], name: str) -> float | None:
    value = event.get(name)
    return value if isinstance(value, int | float) else None
