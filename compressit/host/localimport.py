"""Runs a local plugin file as it was read, and lets it import what was read with it and what is installed: no more."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from compressit.files import reading
from compressit.host.localcode import SOURCE, LocalCode


def run(name: str, code: LocalCode) -> ModuleType:
    """Imports the plugin file as the module `name`, with its own neighbours to import, now and later."""
    _make_importable(code)
    place = str(code.folder / code.name)  # the real one, as its imports have it
    loader = _Loader(name, place, code.source, code)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=place)
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs exactly the bytes that were read: no second reading, no cached bytecode."""

    def __init__(self, fullname: str, path: str, source: bytes, code: LocalCode) -> None:
        super().__init__(fullname, path)
        self.code = code  # whose module it is
        self._source = source

    def get_data(self, path: str) -> bytes:
        """The module's bytes as they were read; any other file, for `pkgutil.get_data`, from the disk."""
        return self._source if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """None, so that nothing takes bytecode for this source's."""
        raise OSError


class _Finder(importlib.abc.MetaPathFinder):
    """Finds a plugin's neighbours where nothing installed has their name."""

    def __init__(self, code: LocalCode) -> None:
        self.code = code
        self._path = tuple(sys.path)  # as it is before the plugin can change it

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = self.code.find(fullname)
        if found is None or self._belongs_to_another(fullname, found, path, target):
            return self._by_a_path_of_its_own(fullname, path) if _importer() is self.code else None
        return self._spec(fullname, found)

    def _spec(self, fullname: str, found: str) -> importlib.machinery.ModuleSpec | None:
        file, data = self.code.folder / found, self.code.contents.get(found)
        if data is None:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        if found.endswith(SOURCE):
            loader: Any = _Loader(fullname, str(file), data, self.code)
        elif reading.content(file) == data:
            loader = importlib.machinery.ExtensionFileLoader(fullname, str(file))
        else:
            raise ImportError(f"{file} has changed since it was read", name=fullname, path=str(file))
        below = [str(file.parent)] if file.name.startswith("__init__.") else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=below
        )

    def _by_a_path_of_its_own(
        self, fullname: str, path: Sequence[str] | None
    ) -> importlib.machinery.ModuleSpec | None:
        """What the plugin imports by a search path that it has changed: as it was read, or not at all.

        Raises ImportError for what nobody was asked about. None for what is installed.
        """
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None:
            return None
        places = [Path(place).resolve() for place in _places(spec)]
        if path is None:
            before = importlib.machinery.PathFinder.find_spec(fullname, self._path)
            if before is not None and _places(before) == _places(spec):
                return None
        for place in places:
            if place in self._read:
                return self._spec(fullname, self._read[place])
        if path is not None and not all(map(self._is_beside, places)):
            return None  # of a package that was let in
        raise ImportError(
            f"'{fullname}' is neither installed nor among the files beside the plugin that it names: "
            f"{', '.join(map(str, places))}",
            name=fullname,
        )

    @cached_property
    def _read(self) -> Mapping[Path, str]:
        """What was read, by real path: a link beside the plugin may lead out of its folder."""
        names = (*self.code.modules.values(), *self.code.contents)
        return {(self.code.folder / name).resolve(): name for name in names}

    def _is_beside(self, place: Path) -> bool:
        """Whether it lies where files were read, and not among what is installed: `.venv` may be there too."""
        folder = self.code.folder
        read = {(folder / name).parent.resolve() for name in self.code.contents}
        installed = {Path(entry).resolve() for entry in self._path} - {folder, *folder.parents}
        return any(map(place.is_relative_to, read)) and not any(map(place.is_relative_to, installed))

    def _belongs_to_another(
        self, fullname: str, found: str, path: Sequence[str] | None, target: ModuleType | None
    ) -> bool:
        """Whether the name is that of something installed, or of a package that is not the plugin's."""
        top, _, below = fullname.partition(".")
        if below:
            return not _is_of(self.code, sys.modules.get(top))
        for finder in sys.meta_path:
            if not isinstance(finder, _Finder):
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:  # by the current folder, in a notebook, it may be the very same file
                    return not _same(spec, self.code.folder / found)
        return False


def clash(one: LocalCode, other: LocalCode) -> str | None:
    """A name under which both would import a module of their own: Python has one module of each name."""
    first, second = _first_names(one), _first_names(other)
    for name in sorted(first.keys() & second.keys()):
        if first[name].isdisjoint(second[name]) and not _is_installed(name):
            return name
    return None


def _first_names(code: LocalCode) -> Mapping[str, set[Path]]:
    """Names of modules that the plugin may import with no package before them, and the files that they may mean.

    Beside it lies what it may import by a name that it makes, as `import_module` does; deeper, by a search path of its
    own (`src`), what its import statements name.
    """
    found: dict[str, set[Path]] = {}
    for module, file in code.modules.items():
        name = module.rpartition(".")[2]
        is_beside = name == module and file in code.contents and file != code.name
        if is_beside or name in code.imported:
            found.setdefault(name, set()).add((code.folder / file).resolve())
    return found


def _is_installed(name: str) -> bool:
    finders = (finder for finder in sys.meta_path if not isinstance(finder, _Finder))
    return any(finder.find_spec(name, None) is not None for finder in finders)


def _make_importable(code: LocalCode) -> None:
    """Puts a finder for this code into the place of one for what its file held before.

    Modules that it would now find elsewhere, or changed, are forgotten: they are imported again when asked for.
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Finder)]
    if any(finder.code == code for finder in finders):
        return
    for finder in finders:
        before = finder.code
        again = (before.folder, before.name) == (code.folder, code.name)
        if again:
            sys.meta_path.remove(finder)
        for name, file in before.modules.items():
            stale = again or _differ(before, file, code, code.find(name))
            if stale and name in sys.modules and _is_of(before, sys.modules[name]):
                del sys.modules[name]
    sys.meta_path.insert(0, _Finder(code))


def _differ(before: LocalCode, one: str, code: LocalCode, other: str | None) -> bool:
    """Whether the files behind one name are not the same."""
    if other is None:
        return False
    same = (before.folder / one).resolve() == (code.folder / other).resolve()
    return not same or before.contents.get(one) != code.contents.get(other)


def _is_of(code: LocalCode, module: ModuleType | None) -> bool:
    """Whether a module is one of the plugin's neighbours."""
    spec = getattr(module, "__spec__", None)
    found = code.find(spec.name) if isinstance(spec, importlib.machinery.ModuleSpec) else None
    return found is not None and spec is not None and _same(spec, code.folder / found)


def _importer() -> LocalCode | None:
    """The plugin whose code asks for a module at this moment."""
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if frame.f_globals is not globals() and not name.startswith(("importlib", "_frozen_importlib")):
            loader = frame.f_globals.get("__loader__")
            return loader.code if isinstance(loader, _Loader) else None
        frame = frame.f_back
    return None


def _same(spec: importlib.machinery.ModuleSpec, file: Path) -> bool:
    return any(Path(place).resolve() == file.resolve() for place in _places(spec))


def _places(spec: importlib.machinery.ModuleSpec) -> list[str]:
    """The module's file, or the folders of a package without one."""
    return [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
