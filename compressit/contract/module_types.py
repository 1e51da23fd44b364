"""How checkpoints describe and rebuild layers that replaced a model's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModuleType:
    """A layer type that checkpoints may name. Register it with the hook `compressit_module_types`.

    The layer's weights and public numbers are restored from the file, so `describe` needs to return only what
    `build` needs.
    """

    name: str  # "package.LayerName"; stored in files, so never change it
    cls: Callable[[], type[nn.Module]]  # a function, so that registering does not import torch
    describe: Callable[[Any], Mapping[str, Any]]  # a layer's arguments as JSON values
    build: Callable[[Mapping[str, Any]], nn.Module]  # builds the layer from these arguments; must check them


def by_class(module_types: Sequence[ModuleType], cls: type) -> ModuleType | None:
    """The module type of exactly this class, or None."""
    return next((rule for rule in module_types if same_class(rule.cls(), cls)), None)


def by_name(module_types: Sequence[ModuleType], name: str) -> ModuleType:
    """The module type of that name. Raises CompressitError if it is not installed or registered twice."""
    found = [rule for rule in module_types if rule.name == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise CompressitError(
            f"the module type '{name}' is registered {len(found)} times", "uninstall one of them"
        )
    hint = did_you_mean(name, (rule.name for rule in module_types))
    raise CompressitError(
        f"the module type {name!r} is not installed", hint or "install the plugin that provides it"
    )


def same_class(one: type, other: type) -> bool:
    """Whether two classes are the same, by name too: two hosts that load the same local file define it twice."""
    return one is other or (one.__module__, one.__qualname__) == (other.__module__, other.__qualname__)
