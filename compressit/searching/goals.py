"""What a recipe can be searched for: which columns its evaluators declare."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from compressit.contract.kinds import Evaluator
from compressit.contract.records import Metric, column, is_cost
from compressit.errors import CompressitError, did_you_mean
from compressit.host.declared import declared
from compressit.recipe.model import Measure, Variant
from compressit.searching.space import Strategy
from compressit.searching.trials import Goal

VALIDATION = "validation"


def goal_of(strategies: tuple[Strategy, ...], minimize: str, max_drop: float, metric: str | None) -> Goal:
    """The goal. `metric`: a column of the validation split; None: what the task watches there.

    Raises CompressitError if the data have no validation split, or no evaluator gives these columns.
    """
    if not max_drop >= 0:
        raise CompressitError(f"max_drop is {max_drop:g}", "say how much may be lost: 0 or more")
    for strategy in strategies:
        if not strategy.variant.offer.validation:
            raise CompressitError(
                f"{strategy.name}: a search chooses by the validation split, and the data has none",
                "split off some training images, for example `data: {with: {validation: 0.1}}`",
            )
    watched = f"{VALIDATION}_{strategies[0].variant.posed.watch}"
    goal = Goal(minimize, metric or watched, max_drop)
    if VALIDATION not in goal.metric:
        hint = f"name a column of the validation split, like '{watched}'"
        raise CompressitError(f"'{goal.metric}' is not measured on the validation split", hint)
    for strategy in strategies:
        found = _declared(strategy.variant)
        for name, why in ((goal.minimize, "how much a model costs"), (goal.metric, "what a model is worth")):
            if name not in found:
                raise CompressitError(
                    f"{strategy.name}: no evaluator of the recipe gives '{name}', {why}",
                    did_you_mean(name, found) or "add one to `evaluate`, such as eval.size",
                )
        cost, score = found[goal.minimize], found[goal.metric]
        costs = [n for n, m in found.items() if is_cost(n, m.better, m.unit)]
        if goal.minimize not in costs:
            raise CompressitError(f"'{goal.minimize}' is no cost", f"the recipe's costs: {', '.join(costs)}")
        if score.better == "neither":
            raise CompressitError(
                f"'{goal.metric}' is neither better nor worse", "name another with --metric"
            )
        goal = replace(goal, better=score.better, units=(cost.unit, score.unit))
    return goal


def measures_of(variant: Variant, goal: Goal) -> tuple[Measure, ...]:
    """The evaluators that give the goal's columns, of every model."""
    wanted = {goal.minimize, goal.metric}
    return tuple(
        replace(measure, stages=None)
        for measure in variant.evaluate
        if wanted & _columns(measure, variant).keys()
    )


def _declared(variant: Variant) -> dict[str, Metric]:
    return {name: what for measure in variant.evaluate for name, what in _columns(measure, variant).items()}


def _columns(measure: Measure, variant: Variant) -> dict[str, Metric]:
    plugin = cast("Evaluator[Any]", measure.use.plugin)
    found = declared(plugin, variant.posed)
    return {column(measure.name, name): what for name, what in found.items() if isinstance(what, Metric)}
