"""What a run says about its strategies: which model costs what, and what it lost. A function of the results alone.

A *strategy* is a variant of the recipe; its *operating points* are the models of its last stages. A *control* is a
variant that the host added. The *original* is the dense parent: what a strategy started from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from compressit.contract.results import Results, Row

COSTS = ("count", "bytes", "seconds")
"""Units of metrics that can be a cost, where lower is better."""


@dataclass(frozen=True)
class Entry:
    """One operating point: the same model of one variant, over the seeds."""

    strategy: str  # the variant's name
    model: str  # the row's name: "half", "prune@sparsity=0.9", "blog-04"
    rows: Mapping[int, Row]  # by seed
    originals: Mapping[int, Row]  # what it was made from, by seed; empty for an original itself
    control: str = (
        ""  # the kind of control: "longer", "random", "magnitude", "scratch", "thin"; "" for a strategy
    )
    of: tuple[str, ...] = ()  # the strategies that the control is for; empty: for all

    @property
    def name(self) -> str:
        """`half`, or `half/prune@sparsity=0.9` where a strategy may have several operating points."""
        return f"{self.strategy}/{self.model}"

    def values(self, metric: str) -> dict[int, float]:
        """The metric by seed, of the seeds that have it."""
        return {seed: row.metrics[metric] for seed, row in self.rows.items() if metric in row.metrics}

    def pairs(self, metric: str) -> dict[int, tuple[float, float]]:
        """(the original's, its own) value of a metric by seed, of the seeds that have both."""
        return {
            seed: (self.originals[seed].metrics[metric], value)
            for seed, value in self.values(metric).items()
            if seed in self.originals and metric in self.originals[seed].metrics
        }


@dataclass(frozen=True)
class Comparison:
    """The strategies of a run. Made by `Comparison.of`."""

    results: Results
    entries: tuple[Entry, ...]  # strategies first, in the recipe's order, then controls
    originals: tuple[Entry, ...]  # one for each model that something was made from
    metric: str | None  # what is compared; None if nothing was measured
    selecting: str | None  # what choices are made by: the metric on the validation split; None without one
    baseline: str  # "original", or the name of a variant
    budget: Mapping[str, float]
    costs: tuple[str, ...]  # columns

    @staticmethod
    def of(results: Results) -> Comparison:
        """Reads the results of any run. Without `compare` in its recipe every model that was made of a dense one is an
        operating point."""
        asked: Mapping[str, Any] = results.config.get("compare") or {}
        metric = asked.get("metric") or _usual_metric(results)
        selecting = asked.get("selecting") or _selecting(results, metric)
        costs = tuple(
            name
            for name, facts in results.metrics.items()
            if facts.get("better") == "lower"
            and facts.get("unit") in COSTS
            and not name.endswith("iqr_seconds")
        )
        return Comparison(
            results,
            _entries(results, asked.get("strategies")),
            _originals(results),
            metric,
            selecting,
            str(asked.get("baseline") or "original"),
            dict(asked.get("budget") or {}),
            costs,
        )

    @cached_property
    def strategies(self) -> tuple[Entry, ...]:
        """The operating points that are no controls."""
        return tuple(entry for entry in self.entries if not entry.control)


def _usual_metric(results: Results) -> str | None:
    """`test_accuracy`, else the first score of the test split, else the first metric that can be better or worse."""
    judged = [name for name, facts in results.metrics.items() if facts.get("better") in ("higher", "lower")]
    scores = [name for name in judged if results.metrics[name].get("unit") not in COSTS]
    tests = [name for name in scores if name.startswith("test_")]
    first = [name for name in ("test_accuracy",) if name in scores]
    return next(iter([*first, *tests, *scores]), None)


def _selecting(results: Results, metric: str | None) -> str | None:
    """The same metric on the validation split, if any row has it."""
    if metric is None or not metric.startswith("test_"):
        return None
    name = f"validation_{metric.removeprefix('test_')}"
    return name if any(name in row.metrics for row in results.rows) else None


def _entries(results: Results, strategies: Mapping[str, Any] | None) -> tuple[Entry, ...]:
    """The operating points, strategies first."""
    named = {(row.variant, row.seed, row.name): row for row in results.rows}
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in results.rows:
        if strategies is None:
            wanted = row.dense is not None and row.dense != row.name
        else:
            wanted = row.stage in strategies.get(row.variant, {}).get("final", ())
        if wanted:
            groups.setdefault((row.variant, row.name), {})[row.seed] = row
    found = [
        Entry(
            variant,
            model,
            rows,
            {
                seed: named[variant, seed, cast(str, row.dense)]
                for seed, row in rows.items()
                if (variant, seed, row.dense) in named
            },
            str(known.get("control", "")),
            tuple(known.get("of", ())),
        )
        for (variant, model), rows in groups.items()
        for known in [(strategies or {}).get(variant, {})]
    ]
    return tuple(sorted(found, key=lambda entry: bool(entry.control)))


def _originals(results: Results) -> tuple[Entry, ...]:
    """The dense parents that something was made from; one for all variants that share its numbers."""
    named = {(row.variant, row.seed, row.name): row for row in results.rows}
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in results.rows:
        parent = named.get((row.variant, row.seed, row.dense or ""))
        if parent is not None:
            groups.setdefault((parent.variant, parent.name), {})[parent.seed] = parent
    found: list[Entry] = []
    seen: list[Sequence[Mapping[str, float]]] = []
    for (variant, model), rows in groups.items():
        measured = [row.metrics for _, row in sorted(rows.items())]
        if measured not in seen:
            seen.append(measured)
            found.append(Entry(variant, model, rows, {}))
    return tuple(found)
