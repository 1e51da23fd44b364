"""Reads `evaluate`: what to measure, of which models, and in which columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from compressit.contract.classification import usual
from compressit.contract.kinds import Evaluator
from compressit.contract.records import column
from compressit.contract.results import RESERVED
from compressit.host.declared import declared
from compressit.recipe.envelope import EvaluateBlock
from compressit.recipe.model import Measure
from compressit.recipe.scope import Reference, Scope
from compressit.recipe.uses import as_block, listed_twice, read_use, with_options
from compressit.recipe.validation import validate
from compressit.recipe.yamlfile import Node


@dataclass(frozen=True)
class Item:
    """A measure as it was read: its place in the recipe, and the models that its options name."""

    measure: Measure
    path: str  # "evaluate.0"
    node: Node
    named: tuple[Reference, ...]


def read_evaluators(items: Node, scope: Scope) -> list[Item]:
    """The items of `evaluate`. Two with the same column are a mistake: a column must tell what it holds."""
    found: list[Item] = []
    owners: dict[str, str] = {}
    for index, item in enumerate(items.items):
        path, node = f"evaluate.{index}", as_block(item)
        block = validate(EvaluateBlock, with_options(node), path, scope.problems)
        named: list[Reference] = []
        use = read_use(node, path, ("evaluator",), scope, named)
        if use is None or listed_twice(use, [other.measure.use for other in found], path, node.mark, scope):
            continue
        if block is None:
            continue
        stages = tuple(block.stages) if block.stages is not None else None
        measure = Measure(use, block.as_ or "", stages)
        _check_columns(measure, owners, path, node, scope)
        models = tuple(ref for ref in named if not ref.name.endswith(".safetensors"))
        found.append(Item(measure, path, node, models))
    return found


def _check_columns(measure: Measure, owners: dict[str, str], path: str, node: Node, scope: Scope) -> None:
    """Notes columns that other evaluators have, or the host; adds the others to `owners`."""
    plugin, task = cast("Evaluator[Any]", measure.use.plugin), scope.tasks[0] if scope.tasks else usual()
    found = scope.tried(path, node.mark, declared, plugin, task) or {}
    columns = [column(measure.name, name) for name in found]
    if measure.name:
        taken = [name for name in columns if name in RESERVED]
        for name in taken:
            scope.problem(
                f"{path}.as: the column '{name}' is the host's own", node.at("as").mark, "choose another name"
            )
    again = {name: owners[name] for name in columns if name in owners}
    if again:
        others = " and ".join(dict.fromkeys(again.values()))
        scope.problem(
            f"{path}: {measure.uses} measures {', '.join(again)}, which {others} already measures",
            node.at("as").mark if measure.name else node.mark,
            "remove one of them, or give this one a name for its columns, for example `as: second`",
        )
    owners.update({name: measure.uses for name in columns if name not in owners})
