"""Reads `compare`: the variants of a recipe are strategies, and controls are added to them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from compressit.contract.kinds import Evaluator
from compressit.contract.records import COSTS, Metric, column, is_cost
from compressit.errors import CompressitError, Mark, did_you_mean
from compressit.formatting import counted
from compressit.host.declared import declared
from compressit.recipe.controls import KINDS, with_controls
from compressit.recipe.envelope import CompareBlock
from compressit.recipe.model import Compare, Strategy, Variant
from compressit.recipe.scope import Scope
from compressit.recipe.size import MOST_JOBS
from compressit.recipe.ways import ways
from compressit.recipe.yamlfile import Node

ORIGINAL, MAX_DROP = "original", "max_drop"


def check_variants(node: Node, variants: Node, scope: Scope) -> None:
    """Notes what is wrong with comparing these variants, whatever is in them. `node`: the block `compare`."""
    if not variants.mapping:
        hint = "name each strategy under `variants`, with its `stages`"
        scope.problem("compare has nothing to compare: the recipe has no variants", node.mark, hint)
    if ORIGINAL in variants.mapping:
        scope.problem(
            f"'{ORIGINAL}' means the dense parent of every strategy, so a variant cannot be called so",
            variants.keys[ORIGINAL],
            "choose another name",
        )


def read_compare(
    block: CompareBlock, node: Node, names: Node, variants: Sequence[Variant], seeds: int, scope: Scope
) -> tuple[Compare | None, tuple[Variant, ...]]:
    """How valid variants are compared, and all variants, with their controls. Mistakes are noted.

    `block` was read from `node`; `names`: the recipe's `variants`, for places.
    """
    kinds = KINDS if block.controls is True else block.controls or ()
    try:
        roles, controls = with_controls(variants, kinds, scope.host)
    except CompressitError as error:
        scope.problem(f"compare.controls: {error.message}", node.at("controls").mark, error.hint)
        return None, tuple(variants)
    own = {variant.name for variant in variants}
    for control in controls:
        if control.name in own:
            message = f"'{control.name}' is the name of a control that `compare` adds"
            where = names.keys.get(control.name, node.mark)
            scope.problem(message, where, "rename the variant, or choose the controls by `compare.controls`")
    _check_size([*variants, *controls], seeds, node, scope)
    columns = _columns(variants)
    metric = _metric(block, node.at("metric").mark, columns, variants, scope)
    if block.baseline not in (ORIGINAL, *roles):
        hint = did_you_mean(block.baseline, (ORIGINAL, *roles))
        scope.problem(
            f"compare.baseline names no variant: '{block.baseline}'", node.at("baseline").mark, hint
        )
    _check_budget(block.budget, node.at("budget"), columns, scope)
    if metric is None:
        return None, tuple(variants)
    selecting = _selecting(metric, columns, variants)
    doubts = _doubts(roles, selecting, block.controls, variants)
    made = Compare(metric, selecting, block.baseline, tuple(block.budget.items()), roles, tuple(doubts))
    return made, (*variants, *controls)


def _columns(variants: Sequence[Variant]) -> dict[str, Metric]:
    """The numbers that the evaluators declare, by column."""
    return {
        column(measure.name, name): what
        for variant in variants
        for measure in variant.evaluate
        for name, what in declared(cast("Evaluator[Any]", measure.use.plugin), variant.posed).items()
        if isinstance(what, Metric)
    }


def _metric(
    block: CompareBlock, mark: Mark, columns: Mapping[str, Metric], variants: Sequence[Variant], scope: Scope
) -> str | None:
    """The column that is compared: the one asked for, else what the task watches on the test split, else the first
    score of that split, or of any."""
    judged = [name for name, what in columns.items() if what.better != "neither"]
    if block.metric is not None:
        if block.metric in judged:
            return block.metric
        known = block.metric in columns
        why = "is neither better nor worse" if known else "is what no evaluator of this recipe measures"
        return scope.problem(
            f"compare.metric: '{block.metric}' {why}", mark, did_you_mean(block.metric, judged)
        )
    scores = [name for name in judged if columns[name].unit not in COSTS]
    watched = [f"test_{variant.posed.watch}" for variant in variants]
    usual = [name for name in watched if name in scores] + [n for n in scores if n.startswith("test_")]
    found = next(iter([*usual, *scores]), None)
    if found is None:
        hint = "add an evaluator, like eval.accuracy or eval.scores"
        scope.problem("compare has nothing to compare: no evaluator measures a score", mark, hint)
    return found


def _check_budget(
    budget: Mapping[str, float], node: Node, columns: Mapping[str, Metric], scope: Scope
) -> None:
    costs = [name for name, what in columns.items() if is_cost(name, what.better, what.unit)]
    for name, value in budget.items():
        if name == MAX_DROP:
            continue
        if name not in costs:
            message = f"compare.budget.{name} is no cost that an evaluator of this recipe measures"
            scope.problem(message, node.keys[name], did_you_mean(name, (*costs, MAX_DROP)))
        elif not 0 < value <= 1:
            message = f"compare.budget.{name} must be above 0 and at most 1 (got {value:g})"
            scope.problem(message, node.at(name).mark, "it is a fraction of what the original costs")


def _selecting(metric: str, columns: Mapping[str, Metric], variants: Sequence[Variant]) -> str | None:
    """The metric of the validation split, if all data have one."""
    name = re.sub(r"(^|_)test_", r"\1validation_", metric, count=1)
    known = name != metric and name in columns and all(variant.offer.validation for variant in variants)
    return name if known else None


def _check_size(variants: Sequence[Variant], seeds: int, node: Node, scope: Scope) -> None:
    """Notes a mistake if the controls make too many jobs."""
    models = sum(
        (stage.repeat or 1) * len(stage.members) * (1 + len(variant.evaluate))
        for variant in variants
        for stage in variant.stages
    )
    if models * seeds > MOST_JOBS:
        scope.problem(
            f"with its controls the recipe may make {models * seeds:,} jobs, at most {MOST_JOBS:,} are allowed",
            node.mark,
            "use fewer seeds, strategies or evaluators, or choose the controls by `controls`",
        )


def _doubts(
    roles: Mapping[str, Strategy],
    selecting: str | None,
    asked: bool | Sequence[str],
    variants: Sequence[Variant],
) -> list[str]:
    """What a comparison should be read with."""
    found: list[str] = []
    recovery = {name: role.recovery for name, role in roles.items() if not role.control}
    if len(set(recovery.values())) > 1:
        told = ", ".join(f"{name} {'?' if epochs is None else epochs}" for name, epochs in recovery.items())
        found.append(
            f"compare: the strategies train for different numbers of epochs after the original ({told}), so what "
            "differs between them may be that"
        )
    if selecting is None:
        found.append(
            "compare: there is no validation split to choose by, only the test split, which chooses nothing"
        )
    made = {role.control for role in roles.values()}
    for kind in asked if not isinstance(asked, bool) else ():
        if kind not in made:
            found.append(f"compare: no strategy can have the control `{kind}`, or it is a strategy already")
    lengths = [way.epochs() for variant in variants for way in ways(variant)]
    if None in lengths:
        found.append(
            f"compare: {counted(lengths.count(None), 'model')} of unknown epochs: `steps` are epochs only where the "
            "data say how many examples they have"
        )
    return found
