"""Estimates how long jobs take, from their last time on this machine or else from a calibration."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compressit.contract.job import Job
from compressit.files.sealed import read_sealed, write_sealed
from compressit.planning.keys import key_of

_EVALUATION = 0.7  # seconds, if nothing is known
_OTHER = 1.0


class History:
    """Seconds of finished jobs on this host, in `<store>/history.json`. Used for estimates only; losing it is fine."""

    def __init__(self, store: Path, threads: int) -> None:
        self._file = store / "history.json"
        self._threads = threads
        self._seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            self._seconds = {name: float(taken) for name, taken in read_sealed(self._file).items()}

    def seconds(self, job: Job) -> float | None:
        """How long a similar job (possibly with other seeds or labels) took last time."""
        return self._seconds.get(self._like(job))

    def add(self, job: Job, seconds: float) -> None:
        """Records a finished job."""
        self._seconds[self._like(job)] = round(seconds, 3)

    def save(self) -> None:
        """Writes the file if possible. What other runs have added meanwhile may be lost."""
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_sealed(self._file, self._seconds)

    def _like(self, job: Job) -> str:
        as_fast = ("labels", "label_fraction", "seed", "pixels")
        config = {name: value for name, value in job.data["config"].items() if name not in as_fast}
        made = [[step["uses"], step["config"]] for step in job.lineage]  # determines the model's size
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
        if job.work is None or self._calibration is None:
            return _EVALUATION if job.kind == "evaluate" else _OTHER
        work = job.work
        if not work["steps"]:
            return _EVALUATION + work["forwards"] * self._calibration["forward"]
        step = interpolated(self._calibration["steps"], work["batch_size"], work["width"])
        return work["steps"] * step + work["forwards"] * self._calibration["forward"]

    def guessed(self, job: Job) -> bool:
        """Whether nothing is known of the job, so that how long it took says nothing of others."""
        return self._history.seconds(job) is None and (job.work is None or self._calibration is None)

    def total(self, jobs: Iterable[Job]) -> float:
        """The sum over all jobs."""
        return sum(self.seconds(job) for job in jobs)


def unknown(jobs: Sequence[Job], history: History) -> list[Job]:
    """The jobs that say how many steps they train and have no history: they need a calibration."""
    return [t for t in jobs if t.work is not None and t.work["steps"] and history.seconds(t) is None]


def interpolated(steps: Sequence[Sequence[float]], batch_size: float, width: float) -> float:
    """Seconds per step: interpolated linearly between measured widths, at the nearest measured batch size, and scaled
    to `batch_size`."""
    import numpy as np

    nearest = min({step[0] for step in steps}, key=lambda batch: abs(batch - batch_size))
    widths, seconds = zip(*sorted((step[1], step[2]) for step in steps if step[0] == nearest), strict=True)
    return float(np.interp(width, widths, seconds)) * batch_size / nearest
