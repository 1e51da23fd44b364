"""All plugin hooks. They register classes, which the host finds by name, and rules for layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Report, Trainer
    from compressit.contract.module_types import ModuleType
    from compressit.contract.observer import Observer
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
def compressit_observers() -> Iterable[type[Observer]]:
    """Returns your observers. Called once when plugins are loaded."""
    return ()


@hookspec
def compressit_module_types() -> Iterable[ModuleType]:
    """Returns how to rebuild layers that replaced a model's own. Called when a checkpoint is saved or loaded."""
    return ()
