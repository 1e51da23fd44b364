"""`sweep`: one version of a block for each combination of the values of its options.

In a stage the versions are its members; at the top of a recipe they are variants.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from compressit.errors import Mark, Problem
from compressit.recipe.merge import put
from compressit.recipe.model import Use
from compressit.recipe.scope import Reference, Scope
from compressit.recipe.uses import read_use
from compressit.recipe.yamlfile import Node

MAX_MEMBERS = 1000


@dataclass(frozen=True)
class _Kind:
    """What a sweep may vary, and what its versions are called."""

    keys: str  # a pattern
    wrong: str  # of a key that does not match
    hint: str
    versions: str


_MEMBERS = _Kind(r"with(\.[^.]+)+", "is not an option", "write with.<option>: [value, …]", "members")
_VARIANTS = _Kind(
    r"(data|model)(\.[^.]+)+",
    "is no option of the data or the model",
    "write data.with.<option>, model.with.<option> or model.init.<option>; each stage has a `sweep` of its own",
    "variants",
)
Note = Callable[[str, Mark, str | None], None]


@dataclass(frozen=True)
class Swept:
    """A body with the values of one combination put in, by key, and the variant's name."""

    name: str
    body: Node
    values: tuple[tuple[str, Any], ...] = ()


def members(block: Node, path: str, scope: Scope, references: list[Reference]) -> Iterator[tuple[str, Use]]:
    """The label and Use of each combination of `sweep`, the last key fastest; without a sweep, one with label ""."""
    for version in _versions(block, block.at("sweep"), f"{path}.sweep", _MEMBERS, scope.problem):
        use = read_use(version.body, path, ("trainer", "compressor"), scope, references)
        if use is not None:
            yield version.name, use


def variants(bodies: Mapping[str, Node], swept: Node, problems: list[Problem]) -> list[Swept]:
    """Every variant with each combination of the recipe's `sweep`: `real,hidden=64`; without variants `hidden=64`.

    `bodies`: of the variants by name, or of the recipe under the name "".
    """

    def problem(message: str, where: Mark, hint: str | None = None) -> None:
        found = Problem(message, where, hint)
        if found not in problems:  # the same in every variant
            problems.append(found)

    count = len(bodies) * _count(swept)
    if count > MAX_MEMBERS:
        problem(f"sweep gives {count:,} variants, at most {MAX_MEMBERS:,} are allowed", swept.mark)
        return []
    return [
        Swept(",".join(filter(None, (name, version.name))) or "base", version.body, version.values)
        for name, body in bodies.items()
        for version in _versions(body, swept, "sweep", _VARIANTS, problem)
    ]


def _versions(block: Node, swept: Node, path: str, kind: _Kind, problem: Note) -> Iterator[Swept]:
    if not _is_right(block, swept, path, kind, problem):
        return
    labels: set[str] = set()
    for values in product(*(values.items for values in swept.mapping.values())):
        version = block
        for key, value in zip(swept.mapping, values, strict=True):
            version = put(version, key.split("."), value)
        label = ",".join(map(_label, swept.mapping, values))
        if label in labels:
            problem(f"{path} gives two {kind.versions} called '{label}'", values[-1].mark, None)
        else:
            plain = (value.plain() for value in values)
            yield Swept(label, version, tuple(zip(swept.mapping, plain, strict=True)))
        labels.add(label)


def _is_right(block: Node, swept: Node, path: str, kind: _Kind, problem: Note) -> bool:
    """Whether a sweep's keys are valid; notes the first mistake. The envelope checks its lists."""
    within = path.removesuffix("sweep")
    for key, mark in swept.keys.items():
        if not re.fullmatch(kind.keys, key):
            message, hint = f"{path}: '{key}' {kind.wrong}", kind.hint
        elif (written := _written(block, key.split("."))) is not None:
            option, mark = written
            message = f"{within}{option} has no effect: `sweep` varies {key}"
            hint = f"remove one of the two; an override can delete the option with `{option}: null`"
        elif inner := next((other for other in swept.mapping if other.startswith(f"{key}.")), None):
            message = f"{path}: '{key}' and '{inner}' vary the same option"
            mark, hint = swept.keys[inner], "remove one of them"
        else:
            continue
        problem(message, mark, hint)
        return False
    count = _count(swept)
    if count > MAX_MEMBERS:
        problem(
            f"{path} gives {count:,} {kind.versions}, at most {MAX_MEMBERS:,} are allowed", swept.mark, None
        )
    return count <= MAX_MEMBERS


def _count(swept: Node) -> int:
    return prod(len(values.items) for values in swept.mapping.values())


def _written(block: Node, path: Sequence[str]) -> tuple[str, Mark] | None:
    """The option that a block sets at this path, or a plain value on the way to it, and its place."""
    node = block
    for depth, part in enumerate(path):
        if node.value is not None and not isinstance(node.value, Mapping):
            return ".".join(path[:depth]), node.mark
        if part not in node.mapping:
            return None
        node = node.mapping[part]
    return ".".join(path), node.mark


def _label(key: str, value: Node) -> str:
    """`sparsity=0.5`, `hidden=64-64`: the last part of the option's path and the value, made safe for a file name."""
    text = value.value if isinstance(value.value, str) else json.dumps(value.plain())
    text = text[1:-1] if isinstance(value.value, tuple) else text
    return f"{key.split('.')[-1]}={re.sub(r'[^A-Za-z0-9._+-]+', '-', text)}"
