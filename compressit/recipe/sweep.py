"""`sweep`: the members of a stage, one for each combination of the values of its options."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from math import prod

from compressit.errors import Mark
from compressit.recipe.merge import put
from compressit.recipe.model import Use
from compressit.recipe.uses import Reference, Scope, read_use
from compressit.recipe.yamlfile import Node

MAX_MEMBERS = 1000


def members(block: Node, path: str, scope: Scope, references: list[Reference]) -> Iterator[tuple[str, Use]]:
    """The label and Use of each combination of `sweep`, the last key fastest; without a sweep, one with label ""."""
    swept = block.at("sweep")
    if not _is_right(block, swept, path, scope):
        return
    labels: set[str] = set()
    for values in product(*(values.items for values in swept.mapping.values())):
        member = block
        for key, value in zip(swept.mapping, values, strict=True):
            member = put(member, key.split("."), value)
        use = read_use(member, path, ("trainer", "compressor"), scope, references)
        label = ",".join(map(_label, swept.mapping, values))
        if label in labels:
            scope.problem(f"{path}.sweep gives two members called '{label}'", values[-1].mark)
        elif use is not None:
            yield label, use
        labels.add(label)


def _is_right(block: Node, swept: Node, path: str, scope: Scope) -> bool:
    """Whether a sweep's keys are valid; notes the first mistake. The envelope checks its lists."""
    for key, mark in swept.keys.items():
        if not re.fullmatch(r"with(\.[^.]+)+", key):
            message, hint = f"{path}.sweep: '{key}' is not an option", "write with.<option>: [value, …]"
        elif (written := _written(block, key.split("."))) is not None:
            option, mark = written
            message = f"{path}.{option} has no effect: `sweep` varies {key}"
            hint = f"remove one of the two; an override can delete the option with `{option}: null`"
        elif inner := next((other for other in swept.mapping if other.startswith(f"{key}.")), None):
            message = f"{path}.sweep: '{key}' and '{inner}' vary the same option"
            mark, hint = swept.keys[inner], "remove one of them"
        else:
            continue
        scope.problem(message, mark, hint)
        return False
    count = prod(len(values.items) for values in swept.mapping.values())
    if count > MAX_MEMBERS:
        scope.problem(
            f"{path}.sweep gives {count:,} members, at most {MAX_MEMBERS:,} are allowed", swept.mark
        )
    return count <= MAX_MEMBERS


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
    """`sparsity=0.5`: the last part of the option's path and the value, made safe for a file name."""
    text = value.value if isinstance(value.value, str) else json.dumps(value.plain())
    return f"{key.split('.')[-1]}={re.sub(r'[^A-Za-z0-9._+-]+', '-', text)}"
