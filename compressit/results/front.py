"""The picture of accuracy against cost, as plain values: what the page draws, and its axes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from compressit.contract.records import COSTS
from compressit.errors import CompressitError, sound
from compressit.results.analysis import MAX_DROP, Analysis
from compressit.results.entries import ORIGINAL, Entry
from compressit.results.tables import fitting

ROOM = 600_000  # characters of all points; results.json always has every model
MOST_METRICS = 12
NAME_CHARACTERS = 160


def front(analysis: Analysis) -> dict[str, Any] | None:
    """What the picture shows: its metrics and costs, the first of each to begin with, its points and limits. None if
    there is nothing to compare: no model was made of another, or nothing was measured.

    A point has, by column, the mean over its seeds, the 95 % interval of that mean (null with one seed) and the
    number of seeds.
    """
    metrics, costs = _metrics(analysis), _costs(analysis)
    if not analysis.entries or not metrics or not costs:
        return None
    several = len({entry.strategy for entry in analysis.strategies}) > 1
    entries = (*analysis.originals, *analysis.entries)
    points = [_point(analysis, entry, several, [*metrics, *costs]) for entry in entries]
    shown = fitting(points, ROOM)
    return {
        "metrics": [column(analysis, name) for name in metrics],
        "costs": [column(analysis, name) for name in costs],
        "points": shown,
        "left_out": len(points) - len(shown),
        "limits": _limits(analysis),
    }


def column(analysis: Analysis, name: str) -> dict[str, str]:
    """A column's name, words for people, unit and meaning."""
    facts = analysis.results.metrics.get(name, {})
    return {
        "name": name,
        "label": label(name),
        "unit": str(facts.get("unit") or ""),
        "better": str(facts.get("better") or ""),
        "about": sound(str(facts.get("about") or ""), 300),
    }


def label(name: str) -> str:
    """`latency of a batch of 1`, `… in onnxruntime int8`, `MACs`: the unit stands with the values."""
    words = re.sub(r"latency_(\d+)_median_seconds$", r"latency of a batch of \1", name)
    words = re.sub(r"latency_(\d+)_(\w+)_median_seconds$", r"latency of a batch of \1 in \2", words).replace(
        "_", " "
    )
    words = " ".join("MACs" if word == "macs" else word for word in words.split(" "))
    return sound("nonzero parameters" if words == "nonzero" else words, NAME_CHARACTERS)


def _metrics(analysis: Analysis) -> list[str]:
    """What is compared first, then every other score that some model has."""
    has = {name for entry in analysis.entries for row in entry.rows.values() for name in row.metrics}
    scores = [
        name
        for name, facts in analysis.results.metrics.items()
        if facts.get("better") in ("higher", "lower") and facts.get("unit") not in COSTS
    ]
    found = [name for name in dict.fromkeys([analysis.metric, *scores]) if name is not None and name in has]
    return found[:MOST_METRICS]


def _costs(analysis: Analysis) -> list[str]:
    """What strategies reduce most first."""
    return [name for name in dict.fromkeys([analysis.main_cost, *analysis.costs]) if name is not None]


def _point(analysis: Analysis, entry: Entry, several: bool, columns: Sequence[str]) -> dict[str, Any]:
    stage = next(iter(entry.rows.values())).stage
    group = entry.of[0] if len(entry.of) == 1 else entry.strategy if several else stage
    found = {name: analysis.estimate(entry, name) for name in columns}
    return {
        "name": sound(entry.name, NAME_CHARACTERS),
        "kind": entry.control if entry.control == ORIGINAL else "control" if entry.control else "strategy",
        "group": sound(group, NAME_CHARACTERS),  # what its colour stands for
        "line": sound(f"{entry.strategy}/{stage}", NAME_CHARACTERS),  # with which points it is joined
        "values": {
            name: [known.mean, known.low, known.high, known.n] for name, known in found.items() if known
        },
    }


def _limits(analysis: Analysis) -> list[dict[str, Any]]:
    """The budget as lines of the picture, where there is one original: what a model may cost, and what it must
    reach."""
    if len(analysis.originals) != 1:
        return []
    (original,) = analysis.originals
    found: list[dict[str, Any]] = []
    for name, share in analysis.budget.items():
        # what is chosen by is compared by: the limit of a drop is one of the selecting metric
        try:
            named = analysis.selecting if name == MAX_DROP else analysis.cost_named(name)
        except CompressitError:  # nothing measured it
            continue
        before = analysis.estimate(original, named) if named else None
        if before is None or named is None:
            continue
        drop = -share if analysis.higher(named) else share
        found.append(
            {"column": named, "value": before.mean + drop if name == MAX_DROP else share * before.mean}
        )
    return found
