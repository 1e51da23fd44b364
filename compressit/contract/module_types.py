"""How a layer that took the place of a model's own is described in a checkpoint and built again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModuleType:
    """A type of layer that checkpoints may name. Register it with the hook `compressit_module_types`.

    Its weights and public numbers are restored from the file: `args` needs only what `build` must have.
    """

    name: str  # "package.LayerName": written into files, so it never changes
    cls: Callable[[], type[nn.Module]]  # a function, so that registering imports no torch
    describe: Callable[[Any], Mapping[str, Any]]  # a layer's arguments as JSON values
    build: Callable[[Mapping[str, Any]], nn.Module]  # from those arguments; must check them


def by_class(module_types: Sequence[ModuleType], cls: type) -> ModuleType | None:
    """The rule for exactly this class."""
    return next((rule for rule in module_types if same_class(rule.cls(), cls)), None)


def by_name(module_types: Sequence[ModuleType], name: str) -> ModuleType:
    """The rule of that name. Raises CompressitError when it is not installed, or twice."""
    found = [rule for rule in module_types if rule.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise CompressitError(
            f"the module type '{name}' is registered {len(found)} times", "uninstall one of them"
        )
    hint = did_you_mean(name, (rule.name for rule in module_types))
    raise CompressitError(
        f"the module type {name!r} is not installed", hint or "install the plugin it came from"
    )


def same_class(one: type, other: type) -> bool:
    """Equal by name as well: two hosts that load one local file make its classes twice."""
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
