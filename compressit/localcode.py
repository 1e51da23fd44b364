"""The code of a local plugin file: it, and what it can import from its folder. Read once, and run as it was read.

A yes to a plugin covers what this module finds, by the digest of it all; nothing else of the folder is imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from compressit import files
from compressit.errors import CompressitError

MOST_FILES, MOST_BYTES = 2_000, 64 * 2**20  # of one plugin: a folder with more is not one plugin's
MOST_SOURCE = 2**20  # bytes of one source file: its syntax tree takes some two hundred times as many
_SOURCE = ".py"
_OWN = Path(__file__).resolve().parent  # a plugin may lie beside a checkout of this package
_STANDARD = sys.stdlib_module_names
_SUFFIXES = (
    _SOURCE,
    *importlib.machinery.EXTENSION_SUFFIXES,
)  # the longest of those that end alike is the first


@dataclass(frozen=True)
class LocalCode:
    """A plugin file's bytes and those of the modules that it can import from its folder, by path relative to it.

    These are the modules whose names its imports, and those of what they import, or words in its strings spell
    (`importlib.import_module("helper")`, `folder / "src"`), and of a package all files.
    """

    path: Path  # as it was named
    folder: (
        Path  # the real one: what a link beside a recipe points to does not import the recipe's neighbours
    )
    name: str  # of the plugin file, in `contents`
    contents: Mapping[str, bytes]
    imported: frozenset[str]  # the first parts of the names that its import statements spell

    @cached_property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(path, sha256) of every file, sorted."""
        return tuple(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in self.contents.items()))

    @property
    def digest(self) -> str:
        """sha256 of them all, with their names."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()

    @property
    def source(self) -> bytes:
        """The plugin file's bytes."""
        return self.contents[self.name]

    def find(self, module: str) -> str | None:
        """The relative path of a module's file, of a package's `__init__.py`, or of a folder with modules in it."""
        return self.modules.get(module)

    @cached_property
    def modules(self) -> Mapping[str, str]:
        """Paths, as `find` gives them, by the names of modules."""
        paths = [PurePosixPath(name) for name in self.contents]
        found = {
            ".".join(folder.parts): str(folder) for path in paths for folder in path.parents if folder.name
        }
        for path in sorted(
            paths, key=lambda path: path.name.startswith("__init__.")
        ):  # a package comes first
            parts = (*path.parts[:-1], _module_name(path.name) or path.stem)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = str(path)
        return found


def read(path: Path) -> LocalCode:
    """Raises CompressitError for a file that cannot be read, and for one that lies among too many others."""
    try:
        own = path.resolve()
        found = _Search(own.parent)
        found.add(own)
        found.follow()
    except (OSError, RuntimeError) as error:
        raise CompressitError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    except _TooMuch as error:
        hint = "give the plugin a folder of its own"
        raise CompressitError(f"{path}: it can import more than {error} from its folder", hint) from error
    return LocalCode(
        path, own.parent, own.name, found.contents, frozenset(n.split(".")[0] for n in found.imported)
    )


def run(name: str, code: LocalCode) -> ModuleType:
    """Imports the plugin file as the module `name`, with its own neighbours to import, now and later."""
    _make_importable(code)
    loader = _Loader(name, str(code.path.absolute()), code.source)
    spec = importlib.machinery.ModuleSpec(name, loader, origin=str(code.path.absolute()))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look their module up
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class _TooMuch(Exception):  # noqa: N818 - how much
    pass


class _Search:
    """Follows names from file to file, inside one folder."""

    def __init__(self, folder: Path) -> None:
        self.contents: dict[str, bytes] = {}
        self.imported: set[str] = set()  # dotted names
        self._folder = folder
        self._words: set[str] = set()
        self._bytes = 0
        self._open = {
            "": _modules(folder)
        }  # folders in which a word may be a module's name, by relative path
        self._opened = {folder.resolve()}

    def add(self, file: Path) -> None:
        """Takes a file in; its names will be followed."""
        name = file.relative_to(self._folder).as_posix()
        if name in self.contents:
            return
        is_source = file.name.endswith(_SOURCE) or not self.contents
        size = file.stat().st_size
        self._bytes += size
        if len(self.contents) == MOST_FILES:
            raise _TooMuch(f"{MOST_FILES:,} files")
        if self._bytes > MOST_BYTES or (is_source and size > MOST_SOURCE):
            raise _TooMuch(f"{MOST_SOURCE if is_source else MOST_BYTES:,} bytes ({name})")
        self.contents[name] = data = files.content(file)
        if is_source:
            imported, words = _names(data)
            self.imported |= imported
            self._words |= words

    def follow(self) -> None:
        """Until no file names another."""
        size = -1
        while size != (size := len(self.contents) + len(self._open)):
            wanted = {
                name.split(".")[0] for name in self.imported
            } | self._words  # it may search any folder it names
            for place, modules in list(self._open.items()):
                inside = f"{place.replace('/', '.')}."
                below = {n[len(inside) :].split(".")[0] for n in self.imported if n.startswith(inside)}
                for module in (wanted | below) & modules.keys():
                    for found in modules[module]:
                        self._take(found)

    def _take(self, found: Path) -> None:
        if found.resolve() == _OWN or (
            found.parent == self._folder and found.name.split(".")[0] in _STANDARD
        ):
            return  # whoever imports that gets what is installed
        if not found.is_dir():
            self.add(found)
        elif any((found / f"__init__{suffix}").is_file() for suffix in _SUFFIXES):
            for file in _package(found):
                self.add(file)
        elif found.resolve() not in self._opened:  # a link may lead back
            self._opened.add(found.resolve())
            self._open[found.relative_to(self._folder).as_posix()] = _modules(found)


def _modules(folder: Path) -> dict[str, list[Path]]:
    """Files and folders that a module of some name could be, by that name."""
    found: dict[str, list[Path]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name if entry.is_dir() else _module_name(entry.name) if entry.is_file() else None
            if name is not None and name.isidentifier() and name != "__pycache__":
                found.setdefault(name, []).append(Path(folder, entry.name))
    return found


def _module_name(file: str) -> str | None:
    """What a file of that name is imported as; None for one that is no module."""
    suffix = next((suffix for suffix in _SUFFIXES if file.endswith(suffix)), None)
    return file.removesuffix(suffix) if suffix else None


def _package(folder: Path) -> Iterator[Path]:
    """All modules of a package and of the packages in it."""
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        folders[:] = (
            [] if real in seen else sorted(n for n in folders if n.isidentifier() and n != "__pycache__")
        )
        seen.add(real)
        yield from (Path(place, name) for name in sorted(names) if name.endswith(_SUFFIXES))


def _names(source: bytes) -> tuple[set[str], set[str]]:
    """The dotted names that a module's import statements spell, and the words in its strings."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are told when it runs
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set(), set()  # it imports nothing either: running it fails
    imported: set[str] = set()
    words: set[str] = set()
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in bare:
            words |= set(re.findall(r"\w+", node.value))
    return imported, words


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs exactly the bytes that were read: no second reading, no cached bytecode."""

    def __init__(self, fullname: str, path: str, source: bytes) -> None:
        super().__init__(fullname, path)
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

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        found = self.code.find(fullname)
        if found is None or self._belongs_to_another(fullname, found, path, target):
            return None
        file, data = self.code.folder / found, self.code.contents.get(found)
        if data is None:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [str(file)]
            return spec
        if found.endswith(_SOURCE):
            loader: Any = _Loader(fullname, str(file), data)
        elif files.content(file) == data:
            loader = importlib.machinery.ExtensionFileLoader(fullname, str(file))
        else:
            raise ImportError(f"{file} has changed since it was read", name=fullname, path=str(file))
        below = [str(file.parent)] if file.name.startswith("__init__.") else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=loader, submodule_search_locations=below
        )

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
    for name in sorted(one.imported & other.imported):
        first, second = one.find(name), other.find(name)
        apart = first and second and (one.folder / first).resolve() != (other.folder / second).resolve()
        if apart and importlib.machinery.PathFinder.find_spec(name) is None:
            return name
    return None


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


def _same(spec: importlib.machinery.ModuleSpec, file: Path) -> bool:
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
    return any(Path(place).resolve() == file.resolve() for place in places)
