"""What the core brings itself, registered as any other module of plugins: a task and types of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from compressit.contract.classification import Classification
from compressit.contract.hookspecs import hookimpl
from compressit.contract.module_types import ModuleType
from compressit.contract.tasks import Task
from compressit.errors import CompressitError

if TYPE_CHECKING:
    from torch import nn

    from compressit.contract.factored import Factored


@hookimpl
def compressit_tasks() -> list[type[Task[Any]]]:
    """Registers `task.classification`."""
    return [Classification]


@hookimpl
def compressit_module_types() -> list[ModuleType]:
    """Registers layers that are products of others, and those that are gone, so that files with them need no plugin."""
    return [
        ModuleType("compressit.Factored", _factored, _described, _built),
        ModuleType("torch.nn.Identity", _identity, lambda layer: {}, _nothing),
    ]


def _factored() -> type[Factored]:
    from compressit.contract.factored import Factored

    return Factored


def _described(layer: Factored) -> dict[str, Any]:
    from compressit.contract.factored import described

    return described(layer)


def _built(arguments: Mapping[str, Any]) -> Factored:
    from compressit.contract.factored import built

    return built(arguments)


def _identity() -> type[nn.Identity]:
    from torch import nn

    return nn.Identity


def _nothing(arguments: Mapping[str, Any]) -> nn.Identity:
    if arguments:
        raise CompressitError(f"it takes no arguments, and the file has {arguments!r:.200}")
    return _identity()()
