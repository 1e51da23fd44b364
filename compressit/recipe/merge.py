"""Merges the parts of a recipe: base, then profile, then variant, then `--set`.

Mappings merge, everything else replaces, null deletes, a changed `uses` drops the old `with`. Values keep their
places, so a mistake is reported where it was written.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from compressit.recipe.yamlfile import Node


def merge(base: Node, over: Node) -> Node:
    """`over` merged into `base` (as RFC 7386 merges JSON), with the rule for `uses`."""
    if not isinstance(over.value, Mapping):
        return over
    if not isinstance(base.value, Mapping):
        base = Node({}, over.mark)
    dropped = _dropped(base, over)
    values = {key: node for key, node in base.mapping.items() if key not in dropped}
    keys = {key: mark for key, mark in base.keys.items() if key not in dropped}
    for key, node in over.value.items():
        if node.value is None:
            values.pop(key, None)
            keys.pop(key, None)
        else:
            keys[key] = over.keys[key]
            values[key] = merge(values.get(key) or Node(None, node.mark), node)
    return Node(values, base.mark, keys)


def put(node: Node, path: Sequence[str], value: Node) -> Node:
    """`node` with `value` set at `path` (a null stays a null). Missing mappings on the path are created."""
    if not path:
        return value
    below = put(node.at(path[0]), path[1:], value)
    return Node({**node.mapping, path[0]: below}, node.mark, {**node.keys, path[0]: value.mark})


def only(node: Node, keys: Collection[str]) -> Node:
    """The mapping with only these keys."""
    values = {key: value for key, value in node.mapping.items() if key in keys}
    return Node(values, node.mark, {key: node.keys[key] for key in values})


def _dropped(base: Node, over: Node) -> frozenset[str]:
    """Keys of `base` that do not apply to `over`'s plugin or checkpoint."""
    old, new = base.at("uses").value, over.at("uses").value
    if old is not None and new is not None and new != old:
        return frozenset({"with"})
    if new is not None and "from" in base.mapping:
        return frozenset({"from"})
    if old is not None and over.at("from").value is not None:
        return frozenset({"uses", "with", "weights", "init"})
    return frozenset()
