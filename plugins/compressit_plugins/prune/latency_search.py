"""The search for a latency: a clock never reads twice the same, and a narrower model is not always a faster one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial

from compressit import CompressitError
from compressit_plugins.prune.selection import Selection
from compressit_plugins.prune.target import TOLERANCE, find_share, off, unreachable

_CLOSE = 0.01  # of the target: nothing nearer could be told apart
_ROUNDS, _MISSES = 6, 2
_FEWEST, _MOST = 10, 60  # readings of a selection, more in each round


def find_timed(
    clock: Callable[[Selection], Callable[[], float]],
    at: Callable[[float], Selection],
    target: float,
    strict: bool = True,
) -> tuple[Selection, float]:
    """The selection whose time is `target`, a fraction of the parent's, to within 2 %; and that fraction, measured
    once more after it was chosen (the readings by which it was chosen flatter it).

    clock(selection) gives what reads its time once, as a fraction of the parent's. at(share) is the selection at a
    share of channels (0 to 1). A selection is judged by the median of all its readings: 10, and up to 60 until it is
    clear on which side of the 2 % it is. If the second measurement disagrees, its readings join the first ones and the
    search goes on from there, starting a little beside it, up to 6 rounds; it ends at the second in which nothing
    comes within 2 %. Without `strict` the first round's best is returned as it is. Raises CompressitError where no
    selection comes within 2 %, and where none does so twice.
    """
    known: dict[tuple[int, ...], list[float]] = {}
    share, again, misses = target**0.5, list[float](), 0
    for turn in range(1, _ROUNDS + 1):

        def estimate(share: float, turn: int = turn) -> float:
            selection = at(share)
            readings = known.setdefault(selection.key, [])
            _read(readings, partial(clock, selection), target, turn)
            return statistics.median(readings)

        # In a later round the same way would end at the same place.
        beside = 1 + 0.01 * (turn - 1) * (-1) ** (turn - 1)
        share = find_share(estimate, target, min(share * beside, 1.0), _CLOSE)
        chosen = at(share)
        first = known.get(chosen.key, [1.0])  # nothing may have come nearer than the parent itself
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
    """Adds readings until they are enough."""
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
    """Of the median: 1.2533 sigma / sqrt(n) for normal errors, sigma being the inter-quartile range / 1.349."""
    lower, _, upper = statistics.quantiles(readings, n=4)
    return 1.2533 / 1.349 * (upper - lower) / math.sqrt(len(readings))


def _no_success(medians: list[float], again: list[float], target: float) -> CompressitError:
    nearest = min(medians, key=lambda median: off(median, target))
    if not again or off(nearest, target) > TOLERANCE:
        return unreachable(medians, target)
    return CompressitError(
        f"no time could be relied on: the widths nearest to keep {target:.3g} took {nearest:.3g} of the model's time, "
        f"and {statistics.median(again):.3g} when they were timed once more",
        "let nothing else run on this machine, use fewer threads than it has cores, or `target: macs`",
    )
