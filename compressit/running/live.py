"""Live progress: a table that updates itself on a terminal, plain lines elsewhere.

To stderr, so that stdout can be piped. What plugins emit is shown as far as it can be understood.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from compressit.contract.job import Job
from compressit.formatting import duration
from compressit.printable import folded, line
from compressit.running.estimate import Estimate
from compressit.running.runner import Failure

PLAIN_EVERY = 15.0  # seconds between lines about one running job
SILENT_AFTER = (
    60.0  # seconds without a word from a job that are worth one; the pauses between such lines double
)


class Progress:
    """How far a run is: what both displays show."""

    def __init__(self, jobs: Sequence[Job], estimate: Estimate, workers: int) -> None:
        self.total = len(jobs)
        self.done = 0
        self.running: dict[str, tuple[Job, dict[str, Any], float]] = {}
        self._heard: dict[str, float] = {}
        self._left = {job.key: estimate.seconds(job) for job in jobs}
        self._expected = 0.0  # of finished jobs
        self._taken = 0.0
        self._workers = workers

    def eta(self) -> float:
        """Seconds left: the estimate, corrected by how finished jobs and finished epochs compared with theirs."""
        left, expected, taken = sum(self._left.values()), self._expected, self._taken
        for job, event, _ in list(self.running.values()):  # the display asks from a thread of its own
            epoch, epochs = _number(event, "epoch"), _number(event, "epochs")
            if epoch and epochs:
                done = self._left.get(job.key, 0.0) * min(epoch / epochs, 1.0)
                left -= done
                expected += done
                taken += epoch * (_number(event, "seconds") or done / epoch)
        pace = (taken + 10.0) / (expected + 10.0)  # a little trust in the estimate to begin with
        return left * pace / self._workers

    def started(self, job: Job) -> None:
        self.running[job.key] = (job, {}, time.monotonic())
        self._heard[job.key] = time.monotonic()

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        known, old, since = self.running[job.key]
        self.running[job.key] = (known, {**old, **event}, since)
        self._heard[job.key] = time.monotonic()

    def silent(self, job: Job) -> float:
        """Seconds since a running job said something."""
        return time.monotonic() - self._heard[job.key]

    def ended(self, job: Job) -> float:
        """Takes the job out; returns the seconds it took here."""
        _, _, since = self.running.pop(job.key)
        seconds = time.monotonic() - since
        self.done += 1
        self._expected += self._left.pop(job.key, 0.0)
        self._taken += seconds
        return seconds


class PlainLive:
    """One line when a model is there, and one every 15 seconds about what is running."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._console = console
        self._progress = progress
        self._spoke: dict[str, float] = {}
        self._patience: dict[str, float] = {}

    def __enter__(self) -> PlainLive:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def started(self, job: Job) -> None:
        self._progress.started(job)
        self._spoke[job.key] = time.monotonic()
        self._patience[job.key] = SILENT_AFTER

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self._progress.progress(job, event)
        self._patience[job.key] = SILENT_AFTER
        if "resumed" in event:
            self._line(f"{job.label}: goes on after epoch {event['resumed']}")
        elif time.monotonic() - self._spoke[job.key] > PLAIN_EVERY:
            self._spoke[job.key] = time.monotonic()
            self._line(f"{job.label}: {_facts(self._progress.running[job.key][1]) or 'running'}")

    def finished(self, job: Job, seconds: float) -> None:
        event = self._progress.running[job.key][1]
        took = self._progress.ended(job)
        if job.kind == "stage":
            self._line(
                f"{job.label}: {', '.join(filter(None, [_facts(event), f'done in {duration(took)}']))}"
            )

    def failed(self, job: Job, failure: Failure) -> None:
        self._progress.ended(job)
        self._line(f"FAILED {failure.label}: {failure.message}")  # the help stands at the end of the run

    def announce(self, text: str) -> None:
        self._line(text)

    def tick(self) -> None:
        for job, _, _ in self._progress.running.values():
            silent = self._progress.silent(job)
            if silent > self._patience[job.key]:
                self._patience[job.key] *= 2
                self._line(f"{job.label}: has said nothing for {duration(round(silent))}")

    def _line(self, text: str) -> None:
        p = self._progress
        self._console.print(
            f"[{p.done}/{p.total}, {duration(round(p.eta()))} left] {folded(text)}",
            markup=False,
            emoji=False,
            highlight=False,
            soft_wrap=True,
        )


class RichLive:
    """A table of running jobs, a bar, and what was said above them."""

    def __init__(self, console: Console, progress: Progress) -> None:
        self._progress = progress
        self._console = console
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> RichLive:
        self._live.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.__exit__(None, None, None)

    def started(self, job: Job) -> None:
        self._progress.started(job)

    def progress(self, job: Job, event: Mapping[str, Any]) -> None:
        self._progress.progress(job, event)

    def finished(self, job: Job, seconds: float) -> None:
        event = self._progress.running[job.key][1]
        took = self._progress.ended(job)
        if job.kind == "stage":
            self._console.print(
                Text(line(f"{job.label}  {_facts(event)}  {duration(took)}")), highlight=False
            )

    def failed(self, job: Job, failure: Failure) -> None:
        self._progress.ended(job)
        self._console.print(Text(folded(f"FAILED {failure.label}: {failure.message}"), style="red"))

    def announce(self, text: str) -> None:
        self._console.print(Text(folded(text)), highlight=False)

    def tick(self) -> None:
        pass

    def _render(self) -> RenderableType:
        table = Table(box=None, pad_edge=False)
        for name in ("stage", "epoch", "loss", "accuracy", "time"):
            table.add_column(name, justify="left" if name == "stage" else "right")
        for job, event, since in list(self._progress.running.values()):
            known = dict(_known(event))
            cells = [known.get(name, "") for name in ("epoch", "loss", "accuracy")]
            taken, silent = time.monotonic() - since, self._progress.silent(job)
            words = f", silent for {duration(round(silent))}" if silent > SILENT_AFTER else ""
            table.add_row(Text(line(job.label)), *cells, duration(round(taken)) + words)
        p = self._progress
        bar = Table.grid(padding=(0, 2))
        bar.add_row(
            ProgressBar(total=p.total, completed=p.done, width=40),
            f"{p.done}/{p.total} jobs",
            f"about {duration(round(p.eta()))} left",
        )
        return Group(table, bar)


def live_display(console: Console, progress: Progress) -> PlainLive | RichLive:
    """The table on a terminal, lines elsewhere."""
    return RichLive(console, progress) if console.is_terminal else PlainLive(console, progress)


def _facts(event: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {text}" for name, text in _known(event))


def _known(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The numbers every training run tells, as text."""
    epoch, epochs = _number(event, "epoch"), _number(event, "epochs")
    if epoch is not None:
        yield "epoch", f"{epoch:g}" + (f"/{epochs:g}" if epochs is not None else "")
    if (loss := _number(event, "loss")) is not None:
        yield "loss", f"{loss:.4f}"
    if (accuracy := _number(event, "accuracy")) is not None:
        yield "accuracy", f"{accuracy:.1%}"


def _number(event: Mapping[str, Any], name: str) -> float | None:
    value = event.get(name)
    return value if isinstance(value, int | float) else None
