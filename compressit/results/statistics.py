"""Statistics over seeds: mean, standard deviation and the confidence interval of the mean."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev

from compressit.formatting import EMPTY, SPACE, number

# The 0.975 quantile of Student's t with 1, 2, ... 30 degrees of freedom: NIST/SEMATECH e-Handbook of Statistical
# Methods, section 1.3.6.7.2, with one more digit.
_T = (
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
    2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
    2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423,
)  # fmt: skip


def mean_and_deviation(values: Sequence[float], unit: str | None = None) -> str:
    """`95.20 ± 0.31 % [94.43, 95.97] (3)`: mean, sample standard deviation (n - 1), 95 % interval of the mean,
    and n. For n = 1, only the mean and n."""
    if not values:
        return EMPTY
    mean = number(fmean(values), unit)
    if len(values) == 1:
        return f"{mean} (1)"
    deviation, (low, high) = stdev(values), interval(values)
    if unit == "fraction":
        spread = f"{100 * deviation:.2f}{SPACE}% [{100 * low:.2f}, {100 * high:.2f}]"
        return f"{mean.removesuffix(f'{SPACE}%')} ± {spread} ({len(values)})"
    return f"{mean} ± {number(deviation, unit)} [{number(low, unit)}, {number(high, unit)}] ({len(values)})"


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % confidence interval of the mean of two or more values, by Student's t.

    Assumes independent, normally distributed values. For accuracies, the interval may extend beyond 0 or 1.
    """
    half = t_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def t_quantile(freedom: int) -> float:
    """The 0.975 quantile of Student's t with `freedom` >= 1 degrees of freedom, to four digits.

    Beyond 30, uses the expansion around the normal quantile (Abramowitz & Stegun, 26.7.5).
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
