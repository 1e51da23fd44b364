"""Reads `search`: the options of stages that `compressit search` varies, and stages that may swap places.

Every value that is written, and both ends of a range, is tried as if it stood in the recipe. So a value that a plugin
does not take is a mistake where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

from compressit.config import Ratio
from compressit.errors import Problem, did_you_mean
from compressit.recipe.envelope import RangeBlock
from compressit.recipe.merge import put
from compressit.recipe.model import Search, Stage, Variant, Vary
from compressit.recipe.names import stage_of
from compressit.recipe.order import sorted_by_need
from compressit.recipe.scope import Scope
from compressit.recipe.validation import shown, validate
from compressit.recipe.yamlfile import Node

ORDER = "order"
MOST_SWAPPED = 4  # stages of a group: 24 orders
_KEY = re.compile(r"stages\.(.+?)\.with\.(.+)")


@dataclass(frozen=True)
class Written:
    """A valid variant, and the body that it was read from."""

    body: Node
    variant: Variant

    def stage(self, name: str) -> Stage | None:
        """Its stage of that name."""
        return next((stage for stage in self.variant.stages if stage.name == name), None)


Tried = Callable[[Node], Sequence[Problem]]
"""The mistakes of a variant's body."""


def read_search(node: Node, given: Sequence[Written], tried: Tried, scope: Scope) -> Search:
    """What may vary. Mistakes are noted."""
    readers = {key: spec for key, spec in node.mapping.items() if key != ORDER}
    vary = [_vary(key, spec, node, given, tried, scope) for key, spec in readers.items()]
    order = _order(node.at(ORDER), given, scope) if ORDER in node.mapping else ()
    return Search(tuple(found for found in vary if found is not None), order)


def reordered(
    stages: Sequence[Stage], names: Sequence[str], placed: Sequence[str]
) -> tuple[Stage, ...] | None:
    """The stages with the first of `placed` in the place of the first of `names`, and so on: it gets what that one got,
    and what needed that one needs it. None if stages would then need each other in a circle."""
    moved = dict(zip(names, placed, strict=True))
    needs = {moved.get(s.name, s.name): moved.get(s.needs, s.needs) for s in stages}
    found = {stage.name: replace(stage, needs=needs[stage.name]) for stage in stages}
    edges = {
        name: {stage.needs, *(there for ref in stage.refs if (there := stage_of(ref, found)) is not None)}
        for name, stage in found.items()
    }
    ordered = sorted_by_need(edges)
    return tuple(found[name] for name in ordered) if len(ordered) == len(found) else None


def ratio_of(stage: Stage, option: Sequence[str]) -> Ratio | None:
    """What the stage's plugin says of its option; None if it is no ratio."""
    field = type(stage.use.plugin.config).model_fields.get(option[0]) if len(option) == 1 else None
    return Ratio.of(field) if field is not None else None


def _vary(
    key: str, spec: Node, node: Node, given: Sequence[Written], tried: Tried, scope: Scope
) -> Vary | None:
    matched = _KEY.fullmatch(key)
    if matched is None:
        message = f"search: '{key}' is no option of a stage"
        return scope.problem(message, node.keys[key], "write stages.<stage>.with.<option>, or order")
    name, option = matched[1], tuple(matched[2].split("."))
    having = [one for one in given if one.stage(name) is not None]
    if not having:
        known = {stage.name for one in given for stage in one.variant.stages}
        return scope.problem(f"search: there is no stage '{name}'", node.keys[key], did_you_mean(name, known))
    first = having[0].stage(name)
    assert first is not None
    found = _values(Vary(name, option), f"search.{key}", spec, ratio_of(first, option), scope)
    if found is None:
        return None
    before = len(scope.problems)
    path = ("stages", name, "with", *option)
    for one in having:
        for value in _probes(found, spec):
            new = (problem for problem in tried(put(one.body, path, value)) if problem not in scope.problems)
            scope.problems.extend(new)
    return found if len(scope.problems) == before else None


def _values(vary: Vary, path: str, spec: Node, ratio: Ratio | None, scope: Scope) -> Vary | None:
    """The values of the option, as they are written."""
    if isinstance(spec.value, tuple) and spec.value:
        return replace(vary, choices=tuple(item.plain() for item in spec.items))
    if not isinstance(spec.value, Mapping):
        hint = "write {low: 0.2, high: 0.9}, or a list of values"
        return scope.problem(
            f"{path} must be a range or a list of values (got {shown(spec)})", spec.mark, hint
        )
    block = validate(RangeBlock, spec, path, scope.problems)
    if block is None:
        return None
    ends = (block.low, block.high)
    low, high = (own if own is not None else of for own, of in zip(ends, _usual(ratio), strict=True))
    layers = ratio.layers if ratio is not None else ""
    if low is None or high is None:
        return scope.problem(
            f"{path} needs `low` and `high`", spec.mark, "its plugin does not say what to try"
        )
    if low >= high:
        return scope.problem(f"{path}.low must be smaller than `high` (got {low:g})", spec.at("low").mark)
    if block.log and low <= 0:
        hint = "leave out `log`, or start above 0"
        return scope.problem(
            f"{path}.low must be above 0 with `log` (got {low:g})", spec.at("low").mark, hint
        )
    if block.per_layer and not layers:
        hint = "only an option that its plugin marks as a ratio per layer can have one for each"
        return scope.problem(f"{path}.per_layer is for a ratio per layer", spec.at("per_layer").mark, hint)
    if layers and not block.per_layer:
        return scope.problem(f"{path} is a ratio per layer", spec.mark, "add `per_layer: true`")
    whole = type(block.low) is int and type(block.high) is int
    return replace(vary, low=low, high=high, log=block.log, whole=whole, layers=layers)


def _usual(ratio: Ratio | None) -> tuple[float | None, float | None]:
    return (ratio.low, ratio.high) if ratio is not None else (None, None)


def _probes(vary: Vary, spec: Node) -> list[Node]:
    """The values to try, where they were written."""
    if vary.choices:
        return list(spec.items)
    ends = [Node(vary.low, spec.at("low").mark), Node(vary.high, spec.at("high").mark)]
    return [Node({"*": end}, end.mark, {"*": end.mark}) for end in ends] if vary.layers else ends


def _order(node: Node, given: Sequence[Written], scope: Scope) -> tuple[tuple[str, ...], ...]:
    groups: list[tuple[str, ...]] = []
    for group in node.items or (Node(None, node.mark),):
        names = tuple(str(item.value) for item in group.items)
        having = [one.variant for one in given if all(one.stage(name) is not None for name in names)]
        fault = _fault(names, groups, having)
        if fault is not None:
            scope.problem(f"search.order {fault}", group.mark, "write lists of stages, like [[prune, half]]")
            continue
        for placed in permutations(names):
            if any(reordered(variant.stages, names, placed) is None for variant in having):
                circle = f"search.order: as {', '.join(placed)} the stages would need each other in a circle"
                scope.problem(circle, group.mark, "one of them names a model that the other makes")
        groups.append(names)
    return tuple(groups)


def _fault(names: Sequence[str], groups: Sequence[Sequence[str]], having: Sequence[Any]) -> str | None:
    if not 2 <= len(names) <= MOST_SWAPPED:
        return f"must be lists of 2 to {MOST_SWAPPED} stages"
    if len(set(names)) < len(names) or any(name in group for name in names for group in groups):
        return "names a stage twice"
    if not having:
        return f"names stages that no variant has together: {', '.join(names)}"
    return None
