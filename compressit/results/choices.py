"""The choice of a strategy: the cheapest of those that lose little enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressit.formatting import number
from compressit.results.statistics import Estimate

ROUNDING = 1e-9
"""0.95 - 0.945 is a little more than 0.005: a limit is kept up to so much."""


@dataclass(frozen=True)
class Choice:
    """A strategy's name, or None; and why, in a sentence."""

    name: str | None
    reason: str


@dataclass(frozen=True)
class Candidate:
    """What a choice knows of a strategy. None: not measured, or not a number."""

    name: str
    drop: Estimate | None  # what it lost of the selecting metric
    cost: float | None  # mean over seeds
    share: float | None  # of the original's cost
    affordable: bool = True  # it keeps the costs of the budget


def cheapest(candidates: Sequence[Candidate], max_drop: float, cost: str, metric: str, unit: str) -> Choice:
    """The candidate of the lowest cost among those whose mean drop is at most `max_drop`; of equals the one that lost
    less, then the first."""
    limit = number(max_drop, unit)
    known = [c for c in candidates if c.drop is not None and c.cost is not None and c.affordable]
    fit = [c for c in known if c.drop is not None and c.drop.mean <= max_drop + ROUNDING]
    if not fit:
        return Choice(None, _why_none(candidates, known, limit, cost, metric, unit))
    best = min(fit, key=lambda c: (c.cost or 0.0, c.drop.mean if c.drop else 0.0))
    share = f", {number(best.share, 'fraction')} of the original's" if best.share is not None else ""
    those = f"the {len(fit)} strategies that lose" if len(fit) > 1 else "the only strategy that loses"
    has = f"has the least {cost}{share}, of" if len(fit) > 1 else "is"
    reason = f"'{best.name}' {has} {those} at most {limit} of {metric}: it loses {_shown(best.drop, unit)}"
    if best.drop and best.drop.high is not None and best.drop.high > max_drop + ROUNDING:
        reason += f", with an interval that reaches {number(best.drop.high, unit)}"
    return Choice(best.name, reason)


def _why_none(
    candidates: Sequence[Candidate],
    known: Sequence[Candidate],
    limit: str,
    cost: str,
    metric: str,
    unit: str,
) -> str:
    if not candidates:
        return "there are no strategies"
    measured = [c for c in candidates if c.drop is not None and c.cost is not None]
    if not measured:
        return f"no strategy has both {cost} and a difference in {metric} from its original"
    if not known:
        return "no strategy keeps the costs of the budget"
    least = min(known, key=lambda c: c.drop.mean if c.drop else 0.0)
    within = " that keeps the costs of the budget" if len(known) < len(measured) else ""
    return (
        f"no strategy{within} loses at most {limit} of {metric}: "
        f"'{least.name}' loses least, {_shown(least.drop, unit)}"
    )


def _shown(drop: Estimate | None, unit: str) -> str:
    mean = drop.mean if drop else None
    if mean is not None and mean <= 0:
        return "nothing"
    return number(mean, unit)
