"""Finds the widths at which a model has the requested cost: first one share of all channels, then single widths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations
from typing import TypeAlias

from compressit import CompressitError

Steps: TypeAlias = tuple[int, ...]  # steps by which to change each group's width

TOLERANCE = 0.02  # of the target; a larger difference is an error
CLOSE = 0.005  # of the target; the search stops at a smaller difference
_TRIALS = 60  # shares to try
_FARTHEST = 2  # steps that a width may differ from the common share
_PAIRS = 100  # pairs of widths to try


def off(cost: float, target: float) -> float:
    """The distance of a cost from the target, as a fraction of the target."""
    return abs(cost / target - 1)


def find_share(
    cost: Callable[[float], float], target: float, guess: float, close: float = CLOSE, whole: float = 1.0
) -> float:
    """The share of channels (0 to 1) at which `cost` is nearest to `target`, a fraction of the parent's cost.

    `cost` takes a share; cost(1) is `whole`, more than the target. It should cache results, since several shares may
    give the same widths. The search stops when the difference is at most `close`, a fraction of the target. If the cost
    is not monotonic in the share, the search may miss the best share, but it still ends.
    """
    known = {1.0: whole}
    share = guess
    for trial in range(_TRIALS):
        known[share] = cost(share)
        if off(known[share], target) <= close:
            return share
        if trial == 2 and min(known.values()) > target:
            known[0.0] = cost(0.0)  # the smallest cost, which may still be too large
        below = [s for s, c in known.items() if c <= target]
        above = [s for s, c in known.items() if c > target]
        if 0.0 in known and not below:
            break
        low, high = max(below, default=0.0), min(above)
        if high - low < 1e-9:
            break
        share = _between(low, high, known, target, trial)
    return min(known, key=lambda s: off(known[s], target))


def find_steps(cost: Callable[[Steps], float | None], groups: int, target: float) -> Steps:
    """The steps by which to change single widths so that `cost` is nearest to `target`: at most two widths, by at most
    two steps each.

    `cost` takes the steps of each of `groups` widths and returns None if there is no such width. Tries at most 100
    pairs, the most promising first, by the product of both changes.
    """
    still = (0,) * groups
    moves = [n for n in range(-_FARTHEST, _FARTHEST + 1) if n]
    singles = [(*still[:i], n, *still[i + 1 :]) for i in range(groups) for n in moves]
    known = {steps: found for steps in (still, *singles) if (found := cost(steps)) is not None}
    nearest = min(known, key=lambda steps: off(known[steps], target))
    for steps in _promising(known, still, target):
        if off(known[nearest], target) <= CLOSE:
            break
        found = cost(steps)
        if found is not None:
            known[steps] = found
            nearest = min(nearest, steps, key=lambda s: off(known[s], target))
    return nearest


def unreachable(costs: Iterable[float], target: float) -> CompressitError:
    """The error if none of these costs is near enough. It names the smallest cost, or the nearest two."""
    reached = sorted({1.0, *costs})
    below = max((c for c in reached if c <= target), default=None)
    above = min(c for c in reached if c > target)
    if below is None:
        return CompressitError(
            f"keep {target:.3g} is out of reach: with the smallest widths, {above:.3g} is left",
            "use a larger `keep`, `max_ratio: 1.0`, a smaller `round_to`, or fewer layers in `ignore`",
        )
    return CompressitError(
        f"no widths keep {target:.3g} to within {TOLERANCE:.0%}: the nearest are {below:.3g} and {above:.3g}",
        f"use `keep: {below:.3g}` or `keep: {above:.3g}`, a smaller `round_to`, or `target: channels`, which rounds",
    )


def too_little(whole: float, target: float) -> CompressitError:
    """The error if less than the target is left although every width without a ratio of its own is kept."""
    return CompressitError(
        f"keep {target:.3g} is out of reach: with these `ratios`, {whole:.3g} is left although the others keep their "
        "widths",
        f"use larger `ratios`, or `keep: {whole:.3g}`",
    )


def _between(low: float, high: float, known: dict[float, float], target: float, trial: int) -> float:
    """The next share to try: interpolated between the two ends in logarithms (costs are powers of widths), and kept
    away from the ends; every third time, and after eight trials, the middle."""
    middle = (low + high) / 2
    if low not in known or known[low] <= 0 or low == 0:
        power = math.log(known[high]) / math.log(high) if high < 1 else 2.0
        share = target ** (1 / power) if power > 0 else middle
    elif known[high] <= known[low] or trial % 3 == 2 or trial > 8:
        return middle
    else:
        slope = (math.log(known[high]) - math.log(known[low])) / (math.log(high) - math.log(low))
        share = low * (target / known[low]) ** (1 / slope)
    margin = (high - low) / 200
    return min(max(share, low + margin), high - margin)


def _promising(known: dict[Steps, float], still: Steps, target: float) -> Iterator[Steps]:
    """Pairs of changed widths, those first whose product of changes is nearest to the target."""
    singles = [steps for steps in known if steps != still]
    pairs = [
        (a, b) for a, b in combinations(singles, 2) if not any(m and n for m, n in zip(a, b, strict=True))
    ]
    pairs.sort(key=lambda pair: off(known[pair[0]] * known[pair[1]] / known[still], target))
    for a, b in pairs[:_PAIRS]:
        yield tuple(m + n for m, n in zip(a, b, strict=True))
