"""Reads the stages of a recipe and puts them in an order in which they can run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressit.errors import Mark, did_you_mean
from compressit.recipe import sweep
from compressit.recipe.envelope import INIT, PREVIOUS, StageBlock
from compressit.recipe.model import Stage, join_labels, member_of
from compressit.recipe.uses import Reference, Scope, with_options
from compressit.recipe.validation import validate
from compressit.recipe.yamlfile import Node


@dataclass(frozen=True)
class _Draft:
    """A stage with the stages it needs (`edges`) and those that its options name (`named`), with their places."""

    stage: Stage
    edges: Mapping[str, Mark]
    named: tuple[Reference, ...]


def read_stages(node: Node, scope: Scope) -> tuple[Stage, ...]:
    """All stages in the order of the file, except that each comes after the stages it needs."""
    drafts: dict[str, _Draft] = {}
    default = INIT
    for name, block in node.mapping.items():
        draft = _stage(name, block, default, scope)
        if draft is not None:
            drafts[name] = draft
        default = name
    for name, mark in node.keys.items():
        repeated = drafts.get(re.sub(r"-\d+$", "", name))
        if repeated is not None and repeated.stage.repeat and repeated.stage.name != name:
            message = f"'{name}' is already the name of a round of '{repeated.stage.name}'"
            scope.problem(message, mark, "choose another name")
    ordered = _ordered(drafts, scope)
    _check_members(ordered, drafts, scope)
    return tuple(ordered)


def _stage(name: str, node: Node, default: str, scope: Scope) -> _Draft | None:
    path = f"stages.{name}"
    block = validate(StageBlock, with_options(node), path, scope.problems)
    needs = _needs(name, node, default, scope)
    references: list[Reference] = []
    members = tuple(sweep.members(node, path, scope, references))
    if block is None or needs is None or not members:
        return None
    stage = Stage(
        name=name,
        use=members[0][1],
        needs=needs.name,
        repeat=block.repeat,
        feed=block.feed,
        sweep=tuple((key, tuple(values)) for key, values in block.sweep.items()),
        members=members,
        refs=tuple(dict.fromkeys(ref.name for ref in references if ref.name != PREVIOUS)),
    )
    named = tuple(dict.fromkeys(ref for ref in references if ref.name in scope.stages))
    edges = {ref.name: ref.mark for ref in reversed([needs, *named]) if ref.name in scope.stages}
    return _Draft(stage, edges, named)


def _needs(name: str, node: Node, default: str, scope: Scope) -> Reference | None:
    written = node.at("needs")
    if not isinstance(written.value, str):
        return Reference(default, node.mark)
    if written.value != INIT and written.value not in scope.stages:
        known = [*(stage for stage in scope.stages if stage != name), INIT]
        message = f"stages.{name}.needs names no stage: '{written.value}'"
        return scope.problem(message, written.mark, did_you_mean(written.value, known))
    return Reference(written.value, written.mark)


def _ordered(drafts: Mapping[str, _Draft], scope: Scope) -> list[Stage]:
    """Sorts the stages so that each comes after those it needs. A circle is a problem, at one of its edges."""
    waiting = dict(drafts)
    ordered: list[Stage] = []
    while waiting:
        ready = next((n for n, d in waiting.items() if not any(e in waiting for e in d.edges)), None)
        if ready is None:
            circle = _circle(waiting)
            arrows = " -> ".join([*circle, circle[0]])
            mark = waiting[circle[0]].edges[circle[1 % len(circle)]]
            hint = "the previous round is called `previous`" if len(circle) == 1 else None
            scope.problem(f"stages need each other in a circle: {arrows}", mark, hint)
            return []
        ordered.append(waiting.pop(ready).stage)
    return ordered


def _circle(waiting: Mapping[str, _Draft]) -> Sequence[str]:
    """One circle among stages that all wait for another. It starts at its first stage in the file."""
    walked = [next(iter(waiting))]
    while True:
        following = next(name for name in waiting[walked[-1]].edges if name in waiting)
        if following in walked:
            circle = walked[walked.index(following) :]
            start = circle.index(min(circle, key=list(waiting).index))
            return [*circle[start:], *circle[:start]]
        walked.append(following)


def _check_members(ordered: Sequence[Stage], drafts: Mapping[str, _Draft], scope: Scope) -> None:
    """Checks that each model that a stage names is one model for each member. `ordered` is sorted by need."""
    labels: dict[str, dict[str, None]] = {INIT: {"": None}}
    for stage in ordered:
        if stage.needs not in labels:
            continue  # the stage it needs has a mistake, already reported
        own = [label for label, _ in stage.members]
        labels[stage.name] = dict.fromkeys(
            join_labels(above, each) for above in labels[stage.needs] for each in own
        )
        for ref in drafts[stage.name].named:
            others = labels.get(ref.name)
            if others is None or all(member_of(label, others) is not None for label in labels[stage.name]):
                continue
            shown = ", ".join([*others][:10]) + (", …" if len(others) > 10 else "")
            message = (
                f"stages.{stage.name} names the model '{ref.name}', which has {len(others)} members: {shown}"
            )
            hint = (
                f"let '{stage.name}' need '{ref.name}' or a stage made from it: then each member has its own"
            )
            scope.problem(message, ref.mark, hint)
