"""The plugin host. It collects plugin classes and finds them by name. Only this module uses pluggy."""

from __future__ import annotations

import copy
import importlib.metadata
import os
import re
import traceback
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

import pluggy

from compressit.config import parse
from compressit.contract import hookspecs
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Report, Trainer
from compressit.contract.observer import Observer
from compressit.contract.plugin import Plugin
from compressit.contract.tasks import Task
from compressit.datasets.task_spec import CLASSIFICATION, TaskSpec
from compressit.errors import FOREIGN, CompressitError, did_you_mean, told
from compressit.host import localcode, localimport, own
from compressit.host.localcode import LocalCode
from compressit.host.registration import LOCAL, PluginFault, check_class, check_hooks, classes_of, shown

KINDS: Mapping[str, type[Plugin[Any]]] = {
    "trainer": Trainer,
    "compressor": Compressor,
    "evaluator": Evaluator,
    "model": Model,
    "dataset": Dataset,
    "task": Task,
    "report": Report,
    "observer": Observer,
}
P = TypeVar("P", bound=Plugin[Any])
_IMPORTING: ContextVar[Host | None] = ContextVar("compressit_importing", default=None)


@dataclass(frozen=True)
class Source:
    """Where plugins come from: "compressit 0.1.0", or "./mine.py"."""

    name: str  # of the distribution, or the path of a local file
    version: str | None = None  # None for a local file

    @property
    def is_local(self) -> bool:
        """Whether it is a local file, which other machines may not have."""
        return self.version is None and Path(self.name).is_file()

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else self.name


@dataclass(frozen=True)
class Registered:
    """One plugin class and where it came from."""

    kind: str
    plugin: type[Plugin[Any]]
    source: Source
    live: bool = False  # registered in this process only

    @property
    def owner(self) -> str:
        """The source in words."""
        return str(self.source)


@dataclass(frozen=True)
class Broken:
    """A plugin module that could not be used, and why."""

    entry: str  # the entry point's name or the file
    source: Source
    reason: str  # one line
    details: str = ""  # the traceback

    @property
    def owner(self) -> str:
        """The source in words."""
        return str(self.source)


class Host:
    """The installed plugins, plus local files given to `load_file`."""

    def __init__(self, entry_points: bool = True, disabled: Iterable[str] = ()) -> None:
        self._pm = pluggy.PluginManager("compressit")
        self._pm.add_hookspecs(hookspecs)
        self._found: dict[str, Registered] = {}
        self._sources: dict[str, Source] = {}  # by the name of a registration
        self._local: dict[Path, tuple[str, LocalCode]] = {}  # registrations of local files, by the real file
        # plugins that could not be loaded: listed, and named when a recipe asks for one
        self.broken: list[Broken] = []
        self.disabled = frozenset(disabled)  # entry points that COMPRESSIT_DISABLE_PLUGINS disables
        self._register(own, "compressit", Source("compressit", _own_version()))
        for source, entry in _entry_points() if entry_points else ():
            if entry.name not in self.disabled:
                self._load_entry(entry, source)

    def registered(self, kind: str | None = None) -> list[Registered]:
        """All plugins (of one kind), by name."""
        return [r for _, r in sorted(self._found.items()) if kind in (None, r.kind)]

    def names(self, *kinds: str) -> list[str]:
        """Names of all plugins (of these kinds), sorted."""
        return [name for name, r in sorted(self._found.items()) if not kinds or r.kind in kinds]

    def find(self, name: str, *kinds: str) -> Registered:
        """The plugin of that name. If there is none, raises CompressitError with similar names and broken plugins."""
        found = self._found.get(name)
        if found is not None and (not kinds or found.kind in kinds):
            return found
        wanted = " or ".join(kinds) or "plugin"
        if found is not None:
            hint = did_you_mean(name, self.names(*kinds))
            raise CompressitError(f"'{name}' is {_article(found.kind)}, not {_article(wanted)}", hint)
        hints = [did_you_mean(name, self.names(*kinds)), *self.left_out()]
        raise CompressitError(f"no {wanted} is called '{name}'", "; ".join(filter(None, hints)) or None)

    def left_out(self) -> list[str]:
        """Hints why an installed plugin may be missing."""
        hints: list[str] = []
        if self.broken:
            broken = "; ".join(f"{b.entry} ({b.owner}): {b.reason}" for b in self.broken)
            hints.append(f"these plugins could not be loaded: {broken}")
        if self.disabled:
            hints.append(f"COMPRESSIT_DISABLE_PLUGINS disables: {', '.join(sorted(self.disabled))}")
        if not (self._found.keys() - {CLASSIFICATION} or self.broken or self.disabled):
            hints.append("no plugins are installed; from a checkout run `pip install -e .`")
        return hints

    def create(self, kind: type[P], name: str, config: Mapping[str, Any]) -> P:
        """An instance of plugin `name` with these options, validated or not."""
        label = next(label for label, base in KINDS.items() if base is kind)
        found = self.find(name, label).plugin
        return found(parse(found.Config, config))  # type: ignore[return-value]

    def task(self, posed: TaskSpec) -> Task[Any]:
        """The task that `posed` names, with its options. Raises CompressitError if there is none of that name."""
        found = cast("type[Task[Any]]", self.find(posed.uses, "task").plugin)
        return found(parse(found.Config, posed.options), posed)

    def load_file(self, path: Path, expected_digest: str | None = None) -> None:
        """Imports a local plugin file and registers its hooks. This runs its code: ask for trust first.

        A changed file replaces its earlier version. Raises CompressitError if the file is missing, if it or a module
        beside it changed since it was trusted, if two plugins have modules of the same name, or if the import fails.
        """
        code = localcode.read(path)
        if expected_digest is not None and code.digest != expected_digest:
            raise CompressitError(f"{path} has changed since this run was planned", "start the run again")
        name = f"{LOCAL}{path.stem}_{code.digest[:12]}"
        if self._pm.has_plugin(name):
            return
        place = code.folder / code.name
        self._check_apart(code, place)
        found, sources = self._found, self._sources
        before, _ = self._local.get(place, (None, None))
        module = self._pm.unregister(name=before) if before is not None else None
        if before is not None:  # remove what the earlier version registered
            self._sources = {name: source for name, source in sources.items() if name != before}
            self._found = {name: r for name, r in found.items() if r.source != sources[before]}
        kept = self._found
        try:
            with self._imports():
                loaded = localimport.run(name, code)
            self._register(loaded, name, Source(str(path)), has_models=self._found is not kept)
        except BaseException as error:
            self._found, self._sources = found, sources  # undo models that it already registered
            if module is not None:
                self._pm.register(module, name=before)
            if isinstance(error, FOREIGN):
                raise _fault(error, code) from error
            raise
        self._local[place] = (name, code)

    def _check_apart(self, code: LocalCode, place: Path) -> None:
        """Raises CompressitError if a module name means different files to this plugin and to a loaded one."""
        for other, (_, loaded) in self._local.items():
            shared = localimport.clash(code, loaded) if other != place else None
            if shared is not None:
                raise CompressitError(
                    f"{code.path} and {loaded.path} import different modules of the same name, '{shared}'",
                    "Python allows only one module per name: rename one of the two files",
                )

    def add_model(self, plugin: type[Model[Any]], source: Source) -> None:
        """Registers one model, without a hook. It replaces a model with the same builder; a model from a plugin file
        also replaces one that this process registered itself.

        Raises CompressitError if the name is malformed or belongs to another plugin.
        """
        check_class(plugin, Model)
        made = Registered("model", plugin, source, live=_IMPORTING.get() is None)
        other = self._found.get(plugin.name)
        from_file = other is not None and other.live and not made.live
        if other is not None and not from_file and _qualified(other.plugin) != _qualified(plugin):
            raise _twice(other, made)
        self._found = {**self._found, plugin.name: made}

    def beside(self, plugins: Iterable[type[Plugin[Any]]], source: Source) -> Host:
        """A host with these plugins, which only this process has, besides all of this one, which stays as it is.

        Raises CompressitError if a name is malformed or belongs to another plugin.
        """
        host = copy.copy(self)
        for plugin in plugins:
            kind = next(label for label, base in KINDS.items() if issubclass(plugin, base))
            check_class(plugin, KINDS[kind])
            made = Registered(kind, plugin, source, live=True)
            if (other := host._found.get(plugin.name)) is not None:
                raise _twice(other, made)
            host._found = {**host._found, plugin.name: made}
        return host

    def module_types(self) -> list[Any]:
        """How to rebuild replaced layers: the `compressit_module_types` of all plugins whose hook works."""
        return [rule for rule, _ in self._module_types()]

    def module_type_sources(self) -> dict[str, Source]:
        """The source of each of `module_types`, by name."""
        return {rule.name: source for rule, source in self._module_types()}

    def module_type_modules(self) -> list[str]:
        """The sorted names of modules that may rebuild replaced layers. Does not call their code."""
        found = self._pm.hook.compressit_module_types.get_hookimpls()
        return sorted({implementation.function.__module__ for implementation in found})

    def _module_types(self) -> list[tuple[Any, Source]]:
        found: list[tuple[Any, Source]] = []
        for name, source in self._sources.items():
            try:
                answers = self._call(name, "compressit_module_types")
                found += [(rule, source) for rules in answers for rule in rules]
            except FOREIGN as error:
                broken = Broken(name, Source(name), _reason(error))
                if broken not in self.broken:
                    self.broken.append(broken)
        return found

    def _call(self, name: str, hook: str, **arguments: Any) -> list[Any]:
        """The results of a hook in one registration, empty if it has none. Raises what the hook raises."""
        others = [plugin for other, plugin in self._pm.list_name_plugin() if other != name]
        return self._pm.subset_hook_caller(hook, others)(**arguments)

    @contextmanager
    def _imports(self) -> Generator[None]:
        """In this block, `@compressit.model` registers with this host."""
        token = _IMPORTING.set(self)
        try:
            yield
        finally:
            _IMPORTING.reset(token)

    def _load_entry(self, entry: importlib.metadata.EntryPoint, source: Source) -> None:
        try:
            with self._imports():
                module = entry.load()
            # two distributions may use the same entry name
            self._register(module, f"{source} ({entry.name})", source)
        except FOREIGN as error:  # a broken plugin must not stop the program
            details = "" if isinstance(error, CompressitError) else traceback.format_exc()
            self.broken.append(Broken(entry.name, source, _reason(error), details))

    def _register(self, module: Any, name: str, source: Source, has_models: bool = False) -> None:
        """Registers all hooks of a module. If one is faulty, raises and registers none."""
        found = dict(self._found)
        try:
            check_hooks(module, partial(self._pm.parse_hookimpl_opts, module))
            self._pm.register(module, name=name)
            for kind, base in KINDS.items():
                for plugin in classes_of(module, f"compressit_{kind}s", base, partial(self._call, name)):
                    registered = Registered(kind, plugin, source)
                    other = found.setdefault(plugin.name, registered)
                    if other is not registered:
                        raise _twice(other, registered)
            if not self._pm.get_hookcallers(module) and not has_models:
                raise PluginFault(
                    "it has no hook: add `@hookimpl def compressit_compressors(): return [...]`"
                )
        except BaseException:
            if self._pm.has_plugin(name):
                self._pm.unregister(name=name)
            raise
        self._found, self._sources = found, {**self._sources, name: source}


@cache
def installed() -> Host:
    """The host with all plugins installed in this environment, except those in COMPRESSIT_DISABLE_PLUGINS
    (entry points, separated by commas; `*` for all)."""
    names = (name.strip() for name in os.environ.get("COMPRESSIT_DISABLE_PLUGINS", "").split(","))
    disabled = frozenset(filter(None, names))
    return Host(entry_points="*" not in disabled, disabled=disabled)


def importing() -> Host:
    """The host that is importing a plugin's module now; otherwise the installed host."""
    return _IMPORTING.get() or installed()


def _own_version() -> str | None:
    try:
        return importlib.metadata.version("compressit")
    except importlib.metadata.PackageNotFoundError:  # a bare checkout
        return None


def _entry_points() -> list[tuple[Source, importlib.metadata.EntryPoint]]:
    """All entry points with their sources, ours first, so that a duplicate name is blamed on the other plugin."""

    @cache  # a distribution parses its metadata on every access
    def source(known: importlib.metadata.Distribution | None) -> Source:
        return Source(known.name, known.version) if known else Source("unknown")

    found = [(source(entry.dist), entry) for entry in importlib.metadata.entry_points(group="compressit")]
    return sorted(found, key=lambda item: (item[0].name != "compressit", item[1].name))


def _twice(one: Registered, other: Registered) -> PluginFault:
    first, second = (f"{shown(r.plugin)} ({r.source})" for r in (one, other))
    message = f"'{one.plugin.name}' is the name of two plugins: {first} and {second}; the first is kept"
    return PluginFault(message, at=other.plugin.__qualname__)


def _fault(error: BaseException, code: LocalCode) -> CompressitError:
    """An error in a local file, with its line if known."""
    line = _line(error, str(code.folder / code.name), code.source)
    place = f"{code.path}:{line}" if line else f"{code.path}"
    if isinstance(error, CompressitError):
        return CompressitError(f"{place}: {error.message}", error.hint)
    return CompressitError(f"{place}: {_reason(error)}")


def _line(error: BaseException, file: str, source: bytes) -> int | None:
    """The last line of this file in the traceback, else the line of the faulty function or class."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return error.lineno or 1
    at: BaseException | None = error
    while at is not None:
        frames = [frame for frame in traceback.extract_tb(at.__traceback__) if frame.filename == file]
        if frames:
            return frames[-1].lineno
        at = at.__cause__
    if isinstance(error, PluginFault) and error.at:
        wanted = re.compile(rf"\s*(async\s+)?(def|class)\s+{re.escape(error.at)}\b".encode())
        lines = (number for number, line in enumerate(source.splitlines(), 1) if wanted.match(line))
        return next(lines, None)
    return None


def _reason(error: BaseException) -> str:
    """The error on one line."""
    text = str(error) if isinstance(error, CompressitError) else told(error)
    return " ".join(text.split())


def _qualified(plugin: type) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
