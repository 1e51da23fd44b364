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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from compressit.errors import CompressitError
from compressit.files import reading

MOST_FILES, MOST_BYTES = 2_000, 64 * 2**20  # of one plugin: a folder with more is not one plugin's
MOST_SOURCE = 2**20  # bytes of one source file: its syntax tree takes some two hundred times as many
SOURCE = ".py"
_SUFFIXES = (SOURCE, *importlib.machinery.EXTENSION_SUFFIXES)  # of those that end alike the longest first
_SCRIPTS = (SOURCE, ".pyw", ".sh", ".bash")
_OWN = Path(__file__).resolve().parents[1]  # a plugin may lie beside a checkout of this package


@dataclass(frozen=True)
class LocalCode:
    """A plugin file's bytes and those of all code that it names in its folder, by path relative to it.

    A name stands in an import or in a string, of the plugin file or of what it names. It may mean a module, a package
    with all that is in it, a folder in which further names are looked up, or by its whole name a script (`my-step.py`,
    `tool.sh`). Where something runs text (`exec`), starts Python or loads a library, a whole name may mean any file,
    and all modules of these folders count; so they do where names are made (`folder.glob("step_*.py")`).
    """

    path: Path  # as it was named
    folder: Path  # the real one: of a link beside a recipe, not the recipe's
    name: str  # of the plugin file, in `contents`
    contents: Mapping[str, bytes]
    imported: frozenset[str]  # the first parts of the names in import statements

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

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders that the files lie in, "." among them."""
        return frozenset(str(folder) for name in self.contents for folder in PurePosixPath(name).parents)

    def find(self, module: str, folder: str = ".") -> str | None:
        """The path of a module in one of the folders: its file, a package's `__init__`, or a folder of modules."""
        here = PurePosixPath(folder, module)
        names = (f"{stem}{suffix}" for stem in (here / "__init__", here) for suffix in _SUFFIXES)
        is_folder = str(here) in self.folders
        return next((name for name in names if name in self.contents), str(here) if is_folder else None)


def read(path: Path) -> LocalCode:
    """Raises CompressitError for a file that cannot be read, and for one that names too many others."""
    own = Path(os.path.realpath(path))
    search = _Search(path, own.parent)
    try:
        search.add(own)
        search.look_into(own.parent)
        search.follow()
    except OSError as error:
        place = path if error.filename in (None, str(own)) else error.filename
        raise CompressitError(f"{place}: {error.strerror}") from error
    imported = frozenset(first for first, *_ in search.imported)
    return LocalCode(path, own.parent, own.name, search.contents, imported)


class _Search:
    """Follows names from file to file, inside one folder."""

    def __init__(self, plugin: Path, folder: Path) -> None:
        self.contents: dict[str, bytes] = {}
        self.imported: set[tuple[str, ...]] = set()  # names in import statements, in their parts
        self._plugin, self._folder = plugin, folder
        self._words: set[str] = set()  # in strings, and what is imported by dots
        self._text = ""  # all strings
        self._runs = False  # text, or what it builds or loads, whatever the file is called
        self._bytes = 0
        # folders in which names are looked up, and what is in them
        self._open: dict[Path, Sequence[Path]] = {}
        self._opened: set[str] = set()  # the real ones: a link may lead back

    def follow(self) -> None:
        """Until no file names another: a name may mean something in any folder that is named."""
        size = -1
        while size != (size := len(self.contents) + len(self._open)):
            paths = [path for paths in self._open.values() for path in paths]
            here = {path.name.split(".")[0] for path in paths}
            words = self._words.union(*(parts for parts in self.imported if parts[0] in here))
            makes = self._runs or _MADE_NAME.search(self._text) is not None
            for path in paths:
                self._take(path, words, makes)

    def _take(self, path: Path, words: set[str], makes: bool) -> None:
        """Takes in what the words or the text name; `makes`: all modules are named."""
        name, module = path.name, _module(path.name)
        comes_second = path.parent == self._folder and module in sys.stdlib_module_names
        is_named = module in words and not comes_second
        is_module = (is_named and name.endswith(_SUFFIXES)) or (makes and name.endswith(SOURCE))
        is_whole = _stands_in(self._text, name)
        if (is_named or is_whole) and os.path.isdir(path):
            self.look_into(path)
        elif (is_module or (is_whole and (self._runs or _is_script(path)))) and os.path.isfile(path):
            self.add(path)

    def look_into(self, folder: Path, whole: bool = False) -> None:
        """Names may mean what is in it; of a package (`whole`: of what is part of one) all modules are taken in."""
        real = os.path.realpath(folder)
        if real == str(_OWN) or real in self._opened:
            return
        self._opened.add(real)
        self._open[folder] = paths = sorted(folder.iterdir())
        is_package = folder != self._folder and any(_module(path.name) == "__init__" for path in paths)
        for path in paths if whole or is_package else ():
            if path.name.isidentifier() and path.name != "__pycache__" and os.path.isdir(path):
                self.look_into(path, whole=True)
            elif path.name.endswith(_SUFFIXES) and os.path.isfile(path):
                self.add(path)

    def add(self, file: Path) -> None:
        """Takes a file in, with the names that it spells. Raises CompressitError where that is too much."""
        name = file.relative_to(self._folder).as_posix()
        if name in self.contents:
            return
        size = file.stat().st_size
        self._bytes += size
        is_source = file.name.endswith(SOURCE) or not self.contents
        for too_much, what in (
            (len(self.contents) == MOST_FILES, f"{MOST_FILES:,} files"),
            (is_source and size > MOST_SOURCE, f"{MOST_SOURCE:,} bytes ({name})"),
            (self._bytes > MOST_BYTES, f"{MOST_BYTES:,} bytes ({name})"),
        ):
            if too_much:
                message = f"{self._plugin}: it can import more than {what} from its folder"
                raise CompressitError(message, "give the plugin a folder of its own")
        self.contents[name] = data = reading.content(file)
        self._spell(data)

    def _spell(self, source: bytes) -> None:
        """Takes in the names of a source; none of what is no Python."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # they are told when it runs
                tree = ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return
        texts: list[str] = []
        used: set[str] = set()
        bare = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                self.imported |= {tuple(alias.name.split(".")) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                parts = node.module.split(".") if node.module else []
                if node.level:
                    self._words.update(parts, (alias.name for alias in node.names))
                else:
                    self.imported |= {(*parts, alias.name) for alias in node.names}
            elif (
                isinstance(node, ast.Constant)
                and id(node) not in bare
                and isinstance(node.value, str | bytes)
            ):
                texts.append(os.fsdecode(node.value))
            elif isinstance(node, ast.JoinedStr):
                pieces = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
                texts.append("".join(map(str, pieces)))
            elif isinstance(node, ast.Attribute):
                used |= {node.attr} - _BUILT_IN  # `model.eval()`
            elif isinstance(node, ast.Name):
                used.add(node.id)
        used |= {part for parts in self.imported for part in parts} - _BUILT_IN
        text = "\n".join(texts)
        self._runs = self._runs or not used.isdisjoint(_RUNNERS)
        self._words.update(re.findall(r"\w+", text))
        self._text += f"{text}\n"


_BUILT_IN = {"exec", "eval", "compile"}
_RUNNERS = {
    *_BUILT_IN, "builtins", "__builtins__",  # `builtins.exec`
    "runpy", "run_path", "spec_from_file_location", "SourceFileLoader",
    "executable",  # `[sys.executable, folder / "tool"]`
    "cpp_extension", "CDLL", "LoadLibrary", "load_library",  # what is no Python
}  # fmt: skip
_MADE_NAME = re.compile(r"(?:(?<![\w-])|[%{}*?\])$][\w-]*)\.py\b")
"""A part of a name of a module's file, or a pattern of some: `.py`, `step_*.py`, `{}_step.py`."""


def _module(name: str) -> str:
    """What a file or folder of that name is imported as."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def _stands_in(text: str, name: str) -> bool:
    """Whether a file's whole name stands in the text."""
    return name in text and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _is_script(file: Path) -> bool:
    if file.name.endswith(_SCRIPTS):
        return True
    try:
        with reading.opened(file) as opened:
            return opened.read(2) == b"#!"
    except OSError:  # nobody can run it either
        return False
