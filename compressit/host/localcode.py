"""The code of a local plugin file: it, and what it can run from its folder. Read once.

A yes to a plugin covers what this module finds, by the digest of it all.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import json
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from compressit.errors import CompressitError
from compressit.files import reading

MOST_FILES, MOST_BYTES = 2_000, 64 * 2**20  # of one plugin: a folder with more is not one plugin's
MOST_SOURCE = 2**20  # bytes of one source file: its syntax tree takes some two hundred times as many
SOURCE = ".py"
_OWN = Path(__file__).resolve().parents[1]  # a plugin may lie beside a checkout of this package
_STANDARD = sys.stdlib_module_names
_SUFFIXES = (
    SOURCE,
    *importlib.machinery.EXTENSION_SUFFIXES,
)  # the longest of those that end alike is the first
_SCRIPTS = (".pyw", ".sh", ".bash")


@dataclass(frozen=True)
class LocalCode:
    """A plugin file's bytes and those of the modules that it can import from its folder, by path relative to it.

    These are the modules whose names its imports, and those of what they import, or words in its strings spell
    (`importlib.import_module("helper")`, `folder / "src"`), and of a package all files; scripts whose whole names its
    strings spell (`my-step.py`, `tool.sh`); where it runs text (`exec`) or builds or loads a library, any file that
    they spell; where it makes names of modules' files (`folder.glob("step_*.py")`), all modules of the folders that it
    spells.
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
            module = _module_name(path.name)
            if module is not None:
                parts = path.parts[:-1] if module == "__init__" else (*path.parts[:-1], module)
                found[".".join(parts)] = str(path)
        found.pop("", None)  # an `__init__.py` beside the plugin makes no package of its folder
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


class _TooMuch(Exception):  # noqa: N818 - how much
    pass


class _Search:
    """Follows names from file to file, inside one folder."""

    def __init__(self, folder: Path) -> None:
        self.contents: dict[str, bytes] = {}
        self.imported: set[str] = set()  # dotted names
        self._folder = folder
        self._spelled: list[_Names] = []  # of each source
        self._bytes = 0
        self._open: dict[str, _Folder] = {}  # in which names are looked up, by relative path
        self._opened: set[Path] = set()
        self._look_into(folder)

    def add(self, file: Path) -> None:
        """Takes a file in; its names will be followed."""
        name = file.relative_to(self._folder).as_posix()
        if name in self.contents or (self.contents and not os.access(file, os.R_OK)):
            return  # the plugin cannot read it either
        is_source = file.name.endswith(SOURCE) or not self.contents
        size = file.stat().st_size
        self._bytes += size
        if len(self.contents) == MOST_FILES:
            raise _TooMuch(f"{MOST_FILES:,} files")
        if self._bytes > MOST_BYTES or (is_source and size > MOST_SOURCE):
            raise _TooMuch(f"{MOST_SOURCE if is_source else MOST_BYTES:,} bytes ({name})")
        self.contents[name] = data = reading.content(file)
        names = _names(data)  # of a script that is no Python: none
        self._spelled.append(names)
        self.imported |= names.imported

    def follow(self) -> None:
        """Until no file names another: each name may be one of any folder that is named."""
        size = -1
        while size != (size := len(self.contents) + len(self._open)):
            words = frozenset[str]().union(
                {name.split(".")[0] for name in self.imported}, *(names.words for names in self._spelled)
            )
            text = "\n".join(names.text for names in self._spelled)
            made = any(names.any_module for names in self._spelled)
            runs = any(names.runs_text for names in self._spelled)
            for place, folder in list(self._open.items()):
                below = {n for prefix in _prefixes(place) for n in self._after(prefix)}
                for module in (words | below) & folder.modules.keys():
                    for found in folder.modules[module]:
                        self._take(found)
                for found in folder.spelled(text, made, runs):
                    self._look_into(found) if os.path.isdir(found) else self.add(found)

    def _after(self, prefix: str) -> Iterator[str]:
        return (name[len(prefix) :].split(".")[0] for name in self.imported if name.startswith(prefix))

    def _take(self, found: Path) -> None:
        if found.resolve() == _OWN or (
            found.parent == self._folder and found.name.split(".")[0] in _STANDARD
        ):
            return  # whoever imports that gets what is installed
        if not os.path.isdir(found):  # which asks no questions of a folder that it may not enter
            self.add(found)
            return
        if any(os.path.isfile(found / f"__init__{suffix}") for suffix in _SUFFIXES):
            for file in _package(found):
                self.add(file)
        self._look_into(found)

    def _look_into(self, folder: Path) -> None:
        real = folder.resolve()
        if real != _OWN and real not in self._opened:  # a link may lead back
            self._opened.add(real)
            place = folder.relative_to(self._folder).as_posix()
            self._open["" if place == "." else place] = _Folder.read(folder)


@dataclass(frozen=True)
class _Folder:
    """What lies in a folder that a name may mean."""

    modules: Mapping[str, Sequence[Path]]  # files and folders that a module of some name could be
    files: Sequence[Path]
    folders: Sequence[Path]

    @staticmethod
    def read(folder: Path) -> _Folder:
        """What cannot be read is left out: the plugin cannot import it either. Raises OSError."""
        modules: dict[str, list[Path]] = {}
        kept: dict[bool, list[Path]] = {True: [], False: []}
        for entry in _listed(folder):
            try:
                is_folder = entry.is_dir()
                if entry.name == "__pycache__" or not (is_folder or entry.is_file()):
                    continue
            except OSError:  # a link to itself, or into a folder that nobody may enter
                continue
            kept[is_folder].append(Path(folder, entry.name))
            name = entry.name if is_folder else _module_name(entry.name)
            if name is not None and name.isidentifier():
                modules.setdefault(name, []).append(Path(folder, entry.name))
        return _Folder(modules, kept[False], kept[True])

    def spelled(self, text: str, made: bool, runs: bool) -> Iterator[Path]:
        """The files of code, and the folders, whose whole names are in the text.

        `made`: names of modules' files are made elsewhere, so it is all of them; `runs`: any file may be code.
        """
        yield from (folder for folder in self.folders if _has(text, folder.name))
        for file in self.files:
            if (made and file.name.endswith(SOURCE)) or (
                _has(text, file.name) and (runs or _is_script(file))
            ):
                yield file


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except PermissionError as error:
        if os.access(folder, os.X_OK):  # what it does not list can be run all the same
            raise CompressitError(f"{folder}: {error.strerror}", "let it be read") from error
        return []


def _prefixes(place: str) -> Iterator[str]:
    """What names of modules in that folder begin with, whichever folder above it is searched."""
    parts = place.split("/")
    yield from (".".join(parts[index:]) + "." for index in range(len(parts)))


def _has(text: str, name: str) -> bool:
    """Whether a file's whole name stands in the text."""
    return name in text and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _is_script(file: Path) -> bool:
    if file.name.endswith((SOURCE, *_SCRIPTS)):
        return True
    try:
        with reading.opened(file) as opened:
            return opened.read(2) == b"#!"
    except OSError:  # nobody can run it either
        return False


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


@dataclass(frozen=True)
class _Names:
    """What a source spells that may be the name of a file."""

    imported: frozenset[str]  # the dotted names of its import statements
    words: frozenset[str]  # in its strings, and what it imports by dots
    text: str  # all its strings
    any_module: bool  # it makes names of modules' files itself: `folder.glob("step_*.py")`
    runs_text: bool  # it runs what it reads, or builds or loads it, whatever the file is called


_RUN_TEXT = frozenset({"exec", "eval", "compile"})
_RUNNERS = frozenset(
    {"runpy", "run_path", "spec_from_file_location", "SourceFileLoader"}
    | {"builtins", "__builtins__"}  # `builtins.exec`
    | {"executable"}  # `[sys.executable, folder / "tool"]`
    | {"cpp_extension", "CDLL", "LoadLibrary", "load_library"}  # what is no Python
)
_LISTERS = frozenset({"iterdir", "listdir", "scandir", "glob", "rglob", "iglob", "walk"})


def _makes_names(text: str) -> bool:
    """Whether it is a part of a name of a module's file, or a pattern of some: `.py`, `step_*.py`, `{}_step.py`."""
    begin, end, _ = text.rpartition(SOURCE)
    return bool(end) and (re.search(r"[\w-]$", begin) is None or not set("%{*?]").isdisjoint(begin))


def _names(source: bytes) -> _Names:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are told when it runs
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _Names(
            frozenset(), frozenset(), "", False, False
        )  # it imports nothing either: running it fails
    imported: set[str] = set()
    words: set[str] = set()
    texts: list[str] = []
    used: set[str] = set()
    bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif (
            isinstance(node, ast.ImportFrom) and node.level
        ):  # where no `__init__.py` brings all of a package
            words |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes) and id(node) not in bare:
            value = node.value
            texts.append(value if isinstance(value, str) else value.decode("utf-8", "surrogateescape"))
        elif isinstance(node, ast.Attribute):
            used.add(node.attr)
        elif isinstance(node, ast.Name):
            used.add(f"{node.id}()" if node.id in _RUN_TEXT else node.id)  # not those of `model.eval()`
        if isinstance(node, ast.JoinedStr):
            texts += [f"*{part.value}" for part in node.values if isinstance(part, ast.Constant)]
    used |= {name.rpartition(".")[2] for name in imported}
    runs = used & _RUNNERS or used & {f"{name}()" for name in _RUN_TEXT}
    made = any(map(_makes_names, texts))
    text = "\n".join(texts)
    words.update(re.findall(r"\w+", text))
    return _Names(
        frozenset(imported), frozenset(words), text, made or bool(runs and used & _LISTERS), bool(runs)
    )
