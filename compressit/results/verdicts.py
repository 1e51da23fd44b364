"""Which models can be told apart: paired tests over seeds, each family corrected for its number of tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from compressit.results.entries import Entry
from compressit.results.statistics import LEVEL, Paired, holm, paired


@dataclass(frozen=True)
class Verdict:
    """Whether two entries differ in the compared metric: a paired t-test over the seeds that both have."""

    entry: Entry
    other: Entry
    question: Literal["baseline", "controls"]  # an entry against the baseline; a strategy against its control
    n: int  # seeds
    difference: float | None = None  # entry - other, mean over seeds
    low: float | None = None  # of its own 95 % interval, which no number of tests widens
    high: float | None = None
    p: float | None = None  # corrected by Holm for the number of tests in the family
    tests: int = 0  # in the family
    different: bool | None = None  # p < 0.05; None if it cannot be tested
    better: bool | None = None  # the entry is; None unless they differ
    why: str = ""  # it cannot be tested
    detectable: float | None = (
        None  # the smallest true difference that this design finds in 80 % of all cases
    )


Asked = tuple[Entry, Entry]
"""Two entries to compare: the one in question, and the other."""


def family(
    question: Literal["baseline", "controls"],
    asked: Sequence[Asked],
    metric: str,
    bounds: tuple[float, float],
    higher: bool,
) -> list[Verdict]:
    """The verdicts of one family. `bounds`: of a difference. `higher`: a higher value is better."""
    tested = [(entry, other, *_tested(entry, other, metric, bounds)) for entry, other in asked]
    corrected = iter(holm([test.p for _, _, test, _ in tested if test and test.p is not None]))
    tests = sum(test is not None and test.p is not None for _, _, test, _ in tested)
    found: list[Verdict] = []
    for entry, other, test, why in tested:
        verdict = Verdict(entry, other, question, 0, tests=tests, why=why)
        if test is not None:
            mean = test.difference
            verdict = replace(
                verdict, n=mean.n, difference=mean.mean, low=mean.low, high=mean.high, why=test.why
            )
        if test is not None and test.p is not None:
            p = next(corrected)
            different = p < LEVEL
            better = (test.difference.mean > 0) == higher if different else None
            detectable = test.detectable(tests)
            verdict = replace(verdict, p=p, different=different, better=better, detectable=detectable)
        found.append(verdict)
    return found


def _tested(
    entry: Entry, other: Entry, metric: str, bounds: tuple[float, float]
) -> tuple[Paired | None, str]:
    """The test, or why there is none."""
    if not other.rows:
        return None, f"there are no results of '{other.name or other.strategy}'"
    pairs = entry.pairs(metric, other)
    if not pairs:
        return None, f"no seed has {metric} of both"
    wrong = [seed for seed, pair in sorted(pairs.items()) if not all(map(math.isfinite, pair))]
    if wrong:
        return None, f"{metric} is not a number in seed {', '.join(map(str, wrong))}"
    return paired([pair for _, pair in sorted(pairs.items())], bounds), ""
