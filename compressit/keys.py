"""What determines a result, as one sha256: the only place where keys are made."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = 1  # moves every key: for a change of what the store's files mean

# Their code decides what is said, not what is computed.
_SILENT = frozenset({"compressit", "compressit.errors", "compressit.hookspecs"})


def key_of(facts: dict[str, Any]) -> str:
    """64 hex digits of the canonical JSON of these facts."""
    text = canonical({"schema": SCHEMA, **facts})
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


@cache
def torch_version() -> str:
    """torch's major.minor, without importing it."""
    return ".".join(importlib.metadata.version("torch").split(".")[:2])


@cache
def code_digest(*roots: str) -> str:
    """sha256 of the code of these modules and of all they import, transitively, from compressit, from their own
    top-level packages and from the folder of a local plugin file. Docstrings and comments do not count, nor do
    imports for type checking only."""
    packages = {"compressit", *(root.split(".")[0] for root in roots)}
    digests: dict[str, str] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in digests or name in _SILENT:
            continue
        file = _source_file(name)
        if file is None:
            continue
        tree = _without_prose(ast.parse(file.read_bytes()))
        digests[name] = hashlib.sha256(ast.unparse(tree).encode()).hexdigest()
        is_package = file.name == "__init__.py"
        for imported in _imports(tree, name, is_package):
            if imported.split(".")[0] in packages or _beside(file, imported, roots):
                waiting.append(imported)
    # A local plugin's module name carries the digest of its bytes: comments would count.
    named = sorted(
        (name.rsplit("_", 1)[0] if name.startswith("compressit_local_") else name, d)
        for name, d in digests.items()
    )
    return hashlib.sha256(canonical(named).encode()).hexdigest()


def _source_file(name: str) -> Path | None:
    """The .py file of a module that is loaded or can be found, else None (also for names that are no modules)."""
    module = sys.modules.get(name)
    origin = getattr(module, "__file__", None)
    if origin is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return None
        origin = spec.origin if spec else None
    return Path(origin) if origin and origin.endswith(".py") else None


def _imports(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Names of imported modules; of `from a import b` both `a` and `a.b`, since b may be a module."""
    from compressit import EXPORTS

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parent = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parent, base] if base else parent)
            yield base
            for alias in node.names:
                yield EXPORTS.get(alias.name, "") if base == "compressit" else f"{base}.{alias.name}"


def _beside(file: Path, imported: str, roots: tuple[str, ...]) -> bool:
    """Whether `imported` is a module in the folder of a local plugin file."""
    local = any(root.startswith("compressit_local_") for root in roots)
    return local and (file.parent / (imported.split(".")[0] + ".py")).is_file()


def _without_prose(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and body
            and isinstance(body[0], ast.Expr)
            and isinstance(body[0].value, ast.Constant)
            and isinstance(body[0].value.value, str)
        ):
            body = body[1:]
        kept = [item for item in body if not _type_checking(item)]
        node.body = kept or [ast.Pass()]  # type: ignore[attr-defined]
    return tree


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
