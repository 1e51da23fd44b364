"""Means, intervals, paired tests, corrections and power: against scipy, closed forms and published values."""

from __future__ import annotations

import math
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from compressit.results.statistics import (
    Paired,
    estimate,
    holm,
    mcnemar,
    mean_and_deviation,
    paired,
    smallest_effect,
    t_quantile,
)

FRACTIONS = st.floats(0.0, 1.0)
SLEEP = (  # hours of additional sleep with two drugs: Student (1908)
    (0.7, 1.9), (-1.6, 0.8), (-0.2, 1.1), (-1.2, 0.1), (-0.1, -0.1),
    (3.4, 4.4), (3.7, 5.5), (0.8, 1.6), (0.0, 4.6), (2.0, 3.4),
)  # fmt: skip


def _tested(pairs: list[tuple[float, float]] | tuple[tuple[float, float], ...]) -> Paired:
    found = paired(pairs)
    assert found is not None
    return found


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 100, 100_000])
def test_the_quantile_is_scipys(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-12)


@given(st.lists(FRACTIONS, min_size=2, max_size=40))
def test_the_interval_is_scipys_and_its_cut_holds_the_mean(values: list[float]) -> None:
    assume(stdev(values) > 1e-6)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    free, cut = estimate(values), estimate(values, (0.0, 1.0))
    assert free is not None
    assert (free.mean, free.deviation, free.n) == (fmean(values), stdev(values), len(values))
    assert (free.low, free.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)
    assert cut is not None
    assert (cut.low, cut.high) == (max(0.0, free.low or 0.0), min(1.0, free.high or 0.0))


@given(st.lists(FRACTIONS, min_size=1, max_size=10))
def test_intervals_of_fractions_stay_within_0_and_1(values: list[float]) -> None:
    found = estimate(values, (0.0, 1.0))
    assert found is not None
    ends = [found.mean] if found.low is None or found.high is None else [found.low, found.mean, found.high]
    assert ends == sorted(ends)
    assert all(0 <= end <= 1 for end in ends)


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=2, max_size=10))
def test_differences_of_fractions_stay_within_minus_1_and_1(pairs: list[tuple[float, float]]) -> None:
    found = paired(pairs, (-1.0, 1.0))
    assert found is not None
    assert found.difference.low is not None
    assert found.difference.high is not None
    assert -1 <= found.difference.low <= found.difference.mean <= found.difference.high <= 1


def test_the_cut_loses_no_coverage() -> None:
    """Accuracies near 1, three seeds: the interval holds the true mean as often as without the cut."""
    draw = np.random.default_rng(1)
    true = 0.9  # of Beta(9, 1)
    held = dict.fromkeys(((0.0, 1.0), (-math.inf, math.inf)), 0)
    for values in draw.beta(9, 1, size=(2000, 3)).tolist():
        for bounds in held:
            found = estimate(values, bounds)
            assert found is not None
            held[bounds] += (found.low or 0.0) <= true <= (found.high or 0.0)
    assert len(set(held.values())) == 1
    assert held[0.0, 1.0] > 0.85 * 2000


def test_what_is_not_a_number_gives_no_mean() -> None:
    """A mean without the failed seed would hide it."""
    assert estimate([0.9, math.nan, 0.8]) is None
    assert estimate([0.9, math.inf]) is None
    assert estimate([]) is None
    assert paired([(0.9, math.nan), (0.8, 0.8)]) is None


def test_students_sleep_data_give_the_published_numbers() -> None:
    found = _tested(SLEEP)
    assert found.p == pytest.approx(0.002833, abs=5e-7)
    assert found.difference.mean == pytest.approx(1.58)
    assert (found.difference.low, found.difference.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-6)


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=2, max_size=12))
def test_the_paired_test_is_scipys(pairs: list[tuple[float, float]]) -> None:
    assume(stdev([second - first for first, second in pairs]) > 1e-3)
    theirs = stats.ttest_rel([second for _, second in pairs], [first for first, _ in pairs])
    assert _tested(pairs).p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-15)


def test_one_seed_gives_a_difference_and_no_test() -> None:
    found = _tested([(0.9, 0.8)])
    assert found.difference.mean == pytest.approx(-0.1)
    assert (found.p, found.why, found.detectable()) == (None, "one seed", None)


def test_equal_values_are_not_different() -> None:
    found = _tested([(0.9, 0.9), (0.8, 0.8), (0.7, 0.7)])
    assert (found.p, found.detectable()) == (1.0, None)


def test_the_same_shift_in_every_seed_is_no_evidence() -> None:
    """0.9 - 0.8 and 0.4 - 0.3 differ by rounding; scipy would say p = 1e-31."""
    found = _tested([(0.8, 0.9), (0.3, 0.4), (0.1, 0.2)])
    assert found.p is None
    assert "nothing varied" in found.why
    assert found.detectable() is None


def test_holms_correction() -> None:
    """Worked out by hand: the smallest times 5, the next times 4 …, and never less than the one before."""
    assert holm([0.03, 0.01, 0.05, 0.02, 0.04]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(FRACTIONS, min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferronis_in_the_same_order(ps: list[float]) -> None:
    found = holm(ps)
    assert all(p <= q <= min(1.0, len(ps) * p) for p, q in zip(ps, found, strict=True))
    assert [q for _, q in sorted(zip(ps, found, strict=True))] == sorted(found)


def test_mcnemar_counts_examples_and_is_exact() -> None:
    first = [True] * 6 + [True] * 10 + [False] * 4
    second = [False] * 6 + [True] * 10 + [False] * 3 + [True]
    found = mcnemar(first, second)
    assert (found.first, found.second, found.both, found.neither, found.n) == (6, 1, 10, 3, 20)
    assert found.p == pytest.approx(2 * (1 + 7) / 2**7)  # at most 1 head in 7 tosses, two-sided
    assert mcnemar([True], [True]).p == 1.0
    with pytest.raises(ValueError, match="longer"):
        mcnemar([True], [True, False])


@pytest.mark.parametrize("n", [3, 5, 10, 30])
@pytest.mark.parametrize("tests", [1, 3])
def test_the_detectable_effect_has_a_power_of_80_percent_by_the_noncentral_t(n: int, tests: int) -> None:
    level = 0.05 / tests
    beyond, shift = stats.t.isf(level / 2, n - 1), smallest_effect(n, level) * n**0.5
    power = stats.nct.sf(beyond, n - 1, shift) + stats.nct.cdf(-beyond, n - 1, shift)
    assert power == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize(("n", "tests"), [(2, 1), (3, 25), (5, 6)])
def test_the_detectable_effect_has_a_power_of_80_percent_in_a_simulation(n: int, tests: int) -> None:
    """Also where scipy's noncentral t fails: few seeds, many tests."""
    draw = np.random.default_rng(0)
    values = draw.normal(smallest_effect(n, 0.05 / tests), 1.0, size=(20_000, n))
    found = stats.ttest_1samp(values, 0, axis=1).pvalue < 0.05 / tests
    assert found.mean() == pytest.approx(0.8, abs=0.012)


def test_more_tests_and_more_spread_can_find_less() -> None:
    few, more = (_tested([(0.0, 1.0 * k), (0.0, 2.0 * k), (0.0, 4.0 * k)]) for k in (1, 2))
    one, five, wide = few.detectable(1), few.detectable(5), more.detectable(1)
    assert one is not None
    assert five is not None
    assert wide == pytest.approx(2 * one)
    assert five > one


def test_it_is_shown_with_the_mean_and_the_deviation_of_a_sample() -> None:
    values = [0.95, 0.96, 0.93]
    low, high = stats.t.interval(0.95, 2, loc=sum(values) / 3, scale=stats.sem(values))
    expected = f"94.67 ± {100 * stdev(values):.2f} % [{100 * low:.2f}, {100 * high:.2f}] (3)"
    assert mean_and_deviation(values, "fraction").replace("\u202f", " ") == expected
    assert mean_and_deviation([2.0, 4.0]).replace("\u202f", " ") == "3 ± 1.414 [-9.706, 15.71] (2)"
    assert mean_and_deviation([0.5], "fraction").replace("\u202f", " ") == "50.00 % (1)"
    assert mean_and_deviation([0.9, 1.0], "fraction").endswith("[31.47, 100.00] (2)")
    assert mean_and_deviation([]) == "–"
