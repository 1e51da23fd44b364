"""What share of the channels to keep so that the model costs what was asked."""

from __future__ import annotations

import math
from collections.abc import Callable

from compressit.errors import CompressitError

TOLERANCE = 0.02  # of the target: farther off is an error
CLOSE = 0.005  # near enough not to look any further
_TRIALS = 60


def find_share(cost: Callable[[float], float], target: float, guess: float, strict: bool = True) -> float:
    """The share of channels (0 to 1) at which `cost` comes nearest to `target`, a fraction of the parent's cost.

    `cost` takes a share and does not fall as it grows; cost(1) is 1. It should remember what it has measured: where
    widths change in steps it is asked for the same shape more than once. Raises CompressitError when nothing within
    2 % of the target is found and `strict`.
    """
    known = {1.0: 1.0}
    share = guess
    for trial in range(_TRIALS):
        known[share] = cost(share)
        if abs(known[share] / target - 1) <= CLOSE:
            return share
        if trial == 2 and min(known.values()) > target:
            known[0.0] = cost(0.0)  # the least there is: may be still too much
        below = [s for s, c in known.items() if c <= target]
        above = [s for s, c in known.items() if c > target]
        if 0.0 in known and not below:
            break
        low, high = max(below, default=0.0), min(above)
        if high - low < 1e-9:
            break
        share = _between(low, high, known, target, trial)
    best = min(known, key=lambda s: abs(known[s] / target - 1))
    if strict and abs(known[best] / target - 1) > TOLERANCE:
        raise _unreachable(known.values(), target)
    return best


def _between(low: float, high: float, known: dict[float, float], target: float, trial: int) -> float:
    """The next share: on the line through the two ends in logarithms (costs are powers of widths), kept off the ends;
    every third time, and where that helps no more, the middle."""
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


def _unreachable(costs: object, target: float) -> CompressitError:
    reached = sorted(costs)  # pyright: ignore
    below = max((c for c in reached if c <= target), default=None)
    above = min(c for c in reached if c > target)
    if below is None:
        return CompressitError(
            f"keep {target:.3g} is out of reach: with every width at its smallest {above:.3g} is left",
            "a larger `keep`, `max_ratio: 1.0`, a smaller `round_to`, or fewer layers in `ignore`",
        )
    return CompressitError(
        f"no widths keep {target:.3g} to within {TOLERANCE:.0%}: the nearest are {below:.3g} and {above:.3g}",
        f"a smaller `round_to`, or `keep: {below:.3g}` or `keep: {above:.3g}`",
    )
