"""How long jobs will take: what they took before on this machine, else what a calibration says."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressit.contract.job import Job
from compressit.files.sealed import read_sealed, write_sealed
from compressit.planning.keys import key_of

_EVALUATION = 0.7  # seconds, until something is known
_OTHER = 1.0


class History:
    """Seconds of finished jobs on this host, in `<store>/history.json`; advice only, lost without harm."""

    def __init__(self, store: Path, threads: int) -> None:
        self._file = store / "history.json"
        self._threads = threads
        self._seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._seconds = {name: float(taken) for name, taken in read_sealed(self._file).items()}

    def seconds(self, job: Job) -> float | None:
        """What a job like this (other seeds and labels included) took last time."""
        return self._seconds.get(self._like(job))

    def add(self, job: Job, seconds: float) -> None:
        """Remembers a finished job."""
        self._seconds[self._like(job)] = round(seconds, 3)

    def save(self) -> None:
        """Writes the file if it can; other runs' additions since it was read may be lost."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(self._file, self._seconds)

    def _like(self, job: Job) -> str:
        as_fast = ("labels", "label_fraction", "seed", "pixels")
        config = {name: value for name, value in job.data["config"].items() if name not in as_fast}
        made = [[step["uses"], step["config"]] for step in job.lineage]  # the model's size decides
        stage = [job.kind, job.uses, dict(job.config), job.round, job.feed]
        facts = [*stage, made, job.data["uses"], config, dict(job.compute)]
        return key_of({"like": facts, "host": platform.node(), "threads": self._threads})[:16]


class Estimate:
    """Seconds per job. `calibration` is what `compressit.running.calibrate` returned, or None."""

    def __init__(self, history: History, calibration: Mapping[str, Any] | None = None) -> None:
        self._history = history
        self._calibration = calibration

    def seconds(self, job: Job) -> float:
        """The expected time of one job."""
        known = self._history.seconds(job)
        if known is not None:
            return known
        if job.kind == "evaluate":
            return _EVALUATION
        if job.work is None or self._calibration is None:
            return _OTHER
        work = job.work
        step = interpolated(self._calibration["steps"], work["batch_size"], work["width"])
        return work["steps"] * step + work["forwards"] * self._calibration["forward"]

    def total(self, jobs: Iterable[Job]) -> float:
        """The sum over jobs."""
        return sum(self.seconds(job) for job in jobs)


def unknown(jobs: Sequence[Job], history: History) -> list[Job]:
    """The jobs that train and have no history: those worth calibrating for."""
    return [t for t in jobs if t.work is not None and history.seconds(t) is None]


def interpolated(steps: Sequence[Sequence[float]], batch_size: float, width: float) -> float:
    """Seconds per step at a width, linear between the measured ones, at the nearest measured batch size and
    scaled with the batch beyond it."""
    import numpy as np

    nearest = min({step[0] for step in steps}, key=lambda batch: abs(batch - batch_size))
    widths, seconds = zip(*sorted((step[1], step[2]) for step in steps if step[0] == nearest), strict=True)
    return float(np.interp(width, widths, seconds)) * batch_size / nearest
