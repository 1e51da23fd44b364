"""The search for a latency. Readings of a clock vary, and a narrower model is not always faster."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial

from compressit import CompressitError
from compressit_plugins.prune.selection import Selection
from compressit_plugins.prune.target import TOLERANCE, find_share, off, unreachable

_CLOSE = 0.01  # of the target; smaller differences cannot be measured
_ROUNDS, _MISSES = 6, 2
_FEWEST, _MOST = 10, 60  # readings of a selection, more in each round


def find_timed(
    clock: Callable[[Selection], Callable[[], float]],
    at: Callable[[float], Selection],
    target: float,
    strict: bool = True,
) -> tuple[Selection, float]:
    """The selection whose time is within 2 % of `target`, a fraction of the parent's time; and its measured fraction.
    The fraction is measured again after the choice, since the readings behind the choice are biased towards the target.

    clock(selection) returns a function that measures the selection's time once, as a fraction of the parent's.
    at(share) is the selection for a share of channels (0 to 1). A selection is judged by the median of its readings: at
    least 10, and up to 60 until it is clear whether it is within 2 %. If the second measurement disagrees, its readings
    are added to the first ones and the search continues, from a slightly different start, for up to 6 rounds. It stops
    after the second round in which nothing is within 2 %. Without `strict`, returns the best of the first round.
    Raises CompressitError if no selection is within 2 %, or none is twice.
    """
    known: dict[tuple[int, ...], list[float]] = {}
    share, again, misses = target**0.5, list[float](), 0
    for turn in range(1, _ROUNDS + 1):

        def estimate(share: float, turn: int = turn) -> float:
            selection = at(share)
            readings = known.setdefault(selection.key, [])
            _read(readings, partial(clock, selection), target, turn)
            return statistics.median(readings)

        # From the same start, a later round would end at the same selection.
        beside = 1 + 0.01 * (turn - 1) * (-1) ** (turn - 1)
        share = find_share(estimate, target, min(share * beside, 1.0), _CLOSE)
        chosen = at(share)
        first = known.get(chosen.key, [1.0])  # the nearest may be the parent itself
        if not strict:
            return chosen, statistics.median(first)
        if off(statistics.median(first), target) <= TOLERANCE:
            again = list[float]()
            _read(again, partial(clock, chosen), target, 1)
            if off(statistics.median(again), target) <= TOLERANCE:
                return chosen, statistics.median(again)
            first += again
        elif (misses := misses + 1) == _MISSES:
            break
    raise _no_success([statistics.median(readings) for readings in known.values()], again, target)


def _read(readings: list[float], clock: Callable[[], Callable[[], float]], target: float, turn: int) -> None:
    """Adds readings until there are enough."""
    if not _enough(readings, target, turn):
        read = clock()
        while not _enough(readings, target, turn):
            readings.append(read())


def _enough(readings: list[float], target: float, turn: int) -> bool:
    if not _FEWEST * turn <= len(readings) < _MOST * turn:
        return len(readings) >= _MOST * turn
    distance = abs(off(statistics.median(readings), target) - TOLERANCE)
    return 2 * _standard_error(readings) < distance * target


def _standard_error(readings: list[float]) -> float:
    """Standard error of the median: 1.2533 sigma / sqrt(n) for normal errors, sigma = inter-quartile range / 1.349."""
    lower, _, upper = statistics.quantiles(readings, n=4)
    return 1.2533 / 1.349 * (upper - lower) / math.sqrt(len(readings))


def _no_success(medians: list[float], again: list[float], target: float) -> CompressitError:
    nearest = min(medians, key=lambda median: off(median, target))
    if not again or off(nearest, target) > TOLERANCE:
        return unreachable(medians, target)
    return CompressitError(
        f"the measured times are unreliable: the widths nearest to keep {target:.3g} took {nearest:.3g} of the "
        f"model's time, but {statistics.median(again):.3g} when they were timed again",
        "run nothing else on this machine, use fewer threads than it has cores, or use `target: macs`",
    )
