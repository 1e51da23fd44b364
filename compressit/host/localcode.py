"""Reads the code of a local plugin: the file itself, and the code in its folder that it can run.

When the user trusts a plugin, the trust covers exactly what this module finds, by one digest.
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

MOST_FILES, MOST_BYTES = 2_000, 64 * 2**20  # per plugin; a larger folder holds more than a plugin
MOST_SOURCE = 2**20  # bytes per source file; its syntax tree takes about 200 times as many
SOURCE = ".py"
_SUFFIXES = (SOURCE, *importlib.machinery.EXTENSION_SUFFIXES)  # longest first
_SCRIPTS = (SOURCE, ".pyw", ".sh", ".bash")
_OWN = Path(__file__).resolve().parents[1]  # not searched if a plugin lies beside a checkout of this package


@dataclass(frozen=True)
class LocalCode:
    """The bytes of a plugin file and of all code in its folder that it names, by path relative to the folder.

    Names are taken from imports and strings of the plugin file and, in turn, of the files found. A name may mean a
    module, a package with everything in it, a folder to search for further names, or (a full file name) a script like
    `my-step.py` or `tool.sh`. If any of this code runs text (`exec`), starts Python or loads a library, a full file
    name may mean any file, and all modules of the searched folders count. The same modules count if file names are
    built at run time (`folder.glob("step_*.py")`).
    """

    path: Path  # as given
    folder: Path  # of the real file; differs from the recipe's folder if `path` is a link
    name: str  # the plugin file's key in `contents`
    contents: Mapping[str, bytes]
    imported: frozenset[str]  # top-level names in import statements

    @cached_property
    def files(self) -> tuple[tuple[str, str], ...]:
        """(path, sha256) of every file, sorted."""
        return tuple(sorted((name, hashlib.sha256(data).hexdigest()) for name, data in self.contents.items()))

    @property
    def digest(self) -> str:
        """sha256 of all files and their names."""
        return hashlib.sha256(json.dumps(self.files).encode()).hexdigest()

    @property
    def source(self) -> bytes:
        """The plugin file's bytes."""
        return self.contents[self.name]

    @cached_property
    def folders(self) -> frozenset[str]:
        """The folders of the files, including "."."""
        return frozenset(str(folder) for name in self.contents for folder in PurePosixPath(name).parents)

    def find(self, module: str, folder: str = ".") -> str | None:
        """The path of a module in a folder: its file, a package's `__init__`, or a folder of modules."""
        here = PurePosixPath(folder, module)
        names = (f"{stem}{suffix}" for stem in (here / "__init__", here) for suffix in _SUFFIXES)
        is_folder = str(here) in self.folders
        return next((name for name in names if name in self.contents), str(here) if is_folder else None)


def read(path: Path) -> LocalCode:
    """Raises CompressitError for a file that cannot be read or names too many other files."""
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
    """Follows names from file to file within one folder."""

    def __init__(self, plugin: Path, folder: Path) -> None:
        self.contents: dict[str, bytes] = {}
        self.imported: set[tuple[str, ...]] = set()  # names in import statements, split at dots
        self._plugin, self._folder = plugin, folder
        self._words: set[str] = set()  # words in strings, and names in relative imports
        self._text = ""  # all strings
        self._runs = False  # whether it may run text or files of any name
        self._bytes = 0
        # folders in which names are looked up, and their entries
        self._open: dict[Path, Sequence[Path]] = {}
        self._opened: set[str] = set()  # real paths, since a link may lead back

    def follow(self) -> None:
        """Repeats until nothing new is found, since a name is looked up in every folder that is named."""
        size = -1
        while size != (size := len(self.contents) + len(self._open)):
            paths = [path for paths in self._open.values() for path in paths]
            here = {path.name.split(".")[0] for path in paths}
            words = self._words.union(*(parts for parts in self.imported if parts[0] in here))
            makes = self._runs or _MADE_NAME.search(self._text) is not None
            for path in paths:
                self._take(path, words, makes)

    def _take(self, path: Path, words: set[str], makes: bool) -> None:
        """Adds `path` if the words or the text name it. `makes`: file names are built, so all modules count."""
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
        """Searches this folder too. Adds all modules of a package; `whole`: the folder is part of a package."""
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
        """Adds a file and collects its names. Raises CompressitError if the files are too many or too large."""
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
                message = f"{self._plugin}: can import more than {what} from its folder"
                raise CompressitError(message, "move the plugin to its own folder")
        self.contents[name] = data = reading.content(file)
        self._spell(data)

    def _spell(self, source: bytes) -> None:
        """Collects the names in a source file; none if it is not valid Python."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # shown when it runs
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
    "cpp_extension", "CDLL", "LoadLibrary", "load_library",  # native code
}  # fmt: skip
_MADE_NAME = re.compile(r"(?:(?<![\w-])|[%{}*?\])$][\w-]*)\.py\b")
"""Part of a module's file name, or a pattern for such names: `.py`, `step_*.py`, `{}_step.py`."""


def _module(name: str) -> str:
    """The module name of a file or folder."""
    suffix = next((suffix for suffix in _SUFFIXES if name.endswith(suffix)), "")
    return name.removesuffix(suffix)


def _stands_in(text: str, name: str) -> bool:
    """Whether the text contains a file's full name."""
    return name in text and re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", text) is not None


def _is_script(file: Path) -> bool:
    if file.name.endswith(_SCRIPTS):
        return True
    try:
        with reading.opened(file) as opened:
            return opened.read(2) == b"#!"
    except OSError:  # if we cannot read it, the plugin cannot run it
        return False
