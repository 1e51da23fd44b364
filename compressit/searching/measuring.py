"""Makes and measures models of a search: a batch of trials is one recipe with a variant for each."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from compressit.contract.results import Results, Row
from compressit.errors import CompressitError
from compressit.host.plugins import Host
from compressit.planning.plan import make_plan
from compressit.planning.points import Plan, Point
from compressit.recipe.model import Recipe, Search, Variant
from compressit.results.collect import collect
from compressit.running.session import Batch
from compressit.searching.goals import measures_of
from compressit.searching.space import Strategy, option_name
from compressit.searching.trials import Goal, Original, Trial

Run = Callable[[Plan], Batch]
"""Runs the jobs of a plan that the store lacks."""


@dataclass(frozen=True)
class Asked:
    """A trial to make."""

    number: int
    strategy: Strategy
    values: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The name of its variant, and so of its jobs."""
        return f"trial-{self.number:03d}"


@dataclass(frozen=True)
class Measuring:
    """How the trials of a search are made."""

    recipe: Recipe
    goal: Goal
    host: Host
    run: Run

    def plan(self, variants: Sequence[Variant]) -> Plan:
        """The plan of these variants, with the evaluators that the goal needs."""
        made = tuple(replace(v, evaluate=measures_of(v, self.goal)) for v in variants)
        return make_plan(
            replace(self.recipe, variants=made, report=(), search=Search(), compare=None), self.host
        )

    def written(self, asked: Sequence[Asked]) -> tuple[list[Trial], dict[str, Original], dict[str, Any]]:
        """The trials of strategies as the recipe has them; by strategy what they started from, and the names of the
        layers of their ratios per layer."""
        made = {one.name: one.strategy.at({}, one.name) for one in asked}
        batch, results = self._made([variant for variant, _ in made.values()])
        originals: dict[str, Original] = {}
        layers: dict[str, dict[str, list[str]]] = {}
        trials: list[Trial] = []
        for one in asked:
            rows = [row for row in results.rows if row.variant == one.name]
            original = self._original(rows, made[one.name][1])
            layers[one.strategy.name] = _layers(one.strategy, rows)
            if original is not None:
                originals[one.strategy.name] = original
            trials.append(self._trial(one, made[one.name][1], original, batch, results))
        return trials, originals, layers

    def trials(self, asked: Sequence[Asked], originals: Mapping[str, Original]) -> list[Trial]:
        """The trials, made side by side."""
        made: dict[str, tuple[Variant, str]] = {}
        faults: dict[str, str] = {}
        for one in asked:
            try:
                made[one.name] = one.strategy.at(one.values, one.name)
            except CompressitError as error:
                faults[one.name] = str(error)
        batch, results = self._made([variant for variant, _ in made.values()])
        return [
            _failed(one, faults[one.name])
            if one.name in faults
            else self._trial(one, made[one.name][1], originals[one.strategy.name], batch, results)
            for one in asked
        ]

    def _made(self, variants: Sequence[Variant]) -> tuple[Batch, Results]:
        plan = self.plan(variants)
        batch = self.run(plan)
        return batch, collect(plan, batch.artifacts, list(batch.failed.values()), "")

    def _trial(
        self, one: Asked, final: str, original: Original | None, batch: Batch, results: Results
    ) -> Trial:
        rows = {row.seed: row for row in results.rows if row.variant == one.name and row.stage == final}
        cost, score = (self._mean(rows, name) for name in (self.goal.minimize, self.goal.metric))
        if cost is None or score is None:
            points = [p for p in batch.plan.points if (p.variant, p.stage) == (one.name, final)]
            return _failed(one, _why(batch, points) or "it gave no number")
        if original is None:
            return _failed(one, "nothing was trained before it was compressed, so there is no original")
        drop = self.goal.drop(original.score, score)
        return Trial(one.number, one.strategy.name, dict(one.values), cost, score, drop)

    def _original(self, rows: Sequence[Row], final: str) -> Original | None:
        """The dense parent of the final model; if that failed, the model that is its own dense parent."""
        named = next((row.dense for row in rows if row.stage == final), None)
        dense = {row.seed: row for row in reversed(rows) if row.name == (named or row.dense)}
        cost, score = (self._mean(dense, name) for name in (self.goal.minimize, self.goal.metric))
        return Original(cost, score) if cost is not None and score is not None else None

    def _mean(self, rows: Mapping[int, Row], metric: str) -> float | None:
        """The mean over all seeds; None if one has no finite number."""
        values = [rows[seed].metrics.get(metric, math.nan) for seed in self.recipe.seeds if seed in rows]
        complete = len(values) == len(self.recipe.seeds) and all(map(math.isfinite, values))
        return fmean(values) if complete else None


def _failed(one: Asked, why: str) -> Trial:
    return Trial(one.number, one.strategy.name, dict(one.values), failed=why)


def _why(batch: Batch, points: Sequence[Point]) -> str | None:
    keys = (key for point in points for key in (point.model, *point.metrics))
    return next((why for key in keys if (why := batch.why(key)) is not None), None)


def _layers(strategy: Strategy, rows: Sequence[Row]) -> dict[str, list[str]]:
    """The names of the layers of each ratio per layer, as its stage noted them."""
    found: dict[str, list[str]] = {}
    for vary in strategy.layered:
        noted = next((row.notes.get(vary.layers) for row in rows if row.stage == vary.stage), None)
        found[option_name(vary)] = [str(name) for name in noted] if isinstance(noted, Mapping) else []
    return found
