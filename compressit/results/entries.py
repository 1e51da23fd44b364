"""What a run compares: the operating points of its strategies and controls, and the originals they were made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from compressit.contract.records import COSTS, is_cost
from compressit.contract.results import Results, Row

ORIGINAL = "original"


@dataclass(frozen=True)
class Entry:
    """One operating point: the same model of one variant, over the seeds."""

    strategy: str  # the variant's name
    model: str  # the row's name: "half", "prune@sparsity=0.9", "blog-04"
    rows: Mapping[int, Row]  # by seed
    originals: Mapping[int, Row]  # what it was made from, by seed; empty for an original itself
    # the kind of control: "longer", "random", "magnitude", "scratch", "thin"; "original"; "" for a strategy
    control: str = ""
    of: tuple[str, ...] = ()  # the strategies that the control is for; empty: for all
    alike: tuple[
        str, ...
    ] = ()  # variants of other controls that this one stands for: their numbers are the same
    # the strategy's, or `half/prune@sparsity=0.9` if it has several operating points; "original"
    name: str = ""

    def values(self, metric: str) -> dict[int, float]:
        """The metric by seed, of the seeds that have it."""
        return {seed: row.metrics[metric] for seed, row in self.rows.items() if metric in row.metrics}

    def pairs(self, metric: str, other: Entry | None = None) -> dict[int, tuple[float, float]]:
        """(the other's, its own) value of a metric by seed, of the seeds that have both; by default the other is the
        original."""
        theirs = self.originals if other is None else other.rows
        return {
            seed: (theirs[seed].metrics[metric], value)
            for seed, value in self.values(metric).items()
            if seed in theirs and metric in theirs[seed].metrics
        }

    @property
    def original(self) -> Entry:
        """Its own original, as an entry."""
        models = dict.fromkeys(row.name for row in self.originals.values())
        return Entry(ORIGINAL, next(iter(models), ""), self.originals, {}, ORIGINAL, name=ORIGINAL)


def entries_of(results: Results, strategies: Mapping[str, Any] | None) -> tuple[Entry, ...]:
    """The operating points, strategies first. `strategies`: what the recipe's `compare` recorded; without it, every
    model that was made of a dense one is an operating point."""
    named = {(row.variant, row.seed, row.name): row for row in results.rows}
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in results.rows:
        if strategies is None:
            wanted = row.dense is not None and row.dense != row.name
        else:
            wanted = row.stage in strategies.get(row.variant, {}).get("final", ())
        if wanted:
            groups.setdefault((row.variant, row.name), {})[row.seed] = row
    found: list[Entry] = []
    for (variant, model), rows in groups.items():
        known = (strategies or {}).get(variant, {})
        parents = {seed: named.get((variant, seed, row.dense or "")) for seed, row in rows.items()}
        originals = {seed: parent for seed, parent in parents.items() if parent is not None}
        control, of = str(known.get("control", "")), tuple(known.get("of", ()))
        found.append(Entry(variant, model, rows, originals, control, of))
    once = _once(found, {name for name, facts in results.metrics.items() if facts.get("unit") == "seconds"})
    return tuple(sorted(_named(once, strategies is not None), key=lambda entry: bool(entry.control)))


def originals_of(results: Results) -> tuple[Entry, ...]:
    """The dense models: one for all variants that share its numbers."""
    named = {(row.variant, row.seed, row.name): row for row in results.rows}
    groups: dict[tuple[str, str], dict[int, Row]] = {}
    for row in results.rows:
        parent = named.get((row.variant, row.seed, row.dense or ""))
        if parent is not None:
            groups.setdefault((parent.variant, parent.name), {})[parent.seed] = parent
    found: dict[str, Entry] = {}
    for (variant, model), rows in groups.items():
        measured = repr([(seed, sorted(row.metrics.items())) for seed, row in sorted(rows.items())])
        found.setdefault(measured, Entry(variant, model, rows, {}, ORIGINAL))
    several = len(found) > 1
    return tuple(
        replace(entry, name=f"{ORIGINAL} {entry.strategy}/{entry.model}" if several else ORIGINAL)
        for entry in found.values()
    )


def usual_metric(results: Results) -> str | None:
    """`test_accuracy`, else the first score of the test split, else the first metric that can be better or worse."""
    judged = [name for name, facts in results.metrics.items() if facts.get("better") in ("higher", "lower")]
    scores = [name for name in judged if results.metrics[name].get("unit") not in COSTS]
    tests = [name for name in scores if name.startswith("test_")]
    first = [name for name in ("test_accuracy",) if name in scores]
    return next(iter([*first, *tests, *scores]), None)


def usual_selecting(results: Results, metric: str | None) -> str | None:
    """The same metric on the validation split, if any row has it."""
    if metric is None or not metric.startswith("test_"):
        return None
    name = f"validation_{metric.removeprefix('test_')}"
    return name if any(name in row.metrics for row in results.rows) else None


def costs_of(results: Results) -> tuple[str, ...]:
    """The columns that can be a cost, in the recipe's order."""
    return tuple(
        name
        for name, facts in results.metrics.items()
        if is_cost(name, facts.get("better", ""), facts.get("unit", ""))
        and any(name in row.metrics for row in results.rows)
    )


def _once(found: Sequence[Entry], timed: Collection[str]) -> list[Entry]:
    """Of controls of one kind that gave the very same numbers (but for times), the first: it stands for all and serves
    their strategies. Strategies of one shape have such controls, since no plan knows shapes. Testing each of them would
    make every test stricter.
    """
    variants: dict[str, list[Entry]] = {}
    for entry in found:
        variants.setdefault(entry.strategy, []).append(entry)
    same: dict[str, list[str]] = {}
    for variant, points in variants.items():
        numbers = [
            (point.model, seed, sorted((k, v) for k, v in row.metrics.items() if k not in timed))
            for point in points
            for seed, row in sorted(point.rows.items())
        ]
        served = bool(points[0].control and points[0].of)
        same.setdefault(repr((points[0].control, numbers)) if served else variant, []).append(variant)
    once: list[Entry] = []
    for first, *others in same.values():
        of = dict.fromkeys(name for variant in (first, *others) for name in variants[variant][0].of)
        once += [replace(point, of=tuple(of), alike=tuple(others)) for point in variants[first]]
    return once


def _named(found: Sequence[Entry], compared: bool) -> list[Entry]:
    """The entries with names, as short as they differ: of strategies their own, else the model's."""
    models = Counter(entry.strategy for entry in found)

    def name(entry: Entry) -> str:
        if compared and models[entry.strategy] == 1:
            return entry.strategy
        return entry.model if not compared and len(models) == 1 else f"{entry.strategy}/{entry.model}"

    return [replace(entry, name=name(entry)) for entry in found]
