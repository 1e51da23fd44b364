"""The plugin host: the only module that touches pluggy. It collects classes and selects them by name."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from compressit import hookspecs
from compressit.errors import CompressitError, did_you_mean
from compressit.kinds import Compressor, Dataset, Evaluator, Model, Plugin, Report, Trainer

KINDS: Mapping[str, type[Plugin[Any]]] = {
    "trainer": Trainer,
    "compressor": Compressor,
    "evaluator": Evaluator,
    "model": Model,
    "dataset": Dataset,
    "report": Report,
}
P = TypeVar("P", bound=Plugin[Any])


@dataclass(frozen=True)
class Registered:
    """One plugin class and where it came from."""

    kind: str
    plugin: type[Plugin[Any]]
    owner: str  # "compressit 0.1.0" or "./mine.py"


@dataclass(frozen=True)
class Broken:
    """A plugin module that could not be used, and why."""

    entry: str  # the entry point's name or the file
    owner: str
    reason: str  # one line
    details: str = ""  # the traceback


class Host:
    """The installed plugins, plus local files given to `load_file`."""

    def __init__(self, entry_points: bool = True, disabled: Iterable[str] = ()) -> None:
        self._pm = pluggy.PluginManager("compressit")
        self._pm.add_hookspecs(hookspecs)
        self._owners: dict[str, str] = {}
        self._found: dict[str, Registered] = {}
        self._broken: list[Broken] = []
        self._module_types: list[Any] = []
        self._disabled = frozenset(disabled)
        if entry_points:
            for entry in _entry_points():
                self._load_entry(entry)

    @property
    def broken(self) -> tuple[Broken, ...]:
        """Plugins that could not be loaded: listed, and named when a recipe asks for them."""
        return tuple(self._broken)

    @property
    def disabled(self) -> frozenset[str]:
        """Entry points left out by COMPRESSIT_DISABLE_PLUGINS."""
        return self._disabled

    def registered(self, kind: str | None = None) -> list[Registered]:
        """All plugins (of one kind), by name."""
        return [r for _, r in sorted(self._found.items()) if kind in (None, r.kind)]

    def names(self, *kinds: str) -> list[str]:
        """Names of all plugins (of these kinds), sorted."""
        return [name for name, r in sorted(self._found.items()) if not kinds or r.kind in kinds]

    def find(self, name: str, *kinds: str) -> Registered:
        """The plugin of that name. Raises CompressitError (nearest names; broken plugins) when there is none."""
        found = self._found.get(name)
        if found is not None and (not kinds or found.kind in kinds):
            return found
        wanted = " or ".join(kinds) or "plugin"
        if found is not None:
            raise CompressitError(f"'{name}' is a {found.kind}, not a {wanted}", did_you_mean(name, self.names(*kinds)))
        hint = did_you_mean(name, self.names(*kinds))
        if not self._found:
            hint = "no plugins are installed; from a checkout run `pip install -e .`"
        elif self._broken:
            broken = "; ".join(f"{b.entry} ({b.owner}): {b.reason}" for b in self._broken)
            hint = f"{hint or ''}{'; ' if hint else ''}these plugins could not be loaded: {broken}"
        raise CompressitError(f"no {wanted} is called '{name}'", hint)

    def create(self, kind: type[P], name: str, config: Mapping[str, Any]) -> P:
        """An instance of plugin `name` with these (already validated or raw) options."""
        from compressit.config import parse

        label = next(label for label, base in KINDS.items() if base is kind)
        found = self.find(name, label).plugin
        return found(parse(found.Config, config))  # type: ignore[return-value]

    def load_file(self, path: Path, expected_digest: str | None = None) -> None:
        """Imports a local plugin file (runs its code: ask for trust first) and registers its hooks.

        Raises CompressitError when the file is missing, changed since it was trusted, or fails to import.
        """
        digest = file_digest(path)
        if expected_digest is not None and digest != expected_digest:
            raise CompressitError(f"{path} has changed since this run was planned", "start the run again")
        name = f"compressit_local_{path.stem}_{digest[:12]}"
        if self._pm.has_plugin(name):
            return
        try:
            module = _import_file(name, path)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            raise CompressitError(f"{path}:{where.lineno}: {type(error).__name__}: {error}") from error
        problem = self._register(module, name, str(path))
        if problem:
            raise CompressitError(f"{path}: {problem}")

    def module_types(self) -> list[Any]:
        """How to rebuild replaced layers: every plugin's `compressit_module_types`."""
        return [kind for kinds in self._pm.hook.compressit_module_types() for kind in kinds]

    def stage_started(self, task: Any) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_started", task=task)

    def stage_finished(self, task: Any, seconds: float) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_finished", task=task, seconds=seconds)

    def stage_failed(self, task: Any, message: str) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_failed", task=task, message=message)

    def _load_entry(self, entry: importlib.metadata.EntryPoint) -> None:
        owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "unknown"
        if entry.name in self._disabled:
            return
        try:
            module = entry.load()
        except Exception as error:  # noqa: BLE001 - somebody's broken plugin must not take the program down
            reason = f"{type(error).__name__}: {error}"
            self._broken.append(Broken(entry.name, owner, reason, traceback.format_exc()))
            return
        problem = self._register(module, entry.name, owner)
        if problem:
            self._broken.append(Broken(entry.name, owner, problem))

    def _register(self, module: ModuleType | Any, entry: str, owner: str) -> str | None:
        """Registers a module's hooks; returns what is wrong with it, leaving it out, or None."""
        try:
            self._pm.register(module, name=entry)
            self._owners[entry] = owner
            self._pm.check_pending()
            found = list(self._classes_of(module, owner))
        except Exception as error:  # noqa: BLE001 - a hook is somebody's code
            if self._pm.has_plugin(entry):
                self._pm.unregister(name=entry)
            return f"{type(error).__name__}: {error}"
        for registered in found:
            name = registered.plugin.name
            if name in self._found:
                other = self._found[name]
                self._pm.unregister(name=entry)
                return (
                    f"'{name}' is the name of two plugins: {_qualified(other.plugin)} ({other.owner}) "
                    f"and {_qualified(registered.plugin)} ({owner}); the first is kept"
                )
        self._found |= {r.plugin.name: r for r in found}
        return None

    def _classes_of(self, module: Any, owner: str) -> Iterator[Registered]:
        for kind, base in KINDS.items():
            hook: Callable[..., Iterable[Any]] | None = getattr(module, f"compressit_{kind}s", None)
            if hook is None or not self._pm.parse_hookimpl_opts(module, f"compressit_{kind}s"):
                continue
            for plugin in hook():
                if not (isinstance(plugin, type) and issubclass(plugin, base)):
                    raise TypeError(f"compressit_{kind}s returned {plugin!r}, which is no {base.__name__} class")
                name = getattr(plugin, "name", None)
                if not isinstance(name, str) or name.count(".") != 1 or not all(name.split(".")):
                    raise ValueError(f"{_qualified(plugin)}.name is {name!r}; it must be like 'kind.method'")
                yield Registered(kind, plugin, owner)

    def _broadcast(self, hook: str, **arguments: Any) -> list[str]:
        complaints: list[str] = []
        for implementation in getattr(self._pm.hook, hook).get_hookimpls():
            names = implementation.argnames
            try:
                implementation.function(**{name: arguments[name] for name in names})
            except Exception as error:  # noqa: BLE001 - an observer never fails a stage
                complaints.append(f"{implementation.plugin_name}: {hook}: {type(error).__name__}: {error}")
        return complaints


@cache
def installed() -> Host:
    """The host with everything installed in this environment, less COMPRESSIT_DISABLE_PLUGINS (`a,b`; names of
    entry points; `*` for all)."""
    disabled = [name.strip() for name in os.environ.get("COMPRESSIT_DISABLE_PLUGINS", "").split(",") if name.strip()]
    return Host(entry_points="*" not in disabled, disabled=disabled)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes. Raises CompressitError when it cannot be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise CompressitError(f"{path}: {error.strerror}") from error


def _entry_points() -> list[importlib.metadata.EntryPoint]:
    entries = importlib.metadata.entry_points(group="compressit")
    # Ours first, so that a duplicate name is blamed on the one who came later; then by name, so that it is stable.
    return sorted(entries, key=lambda e: (e.dist is None or e.dist.name != "compressit", e.name))


def _import_file(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise CompressitError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _qualified(plugin: type) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"
