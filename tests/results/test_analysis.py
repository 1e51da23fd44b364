"""What a run says: fronts, choices, budgets, costs; and that the test split decides nothing."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import pytest
from compared import METRICS, compared, row, with_right
from hypothesis import given
from hypothesis import strategies as st

from compressit.contract.results import Results
from compressit.errors import CompressitError
from compressit.results.analysis import Analysis

SIZE = {
    "parameters": 1000.0,
    "macs": 5000.0,
    "latency_1_median_seconds": [0.010, 0.011, 0.012],
    "latency_1_iqr_seconds": 0.001,
}
ORIGINAL = {"test_accuracy": [0.95, 0.94, 0.96], "validation_accuracy": [0.94, 0.93, 0.95], **SIZE}
STRATEGIES = {
    "careful": {
        "test_accuracy": [0.94, 0.95, 0.93],
        "validation_accuracy": [0.935, 0.925, 0.945],
        "parameters": 600.0,
        "macs": 3000.0,
        "latency_1_median_seconds": [0.006, 0.005, 0.007],
    },
    "bold": {
        "test_accuracy": [0.95, 0.96, 0.97],  # the best on the test split alone
        "validation_accuracy": [0.89, 0.90, 0.88],
        "parameters": 200.0,
        "macs": 1000.0,
        "latency_1_median_seconds": [0.004, 0.004, 0.004],
    },
    "wasteful": {
        "test_accuracy": [0.90, 0.91, 0.92],
        "validation_accuracy": [0.88, 0.89, 0.87],
        "parameters": 900.0,
        "macs": 4000.0,
        "latency_1_median_seconds": [0.009, 0.009, 0.009],
    },
}
CHOSEN = {"selecting": "validation_accuracy"}


def _analysis(**asked: object) -> Analysis:
    return Analysis.of(compared(ORIGINAL, STRATEGIES, **(CHOSEN | asked)))


def _scrambled(results: Results, seed: int) -> Results:
    """The same results with the test metrics of other rows."""
    values = [made.metrics["test_accuracy"] for made in results.rows]
    random.Random(seed).shuffle(values)
    rows = [
        replace(made, metrics={**made.metrics, "test_accuracy": value})
        for made, value in zip(results.rows, values, strict=True)
    ]
    return replace(results, rows=rows)


def test_the_cheapest_that_loses_little_enough_is_chosen() -> None:
    analysis = _analysis()
    assert analysis.choose(0.01, "macs").name == "careful"
    assert analysis.choose(0.10, "macs").name == "bold"
    assert analysis.choose(0.10, "latency_1").name == "bold"
    none = analysis.choose(0.001, "macs")
    assert none.name is None
    assert "'careful' loses least, 0.50" in none.reason


def test_rounding_breaks_no_limit() -> None:
    """0.95 - 0.945 is 0.0050000000000000044."""
    original = {"validation_accuracy": 0.95, "test_accuracy": 0.95, "macs": 1000.0}
    half = {"validation_accuracy": 0.945, "test_accuracy": 0.945, "macs": 260.0}
    budget = {"macs": 0.26, "max_drop": 0.005}
    analysis = Analysis.of(compared(original, {"half": half}, budget=budget, **CHOSEN))
    assert analysis.choose().name == "half"
    assert analysis.within_budget(analysis.entries[0]) is True


def test_test_metrics_move_no_choice() -> None:
    results = compared(ORIGINAL, STRATEGIES, budget={"macs": 0.7, "max_drop": 0.01}, **CHOSEN)
    as_is = Analysis.of(results)
    moved = False
    for seed in range(20):
        other = Analysis.of(_scrambled(results, seed))
        for cost in ("macs", "latency_1"):
            for drop in (None, 0.0, 0.01, 0.06):
                assert other.choose(drop, cost) == as_is.choose(drop, cost)
            assert [e.name for e in other.pareto(cost)] == [e.name for e in as_is.pareto(cost)]
        assert [other.within_budget(e) for e in other.entries] == [
            as_is.within_budget(e) for e in as_is.entries
        ]
        moved |= [other.change(e) for e in other.entries] != [as_is.change(e) for e in as_is.entries]
    assert moved, "the scrambling shows where test metrics are shown"


def test_without_a_validation_split_nothing_is_chosen_unless_asked_for() -> None:
    strategies = {
        name: {k: v for k, v in own.items() if k != "validation_accuracy"} for name, own in STRATEGIES.items()
    }
    original = {k: v for k, v in ORIGINAL.items() if k != "validation_accuracy"}
    analysis = Analysis.of(compared(original, strategies, budget={"max_drop": 0.01}))
    choice = analysis.choose(0.02, "macs")
    assert choice.name is None
    assert "validation: 0.1" in choice.reason
    assert analysis.choose(0.02, "macs", select="test_accuracy").name == "bold"
    assert {analysis.within_budget(entry) for entry in analysis.entries} == {None}


def test_names_that_the_results_do_not_have() -> None:
    analysis = _analysis()
    with pytest.raises(CompressitError, match="no cost 'latncy_1'") as error:
        analysis.choose(0.1, "latncy_1")
    assert "latency_1_median_seconds" in str(error.value.hint)
    with pytest.raises(CompressitError, match="no cost 'test_accuracy'"):
        analysis.pareto("test_accuracy")
    with pytest.raises(CompressitError, match="no metric 'validation_acuracy'") as error:
        analysis.choose(0.1, "macs", select="validation_acuracy")
    assert "validation_accuracy" in str(error.value.hint)
    with pytest.raises(CompressitError, match="max_drop= is missing"):
        analysis.choose(minimize="macs")


def test_a_choice_says_when_its_interval_reaches_further() -> None:
    shaky = {**STRATEGIES["careful"], "validation_accuracy": [0.94, 0.90, 0.96]}
    choice = Analysis.of(compared(ORIGINAL, {"shaky": shaky}, **CHOSEN)).choose(0.02, "macs")
    assert choice.name == "shaky"
    assert "interval that reaches" in choice.reason


def test_a_strategy_that_failed_in_one_seed_is_not_chosen() -> None:
    failed = {**STRATEGIES["bold"], "validation_accuracy": [0.94, math.nan, 0.95]}
    analysis = Analysis.of(compared(ORIGINAL, {"careful": STRATEGIES["careful"], "failed": failed}, **CHOSEN))
    assert analysis.choose(0.02, "macs").name == "careful"
    assert [entry.name for entry in analysis.pareto("macs")] == ["careful"]


def test_a_budget_marks_who_keeps_it_and_limits_choices() -> None:
    analysis = _analysis(budget={"macs": 0.6, "max_drop": 0.02})
    marks = {entry.name: analysis.within_budget(entry) for entry in analysis.entries}
    assert marks == {"careful": True, "bold": False, "wasteful": False}
    assert analysis.main_cost == "macs"
    assert analysis.choose(minimize="latency_1").name == "careful"
    tight = _analysis(budget={"macs": 0.1})
    assert "keeps the costs of the budget" in tight.choose(0.5, "macs").reason
    assert {_analysis().within_budget(entry) for entry in analysis.entries} == {None}


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 5), st.booleans()), min_size=1, max_size=8))
def test_the_front_is_what_nothing_dominates(models: list[tuple[int, int, bool]]) -> None:
    values = [({"macs": float(cost), "test_accuracy": score / 5}, control) for cost, score, control in models]
    named = {f"s{number}": made for number, made in enumerate(values)}
    results = compared(
        {"macs": 9.0, "test_accuracy": 1.0},
        {name: own for name, (own, control) in named.items() if not control},
        {name: ("random", (), own) for name, (own, control) in named.items() if control},
        seeds=(0,),
    )
    for controls in (False, True):
        those = {name: own for name, (own, control) in named.items() if controls or not control}
        front = {
            name
            for name, own in those.items()
            if not any(
                other["macs"] <= own["macs"]
                and other["test_accuracy"] >= own["test_accuracy"]
                and other != own
                for other in those.values()
            )
        }
        found = [entry.name for entry in Analysis.of(results).pareto("macs", "test_accuracy", controls)]
        assert set(found) == front
        assert len(found) == len(front)
        assert [those[name]["macs"] for name in found] == sorted(those[name]["macs"] for name in found)


def test_the_front_of_a_metric_where_lower_is_better() -> None:
    strategies = {
        "low": {"macs": 1.0, "test_loss": 0.5},
        "high": {"macs": 1.0, "test_loss": 0.9},
    }
    analysis = Analysis.of(compared({"macs": 2.0, "test_loss": 0.4}, strategies, metric="test_loss"))
    assert [entry.name for entry in analysis.pareto("macs")] == ["low"]
    drop = analysis.drop(analysis.entries[0], "test_loss")
    assert drop is not None
    assert drop.mean == pytest.approx(0.1)


def test_costs_are_what_is_counted_and_lower_is_better() -> None:
    analysis = _analysis()
    assert analysis.costs == ("parameters", "macs", "latency_1_median_seconds")
    careful = analysis.entries[0]
    assert analysis.ratio(careful, "parameters") == pytest.approx(1000 / 600)
    assert analysis.ratio(careful, "latency_1_median_seconds") == pytest.approx(0.033 / 0.018)
    assert analysis.cost_named("latency_1") == "latency_1_median_seconds"


def test_the_main_cost_is_what_most_strategies_reduce() -> None:
    strategies = {
        "sparse": {"test_accuracy": 0.9, "macs": 100.0, "nonzero": 10.0},
        "half": {"test_accuracy": 0.9, "macs": 50.0, "nonzero": 50.0},
    }
    results = compared({"test_accuracy": 0.9, "macs": 100.0, "nonzero": 100.0}, strategies)
    counted = dict.fromkeys(("macs", "nonzero"), METRICS["macs"])
    assert Analysis.of(replace(results, metrics={**results.metrics, **counted})).main_cost == "nonzero"


def test_a_measured_time_is_the_main_cost_only_if_nothing_counted_is_less() -> None:
    time = "latency_1_median_seconds"
    original = {"test_accuracy": 0.9, "macs": 100.0, time: 2.0}
    noisy = {"test_accuracy": 0.9, "macs": 100.0, time: 1.9}
    half = {"test_accuracy": 0.9, "macs": 50.0, time: 1.5}
    assert Analysis.of(compared(original, {"noisy": noisy, "half": half})).main_cost == "macs"
    assert Analysis.of(compared(original, {"noisy": noisy})).main_cost == time


def test_controls_of_the_very_same_numbers_are_one_that_serves_the_strategies_of_all() -> None:
    time = "latency_1_median_seconds"
    made = {"test_accuracy": [0.9, 0.91, 0.92], "macs": 50.0, time: [1.0, 1.1, 1.2]}
    fresh = {"test_accuracy": [0.8, 0.81, 0.79], "macs": 50.0, time: [1.0, 1.1, 1.2]}
    controls = {
        "scratch-a": ("scratch", ["a"], fresh),
        "scratch-b": ("scratch", ["b"], {**fresh, time: [1.3, 1.0, 1.1]}),  # the same net, timed again
        "scratch-c": ("scratch", ["c"], {**fresh, "test_accuracy": [0.8, 0.81, 0.78]}),
        "thin-a": ("thin", ["a"], fresh),
    }
    original = {"test_accuracy": 0.95, "macs": 100.0, time: 2.0}
    analysis = Analysis.of(compared(original, {"a": made, "b": made, "c": made}, controls))
    assert [(entry.name, entry.of, entry.alike) for entry in analysis.controls] == [
        ("scratch-a", ("a", "b"), ("scratch-b",)), ("scratch-c", ("c",), ()), ("thin-a", ("a",), ()),
    ]  # fmt: skip
    assert len(analysis.strategies) == 3, "strategies of the same numbers stay"
    of_b = [v for v in analysis.verdicts if v.entry.name == "b" and v.question == "controls"]
    assert [v.other.name for v in of_b] == ["scratch-a"]


def test_what_was_spent_is_summed_along_the_way_from_the_last_fresh_weights() -> None:
    rows = [
        made
        for seed, epochs in ((0, 3), (1, 5))
        for made in (
            row("a", "train", seed, {"test_accuracy": 0.9}, notes={"epochs": 10, "images_seen": 1000}),
            row("a", "prune", seed, {"test_accuracy": 0.5}, notes={}),
            row("a", "tune", seed, {"test_accuracy": 0.8}, parent="prune", notes={"epochs": epochs}),
            row("a", "again", seed, {"test_accuracy": 0.8}, parent="tune", notes={"epochs": 1}),
            row("b", "train", seed, {"test_accuracy": 0.9}, notes={"epochs": 10, "images_seen": 1000}),
            row("b", "anew", seed, {"test_accuracy": 0.7}, notes={"epochs": 13, "fresh_weights": True}),
        )
    ]
    strategies = {
        "a": {"final": ["again"], "control": "", "of": []},
        "b": {"final": ["anew"], "control": "scratch", "of": ["a"]},
    }
    analysis = Analysis.of(
        Results("x", None, rows, METRICS, {}, config={"compare": {"strategies": strategies}})
    )
    assert [analysis.spent(entry, "epochs") for entry in analysis.entries] == [15.0, 13.0]
    assert [analysis.spent(entry, "images_seen") for entry in analysis.entries] == [1000.0, None]
    assert analysis.spent(analysis.originals[0], "images_seen") == 1000


def test_every_recipe_is_compared_and_a_given_parent_is_known() -> None:
    """Without `compare`: every model that was made of a dense one."""
    rows = [
        made
        for seed in (0, 1)
        for made in (
            row("base", "init", seed, {"test_accuracy": 0.9}, dense="init", parent=None),
            row("base", "half", seed, {"test_accuracy": 0.8 + 0.01 * seed}, dense="init", parent="init"),
        )
    ]
    analysis = Analysis.of(Results("x", None, rows, METRICS, {}))
    assert [entry.name for entry in analysis.entries] == ["half"]
    assert [entry.name for entry in analysis.originals] == ["original"]
    assert (analysis.metric, analysis.selecting, analysis.baseline) == ("test_accuracy", None, "original")
    assert analysis.one_parent
    assert not _analysis().one_parent


def test_two_models_are_compared_example_by_example(tmp_path: Path) -> None:
    results = compared(ORIGINAL, STRATEGIES)
    right = {
        "careful/train": [True, True, True, False, True, True, True],
        "careful/made": [True, False, False, True, False, False, False],
        "bold/made": [True] * 6,
    }
    analysis = Analysis.of(with_right(results, tmp_path, right))
    careful, bold, _ = analysis.entries
    found = analysis.examples(careful)
    assert found is not None
    assert (found.both, found.first, found.second, found.neither) == (1, 5, 1, 0)
    assert found.p == pytest.approx(2 * (1 + 6) / 2**6)
    assert analysis.examples(bold) is None, "its own original has no such array"
    assert analysis.examples(careful, seed=1) is None
    with pytest.raises(CompressitError, match="different examples"):
        analysis.examples(careful, bold)
    assert Analysis.of(results).examples(Analysis.of(results).entries[0]) is None
