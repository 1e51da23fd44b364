"""Which strategies are called different: on known numbers, in every awkward case, and over many simulated runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from compared import METRICS, compared, noisy, row
from scipy import stats

from compressit.contract.results import Results
from compressit.results.analysis import Analysis
from compressit.results.statistics import smallest_effect
from compressit.results.verdicts import Verdict

ORIGINAL = {"test_accuracy": [0.95, 0.94, 0.96]}
GOOD = {"test_accuracy": [0.90, 0.91, 0.905]}
BAD = {"test_accuracy": [0.60, 0.66, 0.61]}


def _verdicts(results: Results, question: str = "baseline") -> dict[tuple[str, str], Verdict]:
    found = Analysis.of(results).verdicts
    return {(v.entry.name, v.other.name): v for v in found if v.question == question}


def test_strategies_are_tested_against_their_originals_seed_by_seed_with_holms_correction() -> None:
    found = _verdicts(compared(ORIGINAL, {"good": GOOD, "bad": BAD}))
    good, bad = found["good", "original"], found["bad", "original"]
    ps = [stats.ttest_rel(own["test_accuracy"], ORIGINAL["test_accuracy"]).pvalue for own in (GOOD, BAD)]
    assert ps[0] > ps[1]
    assert (good.p, bad.p) == (pytest.approx(ps[0]), pytest.approx(2 * ps[1]))
    assert good.difference == pytest.approx(np.mean(GOOD["test_accuracy"]) - 0.95)
    assert (bad.n, bad.tests, bad.different, bad.better) == (3, 2, True, False)
    assert good.detectable is not None


def test_a_named_baseline_is_the_other_side() -> None:
    results = compared(ORIGINAL, {"good": GOOD, "bad": BAD}, baseline="good")
    found = _verdicts(results)
    assert list(found) == [("bad", "good")]
    theirs = stats.ttest_rel(BAD["test_accuracy"], GOOD["test_accuracy"])
    assert found["bad", "good"].p == pytest.approx(theirs.pvalue)
    analysis = Analysis.of(results)
    change = analysis.change(analysis.entries[1])
    assert change is not None
    assert change.mean == pytest.approx(np.mean(BAD["test_accuracy"]) - 0.95), "still from the original"


def test_each_strategy_is_tested_against_its_own_controls() -> None:
    controls = {
        "longer": ("longer", ("good", "bad"), {"test_accuracy": [0.95, 0.945, 0.955]}),
        "random-bad": ("random", ("bad",), {"test_accuracy": [0.61, 0.64, 0.62]}),
    }
    found = _verdicts(compared(ORIGINAL, {"good": GOOD, "bad": BAD}, controls), "controls")
    assert list(found) == [("good", "longer"), ("bad", "longer"), ("bad", "random-bad")]
    assert {verdict.tests for verdict in found.values()} == {3}
    assert found["bad", "random-bad"].different is False
    assert (found["bad", "longer"].different, found["bad", "longer"].better) == (True, False)


def test_of_several_operating_points_each_meets_the_one_that_answers_to_it() -> None:
    rows = [
        made
        for seed in (0, 1)
        for variant in ("kd", "random")
        for made in (
            row(variant, "train", seed, {"test_accuracy": 0.9 + 0.01 * seed}),
            row(variant, "prune", seed, {"test_accuracy": 0.8}, member="keep=0.5"),
            row(variant, "prune", seed, {"test_accuracy": 0.7}, member="keep=0.25"),
        )
    ]
    strategies = {
        "kd": {"final": ["prune"], "control": "", "of": []},
        "random": {"final": ["prune"], "control": "random", "of": ["kd"]},
    }
    results = Results(
        "x", None, rows, METRICS, {}, config={"compare": {"strategies": strategies, "baseline": "random"}}
    )
    assert list(_verdicts(results)) == [
        ("kd/prune@keep=0.5", "random/prune@keep=0.5"),
        ("kd/prune@keep=0.25", "random/prune@keep=0.25"),
    ]
    assert _verdicts(results, "controls") == {}, "the baseline is not tested twice"


@pytest.mark.parametrize(
    ("own", "seeds", "why"),
    [
        ([0.9], (0,), "one seed"),
        ([0.90, 0.89, 0.91], (0, 1, 2), "nothing varied"),
        ([0.9, math.nan, 0.9], (4, 5, 6), "not a number in seed 5"),
    ],
)
def test_what_cannot_be_tested_says_why(own: list[float], seeds: tuple[int, ...], why: str) -> None:
    original = {"test_accuracy": ORIGINAL["test_accuracy"][: len(seeds)]}
    found = _verdicts(compared(original, {"good": {"test_accuracy": own}}, seeds=seeds))["good", "original"]
    assert (found.different, found.p, found.better, found.detectable) == (None, None, None, None)
    assert why in found.why


def test_what_is_not_tested_does_not_count_as_a_test() -> None:
    found = _verdicts(compared(ORIGINAL, {"good": GOOD, "bad": {"test_accuracy": [0.9, math.nan, 0.9]}}))
    assert found["good", "original"].tests == 1


def test_equal_strategies_are_not_different() -> None:
    found = _verdicts(compared(ORIGINAL, {"same": ORIGINAL}))["same", "original"]
    assert (found.different, found.p, found.difference) == (False, 1.0, 0.0)


def test_a_missing_baseline_is_named() -> None:
    found = _verdicts(compared(ORIGINAL, {"good": GOOD}, baseline="gone"))["good", "gone"]
    assert (found.different, found.n) == (None, 0)
    assert "no results of 'gone'" in found.why


def test_seeds_that_one_side_lacks_are_left_out() -> None:
    results = compared(ORIGINAL, {"good": GOOD, "bad": BAD}, baseline="bad")
    rows = [r for r in results.rows if (r.variant, r.stage, r.seed) != ("bad", "made", 1)]
    found = _verdicts(Results("x", None, rows, results.metrics, {}, config=results.config))["good", "bad"]
    theirs = stats.ttest_rel([0.90, 0.905], [0.60, 0.61])
    assert (found.n, found.p) == (2, pytest.approx(theirs.pvalue))


def test_of_a_metric_where_lower_is_better_a_lower_value_is_better() -> None:
    original, own = {"test_loss": [1.0, 1.1, 1.05]}, {"test_loss": [0.5, 0.59, 0.56]}
    found = _verdicts(compared(original, {"good": own}, metric="test_loss"))["good", "original"]
    assert (found.different, found.better) == (True, True)
    assert found.difference is not None
    assert found.difference < 0


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_strategies_are_called_different_in_few_of_500_trials(seeds: int) -> None:
    """Four strategies, all equal to their original but for the seed: an error in a trial is any
    strategy that is called different from the baseline."""
    draw = np.random.default_rng(2024)
    wrong = 0
    for _ in range(500):
        original, *own = (noisy(0.9, seeds, draw) for _ in range(5))
        strategies = {f"s{number}": {"test_accuracy": values} for number, values in enumerate(own)}
        results = compared({"test_accuracy": original}, strategies, seeds=range(seeds))
        wrong += any(verdict.different for verdict in Analysis.of(results).verdicts)
    assert 0 < wrong <= 0.07 * 500


def test_a_true_difference_of_three_deviations_is_found_with_five_seeds() -> None:
    """One strategy, differences from the original of deviation 0.01 around 0.03."""
    draw = np.random.default_rng(7)
    found = 0
    for _ in range(500):
        original = noisy(0.8, 5, draw, 0.02)
        own = [value - lost for value, lost in zip(original, noisy(0.03, 5, draw), strict=True)]
        results = compared({"test_accuracy": original}, {"s": {"test_accuracy": own}}, seeds=range(5))
        found += Analysis.of(results).verdicts[0].different is True
    assert found >= 0.8 * 500


def test_a_difference_as_large_as_the_smallest_detectable_one_is_found_in_80_percent() -> None:
    """With the true deviation known, as the docstring of the number says."""
    draw = np.random.default_rng(3)
    lost = 0.01 * smallest_effect(5, 0.05)
    found = 0
    for _ in range(500):
        own = [0.9 - value for value in noisy(lost, 5, draw)]
        results = compared({"test_accuracy": 0.9}, {"s": {"test_accuracy": own}}, seeds=range(5))
        found += Analysis.of(results).verdicts[0].different is True
    assert 0.75 * 500 <= found <= 0.85 * 500
