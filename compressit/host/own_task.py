"""The one plugin that the core brings itself, registered as any other module of plugins."""

from __future__ import annotations

from typing import Any

from compressit.contract.classification import Classification
from compressit.contract.hookspecs import hookimpl
from compressit.contract.tasks import Task


@hookimpl
def compressit_tasks() -> list[type[Task[Any]]]:
    """Registers `task.classification`."""
    return [Classification]
