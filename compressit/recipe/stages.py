"""Reads the stages of a recipe and puts them in an order in which they can run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from compressit.errors import Mark, did_you_mean
from compressit.recipe import sweep
from compressit.recipe.envelope import INIT, RELATIVE, StageBlock
from compressit.recipe.model import Stage
from compressit.recipe.names import elsewhere, stage_of
from compressit.recipe.order import circle_in, sorted_by_need
from compressit.recipe.scope import Reference, Scope
from compressit.recipe.uses import with_options
from compressit.recipe.validation import validate
from compressit.recipe.yamlfile import Node


@dataclass(frozen=True)
class _Draft:
    """A stage with the stages of its variant that it needs, and the models that its options name, with their places."""

    stage: Stage
    edges: Mapping[str, Mark]
    named: tuple[Reference, ...]


def read_stages(node: Node, scope: Scope) -> tuple[tuple[Stage, ...], list[tuple[str, Reference]]]:
    """All stages in the order of the file, except that each comes after the stages it needs; and the models that the
    options of each stage name."""
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
    ordered = sorted_by_need({name: draft.edges for name, draft in drafts.items()})
    if len(ordered) < len(drafts):
        _tell_circle({name: draft for name, draft in drafts.items() if name not in ordered}, scope)
        return (), []
    named = [(name, reference) for name in ordered for reference in drafts[name].named]
    return tuple(drafts[name].stage for name in ordered), named


def _stage(name: str, node: Node, default: str, scope: Scope) -> _Draft | None:
    path = f"stages.{name}"
    block = validate(StageBlock, with_options(node), path, scope.problems)
    needs = _needs(name, node, default, scope)
    references: list[Reference] = []
    members = tuple(sweep.members(node, path, scope, references))
    if block is None or needs is None or not members:
        return None
    named = tuple(dict.fromkeys(ref for ref in references if not ref.name.endswith(".safetensors")))
    stage = Stage(
        name=name,
        use=members[0][1],
        needs=needs.name,
        repeat=block.repeat,
        feed=block.feed,
        sweep=tuple((key, tuple(values)) for key, values in block.sweep.items()),
        members=members,
        refs=tuple(dict.fromkeys(ref.name for ref in references if ref.name not in RELATIVE)),
    )
    edges = {needs.name: needs.mark} if needs.name in scope.stages else {}
    for reference in named:
        wanted = stage_of(reference.name, scope.stages)
        if wanted is not None and elsewhere(reference.name)[2] is None:  # other variants: `references`
            edges.setdefault(wanted, reference.mark)
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


def _tell_circle(drafts: Mapping[str, _Draft], scope: Scope) -> None:
    """Notes the mistake of stages that need each other, at one of their edges."""
    circle = circle_in({name: draft.edges for name, draft in drafts.items()})
    arrows = " -> ".join([*circle, circle[0]])
    mark = drafts[circle[0]].edges[circle[1 % len(circle)]]
    hint = "the previous round is called `previous`" if len(circle) == 1 else None
    scope.problem(f"stages need each other in a circle: {arrows}", mark, hint)
