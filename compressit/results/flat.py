"""The comparison as flat rows: one dict per model, for data frames, pages and text."""

from __future__ import annotations

from typing import Any

from compressit.results.analysis import Analysis
from compressit.results.entries import Entry


def flat(analysis: Analysis) -> list[dict[str, Any]]:
    """One dict for the originals, the strategies and the controls, with the same keys in each; None where there is no
    value. Means over seeds: `<metric>` with `_deviation`, `_low` and `_high` (95 % interval), the `change` from the
    original with its interval, each cost with `<cost>_ratio` (original / own)."""
    cost = analysis.main_cost
    front = {id(entry) for entry in analysis.pareto(cost)} if cost and analysis.metric else set[int]()
    entries = (*analysis.originals, *analysis.entries)
    return [_row(analysis, entry, id(entry) in front) for entry in entries]


def _row(analysis: Analysis, entry: Entry, on_front: bool) -> dict[str, Any]:
    verdict, planned = analysis.verdict(entry), analysis.planned_epochs.get(entry.strategy)
    epochs = analysis.spent(entry, "epochs")
    row: dict[str, Any] = {
        "strategy": entry.name,
        "model": entry.model,
        "control": entry.control,
        "seeds": len(entry.rows),
        "epochs": epochs if epochs is not None or not entry.originals else planned,
        "images_seen": analysis.spent(entry, "images_seen"),
    }
    if analysis.metric is not None:
        own, change = analysis.estimate(entry, analysis.metric), analysis.change(entry)
        row |= {
            analysis.metric: own.mean if own else None,
            f"{analysis.metric}_deviation": own.deviation if own else None,
            f"{analysis.metric}_low": own.low if own else None,
            f"{analysis.metric}_high": own.high if own else None,
            "change": change.mean if change else None,
            "change_low": change.low if change else None,
            "change_high": change.high if change else None,
            "significant": verdict.different if verdict else None,
            "better": verdict.better if verdict else None,
            "p": verdict.p if verdict else None,
        }
    if analysis.selecting is not None:
        chosen = analysis.estimate(entry, analysis.selecting)
        row[analysis.selecting] = chosen.mean if chosen else None
    for cost in analysis.costs:
        paid = analysis.estimate(entry, cost)
        row |= {cost: paid.mean if paid else None, f"{cost}_ratio": analysis.ratio(entry, cost)}
    return row | {"within_budget": analysis.within_budget(entry), "pareto": on_front}
