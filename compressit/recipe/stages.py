"""The stages of a recipe: what each needs, its members, and an order in which they can run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compressit.errors import Mark, did_you_mean
from compressit.recipe.envelope import INIT, PREVIOUS, StageBlock
from compressit.recipe.model import Stage, member_labels, member_of
from compressit.recipe.sweep import swept
from compressit.recipe.uses import Reference, Scope, with_options
from compressit.recipe.validation import validate
from compressit.recipe.yamlfile import Node


def read_stages(node: Node, scope: Scope) -> tuple[Stage, ...]:
    """Every stage, after what it needs; otherwise in the order of the file."""
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
            message = f"'{name}' is the name of a round of '{repeated.stage.name}'"
            scope.problem(message, mark, "choose another name")
    return _ordered(drafts, scope)


@dataclass(frozen=True)
class _Draft:
    """A stage and where it says which others it needs; of these, the models that its options name."""

    stage: Stage
    edges: Mapping[str, Mark]
    named: tuple[Reference, ...]


def _stage(name: str, node: Node, default: str, scope: Scope) -> _Draft | None:
    path = f"stages.{name}"
    block = validate(StageBlock, with_options(node), path, scope.problems)
    needs = _needs(name, node, default, scope)
    references: list[Reference] = []
    members = tuple(swept(node, path, scope, references))
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
    edges = {ref.name: ref.mark for ref in reversed([needs, *references]) if ref.name in scope.stages}
    return _Draft(stage, edges, tuple(dict.fromkeys(ref for ref in references if ref.name in scope.stages)))


def _needs(name: str, node: Node, default: str, scope: Scope) -> Reference | None:
    written = node.at("needs")
    if not isinstance(written.value, str):
        return Reference(default, node.mark)
    if written.value != INIT and written.value not in scope.stages:
        known = [*(stage for stage in scope.stages if stage != name), INIT]
        message = f"stages.{name}.needs names no stage: '{written.value}'"
        scope.problem(message, written.mark, did_you_mean(written.value, known))
        return None
    return Reference(written.value, written.mark)


def _ordered(drafts: Mapping[str, _Draft], scope: Scope) -> tuple[Stage, ...]:
    """Stages after what they need; a circle is a problem, at the place of one of its edges."""
    waiting = dict(drafts)
    ordered: list[Stage] = []
    while waiting:
        ready = next((n for n, d in waiting.items() if not any(e in waiting for e in d.edges)), None)
        if ready is None:
            circle = _circle(waiting)
            arrows = " -> ".join([*circle, circle[0]])
            mark = waiting[circle[0]].edges[circle[1 % len(circle)]]
            hint = "the round before is called `previous`" if len(circle) == 1 else None
            scope.problem(f"stages need each other in a circle: {arrows}", mark, hint)
            return ()
        ordered.append(waiting.pop(ready).stage)
    _check_members(ordered, drafts, scope)
    return tuple(ordered)


def _check_members(ordered: Sequence[Stage], drafts: Mapping[str, _Draft], scope: Scope) -> None:
    """A model that a stage names must be one model for each of its members. Stages come after what they need."""
    labels: dict[str, dict[str, None]] = {INIT: {"": None}}
    for stage in ordered:
        if stage.needs not in labels:
            continue  # a mistake was told of what it needs
        labels[stage.name] = dict.fromkeys(member_labels(stage, [*labels[stage.needs]]))
        for ref in drafts[stage.name].named:
            for label in labels[stage.name] if ref.name in labels else ():
                if member_of(label, labels[ref.name]) is None:
                    members = ", ".join([*labels[ref.name]][:10]) + (
                        ", …" if len(labels[ref.name]) > 10 else ""
                    )
                    message = (
                        f"stages.{stage.name} names the model '{ref.name}', which has {len(labels[ref.name])} members: "
                        f"{members}"
                    )
                    hint = f"let '{stage.name}' need '{ref.name}' or something made from it: each goes with its own"
                    scope.problem(message, ref.mark, hint)
                    break


def _circle(waiting: Mapping[str, _Draft]) -> Sequence[str]:
    """One circle among stages that all wait for another, from its first stage in the file."""
    walked = [next(iter(waiting))]
    while True:
        following = next(name for name in waiting[walked[-1]].edges if name in waiting)
        if following in walked:
            circle = walked[walked.index(following) :]
            first = min(circle, key=list(waiting).index)
            return [*circle[circle.index(first) :], *circle[: circle.index(first)]]
        walked.append(following)
