"""The whole plugin contract. Hooks register classes; the host selects by name. Only observers are broadcast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from compressit.contract.job import Job
    from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Report, Trainer
    from compressit.contract.module_types import ModuleType

hookspec = pluggy.HookspecMarker("compressit")
hookimpl = pluggy.HookimplMarker("compressit")


@hookspec
def compressit_trainers() -> Iterable[type[Trainer]]:
    """Called once when plugins are loaded: your trainers."""
    return ()


@hookspec
def compressit_compressors() -> Iterable[type[Compressor]]:
    """Called once when plugins are loaded: your compressors."""
    return ()


@hookspec
def compressit_evaluators() -> Iterable[type[Evaluator]]:
    """Called once when plugins are loaded: your evaluators."""
    return ()


@hookspec
def compressit_models() -> Iterable[type[Model]]:
    """Called once when plugins are loaded: your models, usable in recipes and in checkpoints."""
    return ()


@hookspec
def compressit_datasets() -> Iterable[type[Dataset]]:
    """Called once when plugins are loaded: your datasets."""
    return ()


@hookspec
def compressit_reports() -> Iterable[type[Report]]:
    """Called once when plugins are loaded: your reports."""
    return ()


@hookspec
def compressit_module_types() -> Iterable[ModuleType]:
    """Called when a checkpoint is saved or loaded: how to rebuild layers that replace a model's own."""
    return ()


@hookspec
def compressit_stage_started(job: Job) -> None:
    """Called in the main process when a worker starts a job; an error here is logged, never fatal."""


@hookspec
def compressit_stage_finished(job: Job, seconds: float) -> None:
    """Called in the main process when a job has been published to the store."""


@hookspec
def compressit_stage_failed(job: Job, message: str) -> None:
    """Called in the main process when a job ended with an error."""
