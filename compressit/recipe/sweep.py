"""`sweep`: one stage becomes a member for every combination of values."""

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


def swept(block: Node, path: str, scope: Scope, references: list[Reference]) -> Iterator[tuple[str, Use]]:
    """The label and Use of each combination of `sweep`, the last key fastest; else one without a label."""
    kinds = ("trainer", "compressor")
    swept = block.at("sweep")
    if not swept.mapping:
        use = read_use(block, path, kinds, scope, references)
        if use is not None:
            yield "", use
        return
    keys = list(swept.mapping)
    choices = [swept.mapping[key].items for key in keys]
    count = prod(len(values) for values in choices)
    for key in keys:
        if not re.fullmatch(r"with(\.[^.]+)+", key):
            scope.problem(
                f"{path}.sweep: '{key}' is no option", swept.keys[key], "write with.<option>: [value, …]"
            )
            return
    if count > MAX_MEMBERS:
        scope.problem(f"{path}.sweep gives {count:,} members: at most {MAX_MEMBERS:,}", swept.mark)
        return
    for key in keys:
        if (idle := _written(block, key.split("."))) is not None:
            option, mark = idle
            hint = f"leave one of the two out; over another's recipe, `{option}: null` takes it away"
            scope.problem(f"{path}.{option} has no effect: `sweep` varies {key}", mark, hint)
            return
    if (two := _nested(keys)) is not None:
        message = f"{path}.sweep: '{two[0]}' and '{two[1]}' vary the same option"
        scope.problem(message, swept.keys[two[1]], "leave one of them out")
        return
    labels: set[str] = set()
    for values in product(*choices):
        member = block
        for key, value in zip(keys, values, strict=True):
            member = put(member, key.split("."), value)
        use = read_use(member, path, kinds, scope, references)
        label = ",".join(_label(key, value) for key, value in zip(keys, values, strict=True))
        if label in labels:
            scope.problem(f"{path}.sweep gives two members called '{label}'", values[-1].mark)
        elif use is not None:
            yield label, use
        labels.add(label)


def _written(block: Node, path: Sequence[str]) -> tuple[str, Mark] | None:
    """The option a block gives at this path, or on the way to it where that holds no options, and its place."""
    node = block
    for depth, part in enumerate(path):
        if node.value is None:
            return None
        if not isinstance(node.value, Mapping):
            return ".".join(path[:depth]), node.mark
        if part not in node.mapping:
            return None
        node = node.mapping[part]
    return ".".join(path), node.mark


def _nested(keys: Sequence[str]) -> tuple[str, str] | None:
    """Two keys of which one lies within the other."""
    pairs = ((one, two) for one in keys for two in keys if two.startswith(f"{one}."))
    return next(pairs, None)


def _label(key: str, value: Node) -> str:
    """`sparsity=0.5`: the option's last part and the value, fit for a file name."""
    text = value.value if isinstance(value.value, str) else json.dumps(value.plain())
    return f"{key.split('.')[-1]}={re.sub(r'[^A-Za-z0-9._+-]+', '-', str(text))}"
