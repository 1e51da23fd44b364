"""Published statements beside what a run gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from compressit import Row
from compressit_plugins.figure.options import Check, Rows, Side, Take
from compressit_plugins.figure.readings import Readings

Bounds = tuple[float | None, float | None]


@dataclass(frozen=True)
class Checked:
    """What a check found. `holds` is None where the run has not given all that it needs."""

    what: str
    published: str
    asked: str
    here: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        """`within`, `misses` or `not measured`."""
        return {True: "within", False: "misses", None: "not measured"}[self.holds]


def checked(check: Check, readings: Readings) -> Checked:
    """Compares what was published with this run's rows."""
    if check.order:
        return _ordered(check, readings)
    if check.correlate is not None:
        value, here = _correlated(check, check.correlate, readings)
    elif check.share is not None:
        value, here = _shared(check, check.share, readings)
    else:
        value, here = _mean(check, readings)
    within = check.within or (None, None)
    holds = None if value is None else _between(value, within)
    return Checked(check.what, check.published, bounds(within), here, holds)


def bounds(within: Bounds) -> str:
    """`0.4 to 0.5`, `at least 3`, `at most 0.1`."""
    low, high = within
    if low is not None and high is not None:
        return f"{figure(low)} to {figure(high)}"
    return f"at least {figure(low)}" if low is not None else f"at most {figure(high or 0.0)}"


def figure(value: float) -> str:
    """A number with four digits; `never` for what a curve did not reach."""
    return "never" if math.isinf(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _mean(check: Check, readings: Readings) -> tuple[float | None, str]:
    """A mean over the rows, or its ratio or difference to another one."""
    first = _numbers(readings, check.take, check.of)
    other = check.over or check.minus
    if other is None:
        return _told(first)
    second = _numbers(readings, other.take or check.take, check.of if other.same_rows else other)
    if not first or not second:
        return None, ""
    one, two = fmean(first), fmean(second)
    sign = "/" if check.over else "−"
    if math.isinf(one) or math.isinf(two) or (check.over and two == 0):
        return math.nan, f"{figure(one)} {sign} {figure(two)}"
    value = one / two if check.over else one - two
    return value, f"{figure(value)} ({figure(one)} {sign} {figure(two)}{_seeds(first)})"


def _shared(check: Check, share: Bounds, readings: Readings) -> tuple[float | None, str]:
    """The share of the rows whose number is between two bounds."""
    found = _numbers(readings, check.take, check.of)
    if not found:
        return None, ""
    inside = sum(_between(value, share) for value in found)
    return inside / len(found), f"{figure(inside / len(found))} ({inside} of {len(found)})"


def _correlated(check: Check, pair: tuple[Take, Take], readings: Readings) -> tuple[float | None, str]:
    """The rank correlation of two numbers over the rows that have both."""
    from scipy.stats import spearmanr

    both = [
        (first, second)
        for row in readings.rows(check.of)
        if (first := readings.number(row, pair[0])) is not None
        and (second := readings.number(row, pair[1])) is not None
    ]
    if len(both) < 3:
        return None, f"{len(both)} models, which are too few" if both else ""
    firsts, seconds = zip(*both, strict=True)
    found: Any = spearmanr(firsts, seconds)
    value, chance = float(found.statistic), float(found.pvalue)
    if not math.isfinite(value):
        return None, "one of the two does not vary"
    return value, f"{figure(value)} (p = {chance:.1g}, {len(both)} models)"


def _ordered(check: Check, readings: Readings) -> Checked:
    """Whether each mean lies above the one before it, and in how many seeds that is so."""

    def of(row_of: Callable[[Sequence[Row]], Sequence[Row]]) -> list[float | None]:
        means: list[float | None] = []
        for side in check.order:
            rows = row_of(readings.rows(_rows(side, check.of)))
            found = _taken(readings, side.take or check.take, rows)
            means.append(fmean(found) if found else None)
        return means

    def rises(means: Sequence[float | None]) -> bool | None:
        known = [mean for mean in means if mean is not None]
        if len(known) < len(means):
            return None
        return all(
            math.isfinite(after) and after > before and after >= before + check.gap * abs(before)
            for before, after in pairwise(known)
        )

    means = of(lambda rows: rows)
    holds = rises(means)
    seeds = sorted({row.seed for side in check.order for row in readings.rows(_rows(side, check.of))})
    each = [rises(of(lambda rows, seed=seed: [row for row in rows if row.seed == seed])) for seed in seeds]
    here = " → ".join("?" if mean is None else figure(mean) for mean in means) if any(means) else ""
    if holds is not None and len(seeds) > 1:
        here += f" (in {each.count(True)} of {len(seeds)} seeds)"
    gap = f", each by {check.gap:.0%} of the one before" if check.gap else ""
    return Checked(check.what, check.published, f"rising{gap}", here, holds)


def _rows(side: Side, usual: Rows) -> Rows:
    return usual if side.same_rows else side


def _numbers(readings: Readings, take: Take | None, which: Rows) -> list[float]:
    return _taken(readings, take, readings.rows(which))


def _taken(readings: Readings, take: Take | None, rows: Sequence[Row]) -> list[float]:
    assert take is not None, "the options refuse a check without it"
    return [found for row in rows if (found := readings.number(row, take)) is not None]


def _told(values: Sequence[float]) -> tuple[float | None, str]:
    if not values:
        return None, ""
    mean = fmean(values)
    each = f" ({', '.join(map(figure, values))})" if 1 < len(values) <= 10 else _seeds(values)
    return (math.nan if math.isinf(mean) else mean), figure(mean) + each


def _seeds(values: Sequence[float]) -> str:
    return f"; {len(values)} models" if len(values) > 1 else ""


def _between(value: float, within: Bounds) -> bool:
    low, high = within
    return value >= (-math.inf if low is None else low) and value <= (math.inf if high is None else high)
