"""All plugin hooks. Most register classes, which the host finds by name. Observer hooks are called in every plugin."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from compressit.contract.job import Job
    from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Report, Trainer
    from compressit.contract.module_types import ModuleType
    from compressit.contract.tasks import Task

hookspec = pluggy.HookspecMarker("compressit")
hookimpl = pluggy.HookimplMarker("compressit")


@hookspec
def compressit_trainers() -> Iterable[type[Trainer]]:
    """Returns your trainers. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_compressors() -> Iterable[type[Compressor]]:
    """Returns your compressors. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_evaluators() -> Iterable[type[Evaluator]]:
    """Returns your evaluators. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_models() -> Iterable[type[Model]]:
    """Returns your models, for recipes and checkpoints. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_datasets() -> Iterable[type[Dataset]]:
    """Returns your datasets. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_tasks() -> Iterable[type[Task]]:
    """Returns your tasks. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_reports() -> Iterable[type[Report]]:
    """Returns your reports. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_module_types() -> Iterable[ModuleType]:
    """Returns how to rebuild layers that replaced a model's own. Called when a checkpoint is saved or loaded."""
    return ()


@hookspec
def compressit_stage_started(job: Job) -> None:
    """Called in the main process when a worker starts a job. An error in the hook is logged, not fatal."""


@hookspec
def compressit_stage_finished(job: Job, seconds: float) -> None:
    """Called in the main process when a job has been published to the store."""


@hookspec
def compressit_stage_failed(job: Job, message: str) -> None:
    """Called in the main process when a job ended with an error."""
