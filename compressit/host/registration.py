"""Checks a plugin module before it is registered: its hooks exist, and its classes have the methods of their kind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from difflib import SequenceMatcher
from functools import partial
from typing import Any, get_args

from compressit.config import Config
from compressit.contract import hookspecs
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Report, Trainer
from compressit.contract.observer import Observer
from compressit.contract.plugin import Plugin
from compressit.contract.records import Metric
from compressit.contract.tasks import Task
from compressit.datasets.options import DataConfig
from compressit.errors import CompressitError, did_you_mean, told
from compressit.host.declared import declaration_fault

LOCAL = "compressit_local_"
"""Prefix of the module names of local files; the file's stem and digest follow."""
_PREFIX = "compressit_"
_REQUIRED: dict[type[Plugin[Any]], tuple[str, ...]] = {
    Trainer: ("train",),
    Compressor: ("compress",),
    Evaluator: ("evaluate",),
    Model: ("build",),
    Dataset: ("inputs", "classes", "load"),
    Task: ("watch", "measures", "loss", "scores"),
    Report: (),
    Observer: (),
}
OBSERVED = tuple(name for name in vars(Observer) if name.startswith(("run_", "job_")))
"""The methods by which an observer is told. It needs one of them: a misspelt one would never be called."""


class PluginFault(CompressitError):  # noqa: N818 - reads better
    """A mistake in a plugin module. `at`: the name of the function or class that has it."""

    def __init__(self, message: str, hint: str | None = None, at: str | None = None) -> None:
        super().__init__(message, hint)
        self.at = at


def check_hooks(module: Any, is_marked: Callable[[str], object]) -> None:
    """Raises PluginFault for an unknown hook, and for a hook without `@hookimpl` (`is_marked` returns false)."""
    known = [name for name in vars(hookspecs) if name.startswith(_PREFIX)]
    for name in dir(module):
        if name.startswith(_PREFIX) and name not in known and is_marked(name):
            raise PluginFault(f"no hook is called '{name}'", did_you_mean(name, known), name)
    for name in known:
        if callable(getattr(module, name, None)) and not is_marked(name):
            raise PluginFault(f"{name} lacks its @hookimpl", at=name)


def classes_of(
    module: Any, hook: str, base: type[Plugin[Any]], call: Callable[[str], list[Any]]
) -> Iterator[type[Plugin[Any]]]:
    """The classes that a module's hook returns when called by `call`. Raises PluginFault for anything else."""
    if not hasattr(module, hook):
        return
    hint = f"return a list of {base.__name__} classes, not instances: `return [Mine]`"
    try:
        found: Any = (call(hook) or [None])[0]
    except TypeError as error:  # usually a class was called
        raise PluginFault(f"{hook} failed: {told(error)}", hint, hook) from error
    if isinstance(found, type) or not isinstance(found, Iterable):
        raise PluginFault(f"{hook} returned {_shown(found)}, not a list of classes", hint, hook)
    for plugin in found:
        if not (isinstance(plugin, type) and issubclass(plugin, base)):
            raise PluginFault(
                f"{hook} returned {_shown(plugin)}, which is not a {base.__name__} class", hint, hook
            )
        check_class(plugin, base)
        yield plugin


def check_class(plugin: type[Plugin[Any]], base: type[Plugin[Any]]) -> None:
    """Raises PluginFault for a malformed name, a wrong Config, or a missing method or wrong signature."""
    fault = partial(PluginFault, at=plugin.__qualname__)
    name = getattr(plugin, "name", None)
    if not isinstance(name, str) or not re.fullmatch(r"[\w-]+\.[\w-]+", name):
        hint = 'set it in the class: `name = "prune.mine"`'
        raise fault(f"{shown(plugin)}.name is {name!r}; it must be like 'kind.method'", hint)
    config = DataConfig if base is Dataset else Config
    options = [plugin.Config, *(a for b in getattr(plugin, "__orig_bases__", ()) for a in get_args(b))]
    if not all(issubclass(option, config) for option in options if isinstance(option, type)):
        raise fault(f"{shown(plugin)}.Config must derive from {config.__module__}.{config.__qualname__}")
    if issubclass(plugin, Evaluator):
        wrong = declaration_fault(f"{shown(plugin)}.metrics", plugin.metrics, Metric)
        if wrong is not None:
            raise fault(*wrong)
    if not isinstance(getattr(plugin, "tasks", None), frozenset | set | None):
        raise fault(
            f"{shown(plugin)}.tasks is {getattr(plugin, 'tasks', None)!r:.120}",
            'a set of names: {"task.regression"}',
        )
    if base is Observer and not any(_own(plugin, base, event) for event in OBSERVED):
        hint = _renamed(plugin, base, OBSERVED) or f"write one of its methods: {', '.join(OBSERVED)}"
        raise fault(f"{shown(plugin)} is told of nothing", hint)
    for method, theirs in vars(base).items():
        ours = inspect.getattr_static(plugin, method)
        is_function = inspect.isfunction(theirs)
        write = (
            f"write `def {method}({', '.join(inspect.signature(theirs).parameters)})`"
            if is_function
            else None
        )
        if ours is theirs and method in _REQUIRED[base] and not _unneeded(plugin, method):
            hint = _renamed(plugin, base, [method]) or write or f"write `{method} = …` or a property"
            raise fault(f"{shown(plugin)} has no '{method}'", hint)
        if ours is not theirs and is_function and inspect.isfunction(ours):
            try:
                inspect.signature(ours).bind(*inspect.signature(theirs).parameters)
            except TypeError as error:
                message = f"{shown(plugin)}.{method} has the wrong parameters: {error}"
                raise fault(message, write) from error


def _own(plugin: type[Plugin[Any]], base: type[Plugin[Any]], method: str) -> bool:
    """Whether it has a method of its own in place of that of its kind."""
    return inspect.getattr_static(plugin, method) is not vars(base)[method]


def _renamed(plugin: type[Plugin[Any]], base: type[Plugin[Any]], wanted: Iterable[str]) -> str | None:
    """A hint for a method of its own whose name is nearly a wanted one."""
    own = [name for name in vars(plugin) if not name.startswith("_") and not hasattr(base, name)]
    alike = {(one, name): SequenceMatcher(None, one, name).ratio() for one in own for name in wanted}
    found, name = max(alike, key=alike.__getitem__, default=("", ""))
    return f"rename '{found}' to '{name}'" if alike.get((found, name), 0) >= 0.5 else None


def _unneeded(plugin: type[Plugin[Any]], method: str) -> bool:
    """`classes` of a dataset that says itself what it poses."""
    return method == "classes" and inspect.getattr_static(plugin, "task") is not vars(Dataset)["task"]


def shown(plugin: type) -> str:
    """The class name for messages; without the module for a local file, whose path is shown anyway."""
    module = plugin.__module__
    return plugin.__qualname__ if module.startswith(LOCAL) else f"{module}.{plugin.__qualname__}"


def _shown(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return f"an instance of {type(value).__name__}" if isinstance(value, Plugin) else repr(value)
