"""Observers: plugins that are told what a run does. They change nothing of it.

This module does not import torch: observers live in the main process, which never loads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compressit.config import Config
from compressit.contract.job import Job
from compressit.contract.plugin import Plugin
from compressit.files.ownfolder import OwnFolder

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class PlannedModel:
    """A model that the results will have. Variants that share a job have a model each."""

    path: str  # "real/seed0/blog-04"; with ".safetensors", its file in the run folder's `checkpoints`
    job: str  # the key of the job that makes it
    measures: Mapping[str, str]  # key of an evaluation of it -> what the recipe calls that by `as`, or ""


@dataclass(frozen=True)
class RunStart:
    """What a run will do. A search makes its models in several runs, one after another in its folder."""

    folder: Path  # of the run, or of the search
    recipe: str  # its name
    models: Sequence[PlannedModel]
    jobs: Mapping[
        str, Job
    ]  # all of the plan by key, inputs first; also of models that the results do not have
    todo: Sequence[str]  # the keys of those that must run, in the same order

    def file(self, name: str) -> Path:
        """The path of a file in the folder: "mine/log.txt". Makes the folders on the way, follows no links.

        Raises CompressitError if something else is in the way, or the name leads out of the folder; OSError if a folder
        cannot be made.
        """
        return OwnFolder(self.folder).place(name)


@dataclass(frozen=True)
class JobEnd:
    """The result of a job."""

    job: Job
    seconds: float  # how long it took, over all sessions
    metrics: Mapping[str, float]  # of an evaluation, by name; finite
    curves: Mapping[str, Sequence[tuple[float, float]]]  # by name, at most 200 points (x, y); y may be NaN


@dataclass(frozen=True)
class RunEnd:
    """How a run ended."""

    complete: bool  # whether it has all models and measurements
    failures: Sequence[str]  # a line for each job that failed


class Observer(Plugin[C]):
    """Is told of a run as it goes on, in the main process; each method does nothing by default.

    Each run has an instance of its own. Be quick: the run waits for every call. An observer's first error is shown, and
    the run goes on."""

    def check(self) -> None:
        """Raises CompressitError if it could not work on this machine, because a library is missing for example. Called
        when a recipe is read, so that `compressit check` says so."""

    def run_started(self, run: RunStart) -> None:
        """A run starts, maybe with nothing to do."""

    def job_found(self, end: JobEnd) -> None:
        """The store had the result of this job. Called after `run_started`, for each, inputs first."""

    def job_started(self, job: Job) -> None:
        """A worker starts the job; maybe it continues one that was stopped."""

    def job_progress(self, job: Job, numbers: Mapping[str, float]) -> None:
        """What the job told, at most ten times a second in a training: `epoch` (from 1), `epochs`, `loss`, `accuracy`
        (0 to 1), `seconds` per epoch, and any other numbers of its plugin. Which there are depends on the plugin; they
        may be NaN. After `resumed`, the number of epochs done before, they continue from there."""

    def job_finished(self, end: JobEnd) -> None:
        """The result of the job is in the store."""

    def job_failed(self, job: Job, message: str) -> None:
        """The job ended with an error. What needs it will not run."""

    def run_ended(self, end: RunEnd) -> None:
        """The run has ended and its report is written; also after Ctrl-C, when jobs that ran were not told to end."""
