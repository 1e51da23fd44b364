"""Mean, deviation and interval over seeds, against scipy."""

from __future__ import annotations

from statistics import stdev

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compressit.results.statistics import interval, mean_and_deviation, t_quantile


@pytest.mark.parametrize("freedom", [*range(1, 61), 100, 1000, 100_000])
def test_the_quantile_is_scipys(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-5)


@given(st.lists(st.floats(0.0, 1.0), min_size=2, max_size=40).filter(lambda values: stdev(values) > 1e-6))
def test_the_interval_is_scipys(values: list[float]) -> None:
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert interval(values) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_it_is_shown_with_the_mean_and_the_deviation_of_a_sample() -> None:
    values = [0.95, 0.96, 0.93]
    low, high = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    expected = f"94.67 ± {100 * stdev(values):.2f} % [{100 * low:.2f}, {100 * high:.2f}] (3)"
    assert mean_and_deviation(values, "fraction").replace("\u202f", " ") == expected
    assert mean_and_deviation([2.0, 4.0]).replace("\u202f", " ") == "3 ± 1.414 [-9.706, 15.71] (2)"
    assert mean_and_deviation([0.5], "fraction").replace("\u202f", " ") == "50.00 % (1)"
    assert mean_and_deviation([]) == "–"
