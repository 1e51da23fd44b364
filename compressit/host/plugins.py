"""The plugin host: the only module that touches pluggy. It collects classes and selects them by name."""

from __future__ import annotations

import importlib.metadata
import os
import re
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy

from compressit.config import parse
from compressit.contract import hookspecs
from compressit.contract.kinds import Compressor, Dataset, Evaluator, Model, Plugin, Report, Trainer
from compressit.errors import FOREIGN, CompressitError, did_you_mean, told
from compressit.files import reading
from compressit.host import localcode, localimport
from compressit.host.localcode import LocalCode
from compressit.host.registration import LOCAL, PluginFault, check_class, check_hooks, classes_of, shown

KINDS: Mapping[str, type[Plugin[Any]]] = {
    "trainer": Trainer,
    "compressor": Compressor,
    "evaluator": Evaluator,
    "model": Model,
    "dataset": Dataset,
    "report": Report,
}
P = TypeVar("P", bound=Plugin[Any])
_IMPORTING: ContextVar[Host | None] = ContextVar("compressit_importing", default=None)


@dataclass(frozen=True)
class Source:
    """Where plugins come from: "compressit 0.1.0", or "./mine.py"."""

    name: str  # the distribution's, or the path of a local file
    version: str | None = None  # None for a local file

    @property
    def is_local(self) -> bool:
        """Whether it is a file, which only those have who were given it."""
        return self.version is None and Path(self.name).is_file()

    def __str__(self) -> str:
        return f"{self.name} {self.version}" if self.version else self.name


@dataclass(frozen=True)
class Registered:
    """One plugin class and where it came from."""

    kind: str
    plugin: type[Plugin[Any]]
    source: Source
    live: bool = False  # a model that this process registered itself: no other process has it

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
        self._broken: list[Broken] = []
        self._sources: dict[str, Source] = {}  # by the name of a registration
        self._local: dict[Path, tuple[str, LocalCode]] = {}  # registrations of local files, by the real file
        self._disabled = frozenset(disabled)
        if entry_points:
            for source, entry in _entry_points():
                self._load_entry(entry, source)

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
        """The plugin of that name. Raises CompressitError (nearest names, broken plugins) for none."""
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
        """In words, why a plugin may be missing although it is installed."""
        hints: list[str] = []
        if self._broken:
            broken = "; ".join(f"{b.entry} ({b.owner}): {b.reason}" for b in self._broken)
            hints.append(f"these plugins could not be loaded: {broken}")
        if self._disabled:
            hints.append(f"COMPRESSIT_DISABLE_PLUGINS leaves out: {', '.join(sorted(self._disabled))}")
        if not (self._found or self._broken or self._disabled):
            hints.append("no plugins are installed; from a checkout run `pip install -e .`")
        return hints

    def create(self, kind: type[P], name: str, config: Mapping[str, Any]) -> P:
        """An instance of plugin `name` with these (already validated or raw) options."""
        label = next(label for label, base in KINDS.items() if base is kind)
        found = self.find(name, label).plugin
        return found(parse(found.Config, config))  # type: ignore[return-value]

    def load_file(self, path: Path, expected_digest: str | None = None) -> None:
        """Imports a local plugin file (runs its code: ask for trust first) and registers its hooks.

        Loaded again with changed code, it takes its own place. Raises CompressitError when the file is missing, it or a
        module beside it changed since it was trusted, two plugins have modules of one name, or it fails to import.
        """
        code = localcode.read(path)
        if expected_digest is not None and code.digest != expected_digest:
            raise CompressitError(f"{path} has changed since this run was planned", "start the run again")
        name = f"{LOCAL}{path.stem}_{code.digest[:12]}"
        if self._pm.has_plugin(name):
            return
        place = code.folder / code.name
        self._check_apart(code, place)
        with self._in_place_of(place):
            token = _IMPORTING.set(self)
            before = self._found
            try:
                module = localimport.run(name, code)
            except FOREIGN as error:
                raise _fault(error, code) from error
            finally:
                _IMPORTING.reset(token)
            has_models = self._found is not before
            error = self._register(module, name, Source(str(path)), has_models)
            if error is not None:
                raise _fault(error, code) from error
        self._local[place] = (name, code)

    def _check_apart(self, code: LocalCode, place: Path) -> None:
        """Raises CompressitError where a name means one module to this plugin and another to one that is loaded."""
        for other, (_, loaded) in self._local.items():
            shared = localimport.clash(code, loaded) if other != place else None
            if shared is not None:
                message = (
                    f"{code.path} and {loaded.path} import a module of one name, '{shared}', each its own"
                )
                raise CompressitError(
                    message, "Python has one module of each name: rename one of the two files"
                )

    @contextmanager
    def _in_place_of(self, place: Path) -> Generator[None]:
        """Takes out what that file brought before; puts it back if what happens inside raises."""
        found, sources = self._found, self._sources
        name, _ = self._local.get(place, (None, None))
        module = self._pm.unregister(name=name) if name is not None else None
        if name is not None:
            gone = sources[name]
            self._sources = {key: source for key, source in sources.items() if key != name}
            self._found = {key: r for key, r in found.items() if r.source != gone}
        try:
            yield
        except BaseException:
            self._found, self._sources = found, sources  # a model that it had already named is gone with it
            if module is not None:
                self._pm.register(module, name=name)
            raise

    def add_model(self, plugin: type[Model[Any]], source: Source) -> None:
        """Registers one model, without a hook; made again of the same builder, it takes the old one's place, and one
        of a plugin file that of a model which this process registered itself.

        Raises CompressitError when its name is malformed or another plugin's.
        """
        check_class(plugin, Model)
        made = Registered("model", plugin, source, live=_IMPORTING.get() is None)
        other = self._found.get(plugin.name)
        from_file = other is not None and other.live and not made.live
        if other is not None and not from_file and _qualified(other.plugin) != _qualified(plugin):
            raise _twice(other, made)
        self._found = {**self._found, plugin.name: made}

    def module_types(self) -> list[Any]:
        """How to rebuild replaced layers: every plugin's `compressit_module_types` that works."""
        return [rule for rule, _ in self._module_types()]

    def module_type_owners(self) -> dict[str, str]:
        """Where each of `module_types` comes from in words, by its name."""
        return {name: str(source) for name, source in self.module_type_sources().items()}

    def module_type_sources(self) -> dict[str, Source]:
        """Where each of `module_types` comes from, by its name."""
        return {rule.name: source for rule, source in self._module_types()}

    def module_type_modules(self) -> list[str]:
        """The modules that may rebuild replaced layers, sorted; none of their code is called for it."""
        found = self._pm.hook.compressit_module_types.get_hookimpls()
        return sorted({implementation.function.__module__ for implementation in found})

    def _module_types(self) -> Iterator[tuple[Any, Source]]:
        for implementation in self._pm.hook.compressit_module_types.get_hookimpls():
            hook: Callable[[], Any] = implementation.function
            try:
                yield from [(rule, self._sources[implementation.plugin_name]) for rule in hook()]
            except FOREIGN as error:  # a hook is somebody's code
                name = implementation.plugin_name
                broken = Broken(name, Source(name), _reason(error))
                if broken not in self._broken:
                    self._broken.append(broken)

    def stage_started(self, job: Any) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_started", job=job)

    def stage_finished(self, job: Any, seconds: float) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_finished", job=job, seconds=seconds)

    def stage_failed(self, job: Any, message: str) -> list[str]:
        """Tells the observers; returns the complaints of those that failed."""
        return self._broadcast("compressit_stage_failed", job=job, message=message)

    def _load_entry(self, entry: importlib.metadata.EntryPoint, source: Source) -> None:
        if entry.name in self._disabled:
            return
        token = _IMPORTING.set(self)
        try:
            module = entry.load()
        except FOREIGN as error:  # must not take the program down
            self._broken.append(Broken(entry.name, source, _reason(error), traceback.format_exc()))
            return
        finally:
            _IMPORTING.reset(token)
        # two distributions may use one entry name
        error = self._register(module, f"{source} ({entry.name})", source)
        if error is not None:
            self._broken.append(Broken(entry.name, source, _reason(error)))

    def _register(
        self, module: ModuleType | Any, name: str, source: Source, has_models: bool = False
    ) -> BaseException | None:
        """Registers a module's hooks; returns what is wrong with it, leaving it out, or None."""
        found = dict(self._found)
        try:
            check_hooks(module, lambda hook: self._pm.parse_hookimpl_opts(module, hook))
            self._pm.register(module, name=name)
            for registered in _registered(module, source):
                other = found.setdefault(registered.plugin.name, registered)
                if other is not registered:
                    raise _twice(other, registered)
            if not self._pm.get_hookcallers(module) and not has_models:
                raise PluginFault(
                    "it has no hook: add `@hookimpl def compressit_compressors(): return [...]`"
                )
        except FOREIGN as error:  # a hook is somebody's code
            if self._pm.has_plugin(name):
                self._pm.unregister(name=name)
            return error
        self._found = found
        self._sources = {**self._sources, name: source}
        return None

    def _broadcast(self, hook: str, **arguments: Any) -> list[str]:
        complaints: list[str] = []
        for implementation in getattr(self._pm.hook, hook).get_hookimpls():
            names = implementation.argnames
            try:
                implementation.function(**{name: arguments[name] for name in names})
            except FOREIGN as error:  # an observer never fails a stage
                complaints.append(f"{implementation.plugin_name}: {hook}: {_reason(error)}")
        return complaints


@cache
def installed() -> Host:
    """The host with everything installed in this environment, less what COMPRESSIT_DISABLE_PLUGINS names:
    entry points, separated by commas; `*` for all."""
    names = (name.strip() for name in os.environ.get("COMPRESSIT_DISABLE_PLUGINS", "").split(","))
    disabled = frozenset(filter(None, names))
    return Host(entry_points="*" not in disabled, disabled=disabled)


def importing() -> Host:
    """The host that imports a plugin's module at this moment; at any other, the installed one."""
    return _IMPORTING.get() or installed()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes. Raises CompressitError when it cannot be read."""
    try:
        return reading.digest(path)
    except OSError as error:
        raise CompressitError(f"{path}: {error.strerror}") from error


def _entry_points() -> list[tuple[Source, importlib.metadata.EntryPoint]]:
    """Every entry point with its source: ours first, so that a duplicate name is blamed on who came later."""
    sources: dict[int, Source] = {}  # a distribution parses its metadata anew at every question
    found: list[tuple[Source, importlib.metadata.EntryPoint]] = []
    for entry in importlib.metadata.entry_points(group="compressit"):
        if id(entry.dist) not in sources:
            known = entry.dist
            sources[id(known)] = Source(known.name, known.version) if known else Source("unknown")
        found.append((sources[id(entry.dist)], entry))
    return sorted(found, key=lambda item: (item[0].name != "compressit", item[1].name))


def _registered(module: Any, source: Source) -> Iterator[Registered]:
    for kind, base in KINDS.items():
        for plugin in classes_of(module, kind, base):
            yield Registered(kind, plugin, source)


def _twice(one: Registered, other: Registered) -> PluginFault:
    first, second = (f"{shown(r.plugin)} ({r.source})" for r in (one, other))
    message = f"'{one.plugin.name}' is the name of two plugins: {first} and {second}; the first is kept"
    return PluginFault(message, at=other.plugin.__qualname__)


def _fault(error: BaseException, code: LocalCode) -> CompressitError:
    """An error of a local file, with its line where one is known."""
    line = _line(error, str(code.folder / code.name), code.source)
    place = f"{code.path}:{line}" if line else f"{code.path}"
    if isinstance(error, CompressitError):
        return CompressitError(f"{place}: {error.message}", error.hint)
    return CompressitError(f"{place}: {_reason(error)}")


def _line(error: BaseException, file: str, source: bytes) -> int | None:
    """The last line of this file that the error passed through, else that of what is at fault."""
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
    """In one line."""
    text = str(error) if isinstance(error, CompressitError) else told(error)
    return " ".join(text.split())


def _qualified(plugin: type) -> str:
    return f"{plugin.__module__}.{plugin.__qualname__}"


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
