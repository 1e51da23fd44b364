"""Statistics over seeds: means with their intervals, paired tests, what a design can find. scipy does the numbers.

Of scipy only the special functions are used: to import `scipy.stats` takes longer than to draw a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean, stdev

from compressit.formatting import EMPTY, SPACE, number

LEVEL = 0.05  # of a family of tests; intervals cover 95 %
POWER = 0.8  # with which `detectable` would be found
ANY = (-math.inf, math.inf)
UNCHANGING = 1e-12  # a deviation below this share of the values is rounding


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds. The last three need two values or more."""

    mean: float
    n: int
    deviation: float | None = None  # of the sample (n - 1)
    low: float | None = None  # of the 95 % interval of the mean
    high: float | None = None


@dataclass(frozen=True)
class Paired:
    """A paired t-test of two models over the seeds that both have."""

    difference: Estimate  # second - first
    p: float | None  # before any correction; None if the values allow no test
    why: str = ""  # there is no p

    def detectable(self, tests: int = 1) -> float | None:
        """The smallest true difference that this design finds with a probability of 80 %, where it is one of `tests`
        comparisons: with these seeds, and if the deviation of the differences is what was observed. None if the
        differences do not vary."""
        if not self.difference.deviation or self.p is None:
            return None
        return self.difference.deviation * smallest_effect(self.difference.n, LEVEL / tests)


@dataclass(frozen=True)
class Examples:
    """Which examples two models answer correctly, and the exact test of McNemar (1947). It is about these two models
    and these examples alone: another seed may give other models."""

    both: int
    first: int  # only the first is right
    second: int
    neither: int
    p: float  # of so uneven a split of the examples that one alone has right; two-sided

    @property
    def n(self) -> int:
        """All examples."""
        return self.both + self.first + self.second + self.neither


def estimate(values: Sequence[float], bounds: tuple[float, float] = ANY) -> Estimate | None:
    """The mean of values, with its 95 % interval by Student's t; None without values, or if one is not finite.

    Assumes independent values of about a normal distribution. `bounds`: what no value can leave, (0, 1) for fractions
    and (-1, 1) for their differences. The interval is cut there. It covers as often as before: the true mean lies
    within the bounds, so no cut removes it.
    """
    if not values or not all(map(math.isfinite, values)):
        return None
    mean = min(max(fmean(values), bounds[0]), bounds[1])  # rounding may lead out
    if len(values) == 1:
        return Estimate(mean, 1)
    deviation = stdev(values)
    half = t_quantile(len(values) - 1) * deviation / len(values) ** 0.5
    return Estimate(mean, len(values), deviation, max(mean - half, bounds[0]), min(mean + half, bounds[1]))


def paired(pairs: Sequence[tuple[float, float]], bounds: tuple[float, float] = ANY) -> Paired | None:
    """The difference (second - first) of pairs, one per seed, and whether it is 0 on average. None without pairs, or
    if a value is not finite.

    There is no p if there is one pair, or if all differ by the same amount: then nothing varied with the seed, and
    seeds are no repetitions. Pairs that are all equal have p = 1. `bounds`: of the differences.
    """
    found = estimate([second - first for first, second in pairs], bounds)
    if found is None:
        return None
    if found.deviation is None:
        return Paired(found, None, "one seed")
    largest = max(abs(value) for pair in pairs for value in pair)
    if found.deviation <= UNCHANGING * largest:
        if abs(found.mean) <= UNCHANGING * largest:
            return Paired(found, 1.0)
        return Paired(found, None, "the same difference in every seed: nothing varied")
    from scipy import special

    t = fmean(second - first for first, second in pairs) / (found.deviation / found.n**0.5)
    return Paired(found, float(2 * special.stdtr(found.n - 1, -abs(t))))


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of a family of tests, corrected by Holm (1979): if those below 0.05 are called different, one wrong
    call or more happens in at most 5 % of families, whatever their tests have in common."""
    order = sorted(range(len(ps)), key=lambda index: ps[index])
    found = [0.0] * len(ps)
    largest = 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(ps) - place) * ps[index]))
        found[index] = largest
    return found


def mcnemar(first: Sequence[bool], second: Sequence[bool]) -> Examples:
    """Compares two models by what they answer correctly: booleans, one per example, in the same order for both. Raises
    ValueError if the lengths differ."""
    pairs = list(zip(map(bool, first), map(bool, second), strict=True))
    both, neither = pairs.count((True, True)), pairs.count((False, False))
    one, other = pairs.count((True, False)), pairs.count((False, True))
    p = 1.0
    if one + other:
        from scipy import special

        p = min(1.0, 2 * float(special.bdtr(min(one, other), one + other, 0.5)))
    return Examples(both, one, other, neither, p)


@lru_cache(maxsize=10_000)
def smallest_effect(n: int, level: float) -> float:
    """The smallest true mean of n >= 2 differences, in their deviations, that a two-sided t-test of this level finds
    with a probability of 80 %."""
    import numpy as np
    from scipy import special

    # scipy's noncentral t fails far out (two seeds, many tests). So by its definition: a normal number with mean
    # `shift` divided by a deviation, whose distribution stands here as 4000 equally likely values.
    chi = np.sqrt(2 * special.gammaincinv((n - 1) / 2, (np.arange(4000) + 0.5) / 4000))
    beyond = -float(special.stdtrit(n - 1, level / 2)) * chi / (n - 1) ** 0.5

    def found(shift: float) -> float:
        return float(np.mean(special.ndtr(shift - beyond) + special.ndtr(-beyond - shift)))

    low, high = 0.0, 2 * float(beyond.max()) + 10
    while low < (middle := (low + high) / 2) < high:  # until no number lies between
        low, high = (middle, high) if found(middle) < POWER else (low, middle)
    return high / n**0.5


@lru_cache(maxsize=10_000)
def t_quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t with `freedom` >= 1 degrees of freedom."""
    from scipy import special

    return float(special.stdtrit(freedom, 1 - LEVEL / 2))


def mean_and_deviation(values: Sequence[float], unit: str | None = None) -> str:
    """`95.20 ± 0.31 % [94.43, 95.97] (3)`: mean, sample standard deviation (n - 1), 95 % interval of the mean,
    and n. For n = 1, only the mean and n."""
    found = estimate(values, (0.0, 1.0) if unit == "fraction" else ANY)
    if found is None:
        return EMPTY if not values else number(math.nan)
    mean = number(found.mean, unit)
    if found.deviation is None or found.low is None or found.high is None:
        return f"{mean} (1)"
    if unit == "fraction":
        spread = f"{100 * found.deviation:.2f}{SPACE}% [{100 * found.low:.2f}, {100 * found.high:.2f}]"
        return f"{mean.removesuffix(f'{SPACE}%')} ± {spread} ({found.n})"
    low, high = number(found.low, unit), number(found.high, unit)
    return f"{mean} ± {number(found.deviation, unit)} [{low}, {high}] ({found.n})"
