"""Checks of observers: told of invented runs, in the kit's own folders."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

from compressit.contract.job import Job
from compressit.contract.observer import JobEnd, Observer, PlannedModel, RunEnd, RunStart
from compressit.testing.check import ConformanceError, check
from compressit.testing.fingerprint import changed
from compressit.testing.subject import Subject
from compressit.testing.watch import quiet_place

Story = Callable[[Observer[Any], RunStart], None]
COMPUTE = {"device": "cpu", "precision": "fp32", "compile": False}
NET = Job("a" * 64, "init", "base/seed0/init", "testing.net", {}, 0, {}, {}, COMPUTE)
TRAIN = Job(
    "b" * 64,
    "stage",
    "base/seed0/train",
    "testing.train",
    {},
    0,
    {"previous": NET.key},
    {},
    COMPUTE,
    stage="train",
)
MEASURE = Job(
    "c" * 64, "evaluate", f"{TRAIN.label} testing.measure", "testing.measure", {}, 0, {"model": TRAIN.key}, {},
    COMPUTE, stage="train",
)  # fmt: skip
JOBS = {job.key: job for job in (NET, TRAIN, MEASURE)}
ENDS = (
    JobEnd(NET, 0.1, {}, {}),
    JobEnd(TRAIN, 1.5, {}, {"loss": ((1.0, 2.3), (40.0, 0.4)), "accuracy": ((20.0, 0.3), (40.0, 0.9))}),
    JobEnd(MEASURE, 0.2, {"test_accuracy": 0.85}, {"kept": ((0.5, math.nan), (1.0, 0.85))}),
)  # fmt: skip
RESULTS = {
    "run.json": "{}",
    "results.json": '{"rows": []}',
    "checkpoints/base/seed0/train.safetensors": "weights",
}


@check("observer")
def watches(subject: Subject) -> None:
    """It watches a whole run without an error."""
    _told(subject, "a whole run", _whole, JOBS)


@check("observer", needs=[watches])
def bears_other_runs(subject: Subject) -> None:
    """It handles runs that find all results, fail, resume or are interrupted."""
    for what, (story, jobs) in _OTHERS.items():
        try:
            _told(subject, what, story, jobs)
        except Exception as error:
            raise ConformanceError(
                f"for {what} it raises {type(error).__name__}: {error}",
                "a run may have nothing to do, and end at any time: expect no call but `run_started`",
            ) from error


@check("observer", needs=[watches])
def leaves_results(subject: Subject) -> None:
    """It leaves the run's own files unchanged."""
    folder = subject.folder / "a folder with results"
    for name, text in RESULTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    _told(subject, folder.name, _whole, JOBS)
    now = {name: _text(folder / name) for name in RESULTS}
    if different := list(changed(RESULTS, now)):
        raise ConformanceError(
            f"it changed {', '.join(different)}", "write to files of your own: `run.file('mine/log.txt')`"
        )


@check("observer", needs=[watches])
def needs_no_torch(subject: Subject) -> None:
    """It works where torch cannot be imported."""
    hidden = {name: None for name in sys.modules if name.split(".")[0] == "torch"}
    try:
        _told(subject, "a run without torch", _whole, JOBS, hidden)
    except ImportError as error:
        raise ConformanceError(
            f"it imports torch: {error}",
            "the main process of a run never loads it: it takes seconds and memory",
        ) from error


def _whole(observer: Observer[Any], run: RunStart) -> None:
    observer.run_started(run)
    for end in ENDS:
        observer.job_started(end.job)
        if end.curves:
            observer.job_progress(end.job, {"epoch": 1.0, "epochs": 2.0, "loss": 1.2, "accuracy": 0.5})
        observer.job_finished(end)
    observer.run_ended(RunEnd(True, ()))


def _found(observer: Observer[Any], run: RunStart) -> None:
    observer.run_started(run)
    for end in ENDS:
        observer.job_found(end)
    observer.run_ended(RunEnd(True, ()))


def _failing(observer: Observer[Any], run: RunStart) -> None:
    observer.run_started(run)
    observer.job_found(ENDS[0])
    observer.job_started(ENDS[1].job)
    observer.job_progress(ENDS[1].job, {"resumed": 3.0})
    observer.job_progress(ENDS[1].job, {"anything": math.nan})
    observer.job_failed(ENDS[1].job, "RuntimeError: it broke")
    observer.run_ended(RunEnd(False, ("base/seed0/train: RuntimeError: it broke",)))


def _interrupted(observer: Observer[Any], run: RunStart) -> None:
    observer.run_started(run)
    observer.job_started(ENDS[0].job)
    observer.run_ended(RunEnd(False, ()))


def _empty(observer: Observer[Any], run: RunStart) -> None:
    observer.run_started(run)
    observer.run_ended(RunEnd(True, ()))


_OTHERS: Mapping[str, tuple[Story, Mapping[str, Job]]] = {
    "a run whose results are all there": (_found, JOBS),
    "a run that fails after it was resumed": (_failing, JOBS),
    "a run that is interrupted": (_interrupted, JOBS),
    "a run without jobs": (_empty, {}),
}


def _told(
    subject: Subject,
    what: str,
    story: Story,
    jobs: Mapping[str, Job],
    modules: Mapping[str, Any] | None = None,
) -> None:
    """Tells a new instance of the run, whose folder is called `what`."""
    models = [PlannedModel(TRAIN.label, TRAIN.key, {MEASURE.key: ""})] if jobs else []
    run = RunStart(subject.folder / what, "conformance", models, jobs, tuple(jobs))
    with quiet_place(subject), patch.dict(sys.modules, modules or {}):
        story(subject.create(), run)


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else None
