"""Recipes that Python makes: their values as YAML text, and as a tree whose places are the paths of keys."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from compressit.errors import Mark, Problem
from compressit.recipe.yamlfile import MAX_DEPTH, Node

_TOO_DEEP = f"is nested more than {MAX_DEPTH} deep, or contains itself"


def plain(value: Any, problems: list[Problem], path: str = "", depth: int = 0) -> Any:
    """The value as a recipe's file could hold it: dicts, lists and scalars; paths become text. What it cannot hold is
    noted with the path of its keys."""
    if isinstance(value, os.PathLike):
        return os.fspath(cast("os.PathLike[str]", value))
    if value is None or type(value) in (bool, int, float, str):
        return value
    if depth > MAX_DEPTH:
        return _wrong(path, _TOO_DEEP, problems)
    if isinstance(value, Mapping):
        items = cast("Mapping[Any, Any]", value).items()
        for key in (key for key, _ in items if not isinstance(key, str)):
            _wrong(path, f"has the key {key!r:.40}, and a key must be text", problems)
        return {
            key: plain(below, problems, _below(path, key), depth + 1)
            for key, below in items
            if isinstance(key, str)
        }
    if isinstance(value, list | tuple):
        some = enumerate(cast("list[Any]", value))
        return [plain(below, problems, _below(path, index), depth + 1) for index, below in some]
    kind = type(value).__name__
    return _wrong(
        path,
        f"is of type {kind}, and a recipe holds plain values only: text, numbers, lists, dicts",
        problems,
    )


def yaml_of(values: Mapping[str, Any]) -> str:
    """The text of a recipe that has these plain values."""
    from ruamel.yaml import YAML

    yaml: Any = YAML()
    yaml.width = 110
    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()


def by_keys(node: Node, path: str = "") -> Node:
    """The tree with the path of keys as each value's place, instead of a line."""
    mark = Mark(path or "the recipe")
    if isinstance(node.value, Mapping):
        below = {key: by_keys(value, _below(path, key)) for key, value in node.value.items()}
        return Node(below, mark, {key: value.mark for key, value in below.items()})
    if isinstance(node.value, tuple):
        return Node(tuple(by_keys(item, _below(path, at)) for at, item in enumerate(node.value)), mark)
    return replace(node, mark=mark)


def _wrong(path: str, why: str, problems: list[Problem]) -> None:
    problems.append(Problem(f"{path or 'the recipe'} {why}", Mark(path or "the recipe")))


def _below(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
