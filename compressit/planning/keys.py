"""Makes keys: the sha256 of everything that determines a result. Only this module makes them."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compressit.errors import CompressitError
from compressit.files.sealed import canonical
from compressit.host.localcode import read as read_local

SCHEMA = 1  # changes every key; raise it when the meaning of the store's files changes

# Modules whose code affects messages, but not results.
_SILENT = frozenset({"compressit", "compressit.errors", "compressit.contract.hookspecs"})
_LOCAL = "compressit_local_"  # prefix of local plugin modules; the file's stem and digest follow
LIVE = "live:"
"""Prefix of a root that is no module, but code of this session: its digest (`identity`) follows."""


def key_of(facts: dict[str, Any]) -> str:
    """The sha256 of the canonical JSON of these facts, as 64 hex digits."""
    text = canonical({"schema": SCHEMA, **facts})
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def torch_version() -> str:
    """torch's major.minor, without importing it."""
    return ".".join(importlib.metadata.version("torch").split(".")[:2])


@cache
def code_digest(*roots: str) -> str:
    """sha256 of the code of these modules and of all modules that they import, transitively, from compressit, from
    their own top-level packages and from the folder of a local plugin file.

    Docstrings, comments and imports for type checking do not count. The modules are parsed, not imported.
    Raises CompressitError for a module that is not valid Python.
    """
    return code_now(*roots)


def code_now(*roots: str) -> str:
    """`code_digest` of the files as they are now. Those of packages are read again only if the time or size of one, or
    the time of a folder they lie in, has changed since this process read them."""
    known = _digests.get(roots)
    if any(root.startswith(_LOCAL) for root in roots):  # what lies beside a file need not be a module
        return _followed(*roots).digest
    if known is None or any(_facts(path) != facts for path, facts in known.seen.items()):
        known = _digests[roots] = _followed(*roots)
    return known.digest


@dataclass(frozen=True)
class _Code:
    digest: str
    seen: Mapping[str, Any]  # the files and folders that it was read from, with their `_facts`


_digests: dict[tuple[str, ...], _Code] = {}


def _facts(path: str) -> Any:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _followed(*roots: str) -> _Code:
    packages = {"compressit", *(root.split(".")[0] for root in roots)}
    files = [_source_file(root) for root in roots if root.startswith(_LOCAL)]
    folders = [(file.parent, _top_level(file.parent)) for file in files if file is not None]
    found: dict[str, _Module] = {}
    seen: dict[str, Any] = {}
    waiting = list(roots)

    def follow() -> None:
        while waiting:
            name = waiting.pop()
            module = None if name in found or name in _SILENT else _current(name, seen)
            if module is not None:
                found[name] = module
                waiting.extend(filter(counts, module.imports))

    def counts(name: str) -> bool:
        return name.split(".")[0] in packages or any(_lies_in(*folder, name) for folder in folders)

    follow()
    found |= {root: _Module(root.removeprefix(LIVE), ()) for root in roots if root.startswith(LIVE)}
    imported = {_resolved(name) for name in found} if files else set[Path | None]()
    for file in filter(None, files):  # code that it may run other than by the imports followed above
        for other, module in _beside(file):
            if other.resolve() not in imported:
                found[f"./{other.relative_to(file.parent).as_posix()}"] = module
                waiting.extend(filter(counts, module.imports))
    follow()
    digests = canonical(sorted((_stable(n), m.digest) for n, m in found.items()))
    return _Code(hashlib.sha256(digests.encode()).hexdigest(), seen)


@dataclass(frozen=True)
class _Module:
    digest: str  # of its code alone
    imports: tuple[str, ...]


def _beside(file: Path) -> Iterator[tuple[Path, _Module]]:
    """The files that a local plugin may run (`localcode`)."""
    for name, data in sorted(read_local(file).contents.items()):
        dotted = name.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        try:
            yield file.parent / name, _module(dotted, file.parent / name, data)
        except CompressitError:  # not Python
            yield file.parent / name, _Module(hashlib.sha256(data).hexdigest(), ())


def _resolved(name: str) -> Path | None:
    file = _source_file(name)
    return file.resolve() if file is not None else None


def _current(name: str, seen: dict[str, Any]) -> _Module | None:
    """None for anything without Python source: built-ins, extensions, names that are not modules.

    Adds what decides it to `seen`: the file and the folders where one could be, as they were before reading.
    """
    file = _source_file(name)
    for path in [str(file)] if file is not None else _possible(name):
        for decisive in (os.path.dirname(path), path):
            if decisive not in seen:
                seen[decisive] = _facts(decisive)
    try:
        return _module(name, file, file.read_bytes()) if file is not None else None
    except OSError:  # deleted since it was loaded
        return None


@cache
def _module(name: str, file: Path, source: bytes) -> _Module:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise CompressitError(f"{file}{line}: this is not valid Python: {error}") from error
    digest, imports = _read(tree, name, file.name == "__init__.py")
    return _Module(digest, imports)


def _source_file(name: str) -> Path | None:
    """The .py file of a module, loaded or not."""
    if (module := sys.modules.get(name)) is not None:
        origin = getattr(module, "__file__", None)
        return Path(origin) if origin and origin.endswith(".py") else None
    return next((Path(file) for file in _possible(name) if os.path.isfile(file)), None)


def _possible(name: str) -> Iterator[str]:
    """The files that a module of this name may have. (A Path would cost more than the question, which is asked for
    every name.)"""
    top, *rest = name.split(".")
    try:
        spec = importlib.util.find_spec(top)  # for a submodule, find_spec would import its packages
    except (ImportError, ValueError):
        return
    if spec is None or not rest:
        if spec and spec.origin and spec.origin.endswith(".py"):
            yield spec.origin
        return
    for location in spec.submodule_search_locations or ():
        path = os.path.join(location, *rest)
        yield from (os.path.join(path, "__init__.py"), f"{path}.py")


# fields of nodes that compute nothing
_NO_EFFECT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def _read(tree: ast.AST, module: str, is_package: bool) -> tuple[str, tuple[str, ...]]:
    """sha256 of what has an effect when the module runs, and the names of the modules it imports."""
    waiting: list[Any] = [tree]
    parts: list[str] = []
    imports: list[str] = []
    attributes: list[tuple[str, str]] = []
    own: set[str] = set()  # what compressit itself is called here
    while waiting:  # a sum of a thousand terms is no recursion of a thousand levels
        node = waiting.pop()
        if not isinstance(node, ast.AST):
            parts.append(hex(node) if type(node) is int else repr(node))
            continue
        parts.append(type(node).__name__)
        if isinstance(node, ast.Import):
            imports.extend(alias.name for alias in node.names)
            own |= {alias.asname or alias.name for alias in node.names if alias.name == "compressit"}
        elif isinstance(node, ast.ImportFrom):
            imports.extend(_imported_from(node, module, is_package))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            attributes.append((node.value.id, node.attr))
        children: list[Any] = []
        for name in node._fields:
            value = getattr(node, name, None)
            if value is None or name in _NO_EFFECT:
                continue
            if isinstance(value, list):
                value = list(_effective(value))
                parts.append(f"{name}*{len(value)}")
                children += value
            else:
                parts.append(name)
                children.append(value)
        parts.append(";")
        waiting += reversed(children)
    for name, attribute in attributes:
        if name in own:
            imports.extend(_exported(attribute))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest(), tuple(dict.fromkeys(imports))


def _effective(nodes: list[Any]) -> Iterator[Any]:
    """Without bare strings and without what is for type checking only."""
    for node in nodes:
        if isinstance(node, ast.Expr):
            if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):
                yield node
        elif isinstance(node, ast.If) and _is_type_checking(node.test):
            yield from _effective(node.orelse)
        else:
            yield node


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def _imported_from(node: ast.ImportFrom, module: str, is_package: bool) -> Iterator[str]:
    """Of `from a import b` both `a` and `a.b`, since b may be a module."""
    base = node.module or ""
    if node.level:
        parts = module.split(".")
        parent = parts[: len(parts) - node.level + is_package]
        base = ".".join([*parent, base] if base else parent)
    yield base
    for alias in node.names:
        yield from _exported(alias.name) if base == "compressit" else (f"{base}.{alias.name}",)


def _exported(name: str) -> Iterator[str]:
    """The modules behind `compressit.name`."""
    from compressit.public import EXPORTS

    if name == "*":
        yield from EXPORTS.values()
    else:
        yield EXPORTS.get(name, f"compressit.{name}")


def _lies_in(folder: Path, names: frozenset[str], module: str) -> bool:
    file = _source_file(module) if module.split(".")[0] in names else None
    return file is not None and file.resolve().is_relative_to(folder.resolve())


def _top_level(folder: Path) -> frozenset[str]:
    return frozenset(path.stem for path in folder.iterdir() if path.suffix == ".py" or os.path.isdir(path))


def _stable(name: str) -> str:
    """A local plugin's module name without its digest, which comments would change."""
    return name.rsplit("_", 1)[0] if name.startswith(_LOCAL) else name
