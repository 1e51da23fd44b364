"""Runs a local plugin file exactly as it was read. It can import only files read with it and installed modules."""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from compressit.files import reading
from compressit.host.localcode import SOURCE, LocalCode


def run(name: str, code: LocalCode) -> ModuleType:
    """Imports the plugin file as the module `name`. It can import the files read with it, now and later."""
    _make_importable(code)
    place = str(code.folder / code.name)  # the real path, as for its imports
    loader = _Loader(name, place, code.source, code)
    spec = ModuleSpec(name, loader, origin=place)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loader(SourceFileLoader):
    """Runs exactly the bytes that were read. Does not read the file again or use cached bytecode."""

    def __init__(self, fullname: str, path: str, source: bytes, code: LocalCode) -> None:
        super().__init__(fullname, path)
        self.code = code  # the plugin that the module belongs to
        self._source = source

    def get_data(self, path: str) -> bytes:
        """The module's bytes as they were read. Other files are read from disk, for `pkgutil.get_data`."""
        return self._source if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Always raises OSError, so that no cached bytecode is used."""
        raise OSError


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules read with a plugin, unless an installed module has that name. Refuses the plugin other files."""

    def __init__(self, code: LocalCode) -> None:
        self.code = code
        self.brought: dict[str, str] = {}  # imported modules, and their paths in the plugin's folder
        self._path = list(sys.path)  # before the plugin can change it
        self._names = {_stem(part) for file in code.contents for part in file.split("/")}
        # by real path, since a link may lead out of the folder
        self._read = {_real(code.folder / name): name for name in (*code.contents, *code.folders - {"."})}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None for a module that is not the plugin's. Raises ImportError for a file that the user was not shown."""
        if fullname.split(".")[0] not in self._names and _importer() != self.code:
            return None
        package, _, name = fullname.rpartition(".")
        if package:
            below = [self._read[place] for place in map(_real, path or ()) if place in self._read]
            if not below:
                return None  # in an installed package
            found, other = self.code.find(name, below[0]), PathFinder.find_spec(fullname, path)
        else:
            other = _by_others(fullname)
            found = self.code.find(name) if other is None else self._as_read(other)
        if found is not None:
            self.brought[fullname] = found
            return self._spec(fullname, found)
        if other is None or _importer() != self.code or not (package or self._is_new(fullname)):
            return None
        raise ModuleNotFoundError(
            f"'{fullname}' is neither installed nor among the files that the plugin names: "
            f"{', '.join(map(str, _places(other)))}",
            name=fullname,
        )

    def _as_read(self, spec: ModuleSpec) -> str | None:
        """The module's file if it was read. The search path found it: changed by the plugin, or in a notebook."""
        return next((self._read[place] for place in _places(spec) if place in self._read), None)

    def _is_new(self, name: str) -> bool:
        """Whether it is found only by what was added to the search path since the plugin was read."""
        now, before = (PathFinder.find_spec(name, path) for path in (None, self._path))
        return now is not None and (before is None or _places(before) != _places(now))

    def _spec(self, fullname: str, found: str) -> ModuleSpec | None:
        file, data = self.code.folder / found, self.code.contents.get(found)
        if data is None:
            spec = ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        if found.endswith(SOURCE):
            loader: Any = _Loader(fullname, str(file), data, self.code)
        elif reading.content(file) == data:
            loader = ExtensionFileLoader(fullname, str(file))
        else:
            raise ImportError(f"{file} has changed since it was read", name=fullname, path=str(file))
        below = [str(file.parent)] if file.name.startswith("__init__.") else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=below
        )


def clash(one: LocalCode, other: LocalCode) -> str | None:
    """A name under which both plugins would import different modules, which Python does not allow; else None."""
    first, second = _first_names(one), _first_names(other)
    for name in sorted(first.keys() & second.keys()):
        if first[name].isdisjoint(second[name]) and _by_others(name) is None:
            return name
    return None


def _first_names(code: LocalCode) -> Mapping[str, set[Path]]:
    """Top-level module names that the plugin may import, and the files that they may mean.

    These are all modules beside it, since it may build names for `import_module`, and the names in its import
    statements, looked up in deeper folders too, since it may extend the search path (`src`).
    """
    found = {name: {code.find(name, folder) for folder in code.folders} for name in code.imported}
    for name in set(map(_stem, code.contents)) - {"__init__"}:
        place = code.find(name)
        if place in code.contents and place != code.name:
            found.setdefault(name, set()).add(place)
    return {
        name: {_real(code.folder / place) for place in places if place}
        for name, places in found.items()
        if any(places)
    }


def _make_importable(code: LocalCode) -> None:
    """Adds a finder for this code, and removes the finder for an earlier version of the file.

    Removes modules from sys.modules that would now be found elsewhere or have changed, so that the next import
    loads them again.
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
    if any(finder.code == code for finder in finders):
        return
    for finder in finders:
        again = (finder.code.folder, finder.code.name) == (code.folder, code.name)
        if again:
            sys.meta_path.remove(finder)
        for name in finder.brought:
            if again or _differ(finder.code, code, name.split(".")[0]):
                sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Finder(code))


def _differ(before: LocalCode, code: LocalCode, name: str) -> bool:
    """Whether both have a module of that name and the two differ."""
    if code.find(name) is None:
        return False
    parts = [file for file in before.contents if _stem(file) == name]
    return before.folder != code.folder or any(
        code.contents.get(file, before.contents[file]) != before.contents[file] for file in parts
    )


def _by_others(name: str) -> ModuleSpec | None:
    """The module of that name without local plugins."""
    others = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
    return next(filter(None, (finder.find_spec(name, None) for finder in others)), None)


def _importer() -> LocalCode | None:
    """The plugin whose code is importing a module now."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if frame.f_globals is not globals() and not name.startswith(("importlib", "_frozen_importlib")):
            loader = frame.f_globals.get("__loader__")
            return loader.code if isinstance(loader, _Loader) else None
        frame = frame.f_back
    return None


def _places(spec: ModuleSpec) -> list[Path]:
    """The module's file, or the folders of a package without one."""
    return [*map(_real, [spec.origin] if spec.origin else spec.submodule_search_locations or ())]


def _real(place: str | Path) -> Path:
    return Path(place).resolve()


def _stem(file: str) -> str:
    """The top-level name of a module in this file."""
    return file.split("/")[0].split(".")[0]
