"""What a run says about its strategies: which model costs what, and what it lost. A function of the results alone.

A *strategy* is a variant of the recipe; its *operating points* are the models of its last stages. A *control* is a
variant that the host added. The *original* is the dense parent: what a strategy started from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from compressit.contract.results import Results, Row
from compressit.errors import CompressitError, did_you_mean
from compressit.host.plugins import Host
from compressit.results.choices import ROUNDING, Candidate, Choice, cheapest
from compressit.results.entries import (
    ORIGINAL,
    Entry,
    costs_of,
    entries_of,
    originals_of,
    usual_metric,
    usual_selecting,
)
from compressit.results.statistics import ANY, Estimate, Examples, estimate, mcnemar, paired
from compressit.results.verdicts import Asked, Verdict, family

MAX_DROP = "max_drop"
RIGHT = "correct"
"""The array (N,) of booleans that says which examples of the test split a model answers correctly."""
USUAL_COSTS = ("macs", "nonzero", "parameters", "bytes")


@dataclass(frozen=True)
class Analysis:
    """The strategies of a run, what they cost and what they lost. Made by `of`."""

    results: Results
    entries: tuple[Entry, ...]  # strategies first, in the recipe's order, then controls
    originals: tuple[Entry, ...]  # the dense models
    metric: str | None  # what is compared; None if nothing was measured
    selecting: str | None  # what choices are made by: the metric on the validation split; None without one
    baseline: str  # "original", or the name of a variant
    budget: Mapping[str, float]  # fractions of the original's costs; "max_drop": of the metric
    costs: tuple[str, ...]  # columns
    host: Host | None = field(default=None, repr=False, compare=False)  # plugins that load the models

    @classmethod
    def of(cls, results: Results, host: Host | None = None) -> Self:
        """Reads the results of any run. Without `compare` in its recipe every model that was made of a dense one is an
        operating point. `host`: the plugins that load the models; default: the installed ones."""
        asked: Mapping[str, Any] = results.config.get("compare") or {}
        metric = asked.get("metric") or usual_metric(results)
        return cls(
            results,
            entries_of(results, asked.get("strategies")),
            originals_of(results),
            metric,
            asked.get("selecting") or usual_selecting(results, metric),
            str(asked.get("baseline") or ORIGINAL),
            dict(asked.get("budget") or {}),
            costs_of(results),
            host,
        )

    @cached_property
    def strategies(self) -> tuple[Entry, ...]:
        """The operating points that are no controls."""
        return tuple(entry for entry in self.entries if not entry.control)

    @cached_property
    def controls(self) -> tuple[Entry, ...]:
        """The operating points of what the host added."""
        return tuple(entry for entry in self.entries if entry.control)

    @cached_property
    def one_parent(self) -> bool:
        """Whether the seeds start from one given model with the same weights: then only the compression varied."""
        return bool(self.originals) and all(
            len(entry.rows) > 1
            and all(row.stage == "init" or row.uses == "init" for row in entry.rows.values())
            and len(set(entry.values(self.metric or "").values())) == 1
            for entry in self.originals
        )

    @property
    def planned_epochs(self) -> Mapping[str, float]:
        """The epochs that the recipe plans, the original's too, by variant; only of recipes with `compare`."""
        return (self.results.config.get("compare") or {}).get("epochs") or {}

    # What was measured

    def estimate(self, entry: Entry, column: str) -> Estimate | None:
        """A metric of an entry over its seeds: mean, deviation, 95 % interval. None if no seed has it, or one has a
        value that is not finite."""
        return estimate(list(entry.values(column).values()), self._bounds(column))

    def change(self, entry: Entry, metric: str | None = None) -> Estimate | None:
        """The paired difference of an entry from its original over seeds, with its 95 % interval; of the compared
        metric by default."""
        name = metric or self.metric
        found = paired(list(entry.pairs(name).values()), self._bounds(name, True)) if name else None
        return found.difference if found else None

    def ratio(self, entry: Entry, cost: str) -> float | None:
        """How many times less the entry costs than its original: the ratio of their means over seeds. None if one was
        not measured, or costs nothing."""
        pairs = entry.pairs(cost).values()
        own, theirs = sum(own for _, own in pairs), sum(theirs for theirs, _ in pairs)
        found = theirs / own if own else math.nan
        return found if math.isfinite(found) else None

    def drop(self, entry: Entry, metric: str) -> Estimate | None:
        """What an entry lost of a metric against its original: above 0 if it is worse."""
        pairs = [pair if self.higher(metric) else pair[::-1] for pair in entry.pairs(metric).values()]
        found = paired([(own, theirs) for theirs, own in pairs], self._bounds(metric, True))
        return found.difference if found else None

    def higher(self, metric: str) -> bool:
        """Whether a higher value of a metric is better."""
        return self.results.metrics.get(metric, {}).get("better") != "lower"

    def _bounds(self, column: str, difference: bool = False) -> tuple[float, float]:
        if self.results.metrics.get(column, {}).get("unit") != "fraction":
            return ANY
        return (-1.0, 1.0) if difference else (0.0, 1.0)

    # What can be told apart

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Paired tests over seeds, corrected by Holm in three families: each strategy against the baseline, each
        control against the baseline, each strategy against its own controls."""
        if self.metric is None:
            return ()
        against = (self.metric, self._bounds(self.metric, True), self.higher(self.metric))
        found: list[Verdict] = []
        for entries in (self.strategies, self.controls):
            asked = [(entry, self._baseline(entry)) for entry in entries if not self._is_baseline(entry)]
            found += family("baseline", asked, *against)
        own: list[Asked] = [
            (entry, control) for entry in self.strategies for control in self.controls_of(entry)
        ]
        return (*found, *family("controls", own, *against))

    def verdict(self, entry: Entry) -> Verdict | None:
        """An entry's test against the baseline; None of the baseline itself."""
        return self._against_baseline.get((entry.strategy, entry.model))

    def controls_of(self, entry: Entry) -> list[Entry]:
        """The controls of a strategy: of each, the operating point that answers to this one."""
        served = (*self._serving.get("", ()), *self._serving.get(entry.strategy, ()))
        found = (_counterpart(self._points[control], entry) for control in served if control != self.baseline)
        return [point for point in found if point is not None]

    def examples(self, entry: Entry, other: Entry | None = None, seed: int | None = None) -> Examples | None:
        """Compares two models example by example on the test split (McNemar's exact test): those of `seed`, by default
        the first that both have; `other` is by default the original. About these two models and these examples alone.
        None if the run did not save which examples they answer correctly (`eval.forgotten` does)."""
        theirs = entry.originals if other is None else other.rows
        seeds = [s for s in sorted(entry.rows) if s in theirs and seed in (None, s)]
        pairs = [(theirs[s], entry.rows[s]) for s in seeds if RIGHT in theirs[s].arrays]
        pairs = [(first, second) for first, second in pairs if RIGHT in second.arrays]
        if not pairs or self.results.folder is None:
            return None
        first, second = (self.results.array(row, RIGHT).astype(bool).tolist() for row in pairs[0])
        if len(first) != len(second):
            raise CompressitError(
                f"'{entry.name}' and its {other.name if other else ORIGINAL} answered different examples: "
                f"{len(second):,} and {len(first):,}",
                "compare models of one test split",
            )
        return mcnemar(first, second)

    @cached_property
    def _against_baseline(self) -> dict[tuple[str, str], Verdict]:
        return {(v.entry.strategy, v.entry.model): v for v in self.verdicts if v.question == "baseline"}

    @cached_property
    def _points(self) -> dict[str, list[Entry]]:
        """The operating points by variant."""
        found: dict[str, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.strategy, []).append(entry)
        return found

    @cached_property
    def _serving(self) -> dict[str, list[str]]:
        """The variants of controls by the strategy that they serve; "" has those of all."""
        found: dict[str, dict[str, None]] = {}
        for control in self.controls:
            for strategy in control.of or ("",):
                found.setdefault(strategy, {})[control.strategy] = None
        return {strategy: list(controls) for strategy, controls in found.items()}

    def _is_baseline(self, entry: Entry) -> bool:
        return entry.strategy == self.baseline

    def _baseline(self, entry: Entry) -> Entry:
        """What an entry is tested against; without rows if there are no results of it."""
        if self.baseline == ORIGINAL:
            return entry.original
        point = _counterpart(self._points.get(self.baseline, ()), entry)
        return point or Entry(self.baseline, "", {}, {}, name=self.baseline)

    # What is chosen

    def pareto(self, cost: str, metric: str | None = None, controls: bool = False) -> list[Entry]:
        """The front of strategies: no other is at least as cheap and as good on average, and better in one of both;
        cheapest first. `metric`: by default the selecting metric, else the compared one."""
        cost, metric = self.cost_named(cost), self._metric_named(metric or self.selecting or self.metric)
        sign = 1 if self.higher(metric) else -1
        points: list[tuple[float, float, Entry]] = []
        for entry in self.entries if controls else self.strategies:
            paid, score = self.estimate(entry, cost), self.estimate(entry, metric)
            if paid is not None and score is not None:
                points.append((paid.mean, -sign * score.mean, entry))
        front: list[tuple[float, float, Entry]] = []
        for paid, lost, entry in sorted(points, key=lambda point: point[:2]):
            if not front or lost < front[-1][1] or (paid, lost) == front[-1][:2]:
                front.append((paid, lost, entry))
        return [entry for _, _, entry in front]

    def choose(
        self, max_drop: float | None = None, minimize: str | None = None, select: str | None = None
    ) -> Choice:
        """The cheapest strategy that loses little enough, and why; or why there is none.

        `max_drop`: how much of the selecting metric may be lost on average, by default the budget's. `minimize`: the
        cost (`macs`, `latency_1`), by default `main_cost`. Only the selecting metric is read, that of the validation
        split; without one nothing is chosen, unless `select` names another metric. A budget's costs are kept. Raises
        CompressitError for names that the results do not have.
        """
        limit = self.budget.get(MAX_DROP) if max_drop is None else max_drop
        if limit is None:
            raise CompressitError("max_drop= is missing", "say how much may be lost, like max_drop=0.01")
        cost = self.cost_named(minimize or self.main_cost or "macs")
        metric = self._metric_named(select) if select else self.selecting
        if metric is None:
            return Choice(
                None,
                "nothing is chosen: these results have no validation metric, and a choice by the test split would "
                "flatter its winner. Give the data a validation split (validation: 0.1), or pass "
                f"select='{self.metric}' if you mean it",
            )
        candidates = [self._candidate(entry, metric, cost) for entry in self.strategies]
        unit = self.results.metrics.get(metric, {}).get("unit", "")
        return cheapest(candidates, limit, cost, metric, unit)

    def _candidate(self, entry: Entry, metric: str, cost: str) -> Candidate:
        paid, ratio = self.estimate(entry, cost), self.ratio(entry, cost)
        kept = [self._keeps(entry, name) for name in self.budget if name != MAX_DROP]
        share = 1 / ratio if ratio else None
        return Candidate(
            entry.name, self.drop(entry, metric), paid.mean if paid else None, share, False not in kept
        )

    def within_budget(self, entry: Entry) -> bool | None:
        """Whether an entry keeps the recipe's budget: its costs on average, and `max_drop` in the selecting metric.
        None without a budget, or if it cannot be told (without a validation split)."""
        if not self.budget:
            return None
        kept = [self._keeps(entry, name) for name in self.budget]
        return False if False in kept else None if None in kept else True

    def _keeps(self, entry: Entry, name: str) -> bool | None:
        """Whether an entry keeps one limit of the budget."""
        limit = self.budget[name] + ROUNDING
        if name == MAX_DROP:
            lost = self.drop(entry, self.selecting) if self.selecting else None
            return lost.mean <= limit if lost else None
        cost = self._cost(name)
        ratio = self.ratio(entry, cost) if cost else None
        return 1 / ratio <= limit if ratio else None

    @cached_property
    def main_cost(self) -> str | None:
        """The cost to show first: the budget's; else the one that most strategies reduce. A measured time comes last:
        by chance it is lower for half of the models that are no faster."""
        for name in self.budget:
            if (asked := self._cost(name)) is not None:
                return asked
        order = [*(name for name in USUAL_COSTS if name in self.costs), *self.costs]

        def reduced(cost: str) -> int:
            return sum((self.ratio(entry, cost) or 0) > 1 for entry in self.strategies)

        counted = [cost for cost in order if self.results.metrics[cost].get("unit") != "seconds"]
        wanted = counted if any(map(reduced, counted)) else order
        return max(wanted, key=reduced, default=None)  # the first of equals

    def cost_named(self, name: str) -> str:
        """The column of a cost: `latency_1` is `latency_1_median_seconds`. Raises CompressitError if there is none."""
        found = self._cost(name)
        if found is None:
            known = did_you_mean(name, self.costs)
            hint = known or "evaluate the models with eval.size"
            raise CompressitError(f"these results have no cost '{name}'", hint)
        return found

    def _cost(self, name: str) -> str | None:
        columns = (name, f"{name}_median_seconds", f"{name}_seconds", f"{name}_bytes")
        return next((column for column in columns if column in self.costs), None)

    def _metric_named(self, name: str | None) -> str:
        judged = [
            m for m, facts in self.results.metrics.items() if facts.get("better") in ("higher", "lower")
        ]
        if name in judged:
            return name
        known = did_you_mean(name or "", judged)
        raise CompressitError(
            f"these results have no metric '{name}'" if name else "these results have no metric",
            known or "give the recipe an evaluator",
        )

    # What was spent

    def spent(self, entry: Entry, note: str) -> float | None:
        """What the trainings that made a model noted (`epochs`, `images_seen`), its original's too, in sum, as a mean
        over seeds. Where weights were drawn anew (`train.scratch`), only from there on. None if nothing was noted."""
        sums = [self._spent(row, note) for row in entry.rows.values()]
        found = [value for value in sums if value is not None]
        return sum(found) / len(found) if found else None

    def _spent(self, row: Row, note: str) -> float | None:
        found = [made.notes.get(note) for made in self._trainings(row)]
        noted = [value for value in found if isinstance(value, int | float)]
        return float(sum(noted)) if noted else None

    def _trainings(self, row: Row) -> list[Row]:
        """The row and those that its weights come from."""
        found: dict[str, Row] = {}
        at: Row | None = row
        while at is not None and at.name not in found:
            found[at.name] = at
            fresh = at.notes.get("fresh_weights")
            at = None if fresh else self._rows.get((row.variant, row.seed, at.parent or ""))
        return list(found.values())

    @cached_property
    def _rows(self) -> dict[tuple[str, int, str], Row]:
        return {(row.variant, row.seed, row.name): row for row in self.results.rows}


def _counterpart(points: Sequence[Entry], entry: Entry) -> Entry | None:
    """Which operating point of another variant an entry is compared with: the only one, that of the same name, or the
    one of the same member and round."""
    if len(points) == 1:
        return points[0]
    same = [point for point in points if point.model == entry.model]
    near = same or [point for point in points if _member(point) == _member(entry)]
    return near[0] if len(near) == 1 else None


def _member(entry: Entry) -> tuple[str, int | None]:
    row = next(iter(entry.rows.values()))
    return row.member, row.round
