"""The picture's values: each is one of the results, or is computed from them by the statistics."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from lenets import CONTROLS, STRATEGIES, lenets
from scipy import stats

from compressit.contract.results import Results
from compressit.results.analysis import Analysis
from compressit.results.front import front, label


def drawn(results: Results) -> dict[str, Any]:
    found = front(Analysis.of(results))
    assert found is not None
    return found


def test_every_number_of_the_picture_comes_from_the_results() -> None:
    results = lenets()
    points = drawn(results)["points"]
    assert len(points) == 1 + len(STRATEGIES) + len(CONTROLS)
    for point in points:
        variant, stage = (
            (next(iter(STRATEGIES)), "train") if point["kind"] == "original" else (point["name"], "recover")
        )
        rows = [row for row in results.rows if row.variant == variant and row.stage == stage]
        assert len(point["values"]) == len(results.metrics)
        for name, (mean, low, high, n) in point["values"].items():
            values = [row.metrics[name] for row in rows]
            assert n == len(values) == 3
            assert mean == pytest.approx(fmean(values), rel=1e-12)
            if len(set(values)) > 1:
                wanted = stats.t.interval(0.95, 2, fmean(values), stats.sem(values))
                top = 1.0 if name.endswith("accuracy") else float("inf")
                assert (low, high) == pytest.approx((wanted[0], min(wanted[1], top)))
            else:
                assert low == high == mean


def test_what_is_asked_for_is_drawn_first() -> None:
    found = drawn(lenets())
    assert found["metrics"][0]["name"] == "test_accuracy"
    assert found["costs"][0]["name"] == "macs", "the budget's"
    assert {cost["name"] for cost in found["costs"]} == {
        "macs",
        "nonzero",
        "parameters",
        "bytes",
        "latency_1_median_seconds",
    }
    assert {metric["name"] for metric in found["metrics"]} == {
        "test_accuracy",
        "validation_accuracy",
        "test_loss",
    }


def test_strategies_controls_and_the_original_are_told_apart() -> None:
    points = {point["name"]: point for point in drawn(lenets())["points"]}
    assert points["original"]["kind"] == "original"
    assert points["noise-ladder"]["kind"] == "strategy"
    assert points["thin"]["kind"] == "control"
    assert len({points[name]["group"] for name in STRATEGIES}) == len(STRATEGIES), "a colour each"


def test_a_control_of_one_strategy_has_its_colour() -> None:
    results = lenets()
    compare = dict(results.config["compare"])
    compare["strategies"] = {
        **compare["strategies"],
        "thin": {"final": ["recover"], "control": "thin", "of": ["soft-labels"]},
    }
    points = {p["name"]: p for p in drawn(replace(results, config={"compare": compare}))["points"]}
    assert points["thin"]["group"] == points["soft-labels"]["group"]


def test_the_budget_is_a_line_of_each_axis() -> None:
    results = lenets()
    dense = [row.metrics for row in results.rows if row.variant == "thin" and row.stage == "train"]
    limits = {limit["column"]: limit["value"] for limit in drawn(results)["limits"]}
    assert limits == {
        "macs": pytest.approx(0.6 * dense[0]["macs"]),
        "validation_accuracy": pytest.approx(fmean(m["validation_accuracy"] for m in dense) - 0.01),
    }
    assert drawn(lenets(budget={"never_measured": 0.5}))["limits"] == []


def test_one_seed_has_no_interval() -> None:
    values = [value for point in drawn(lenets(seeds=1))["points"] for value in point["values"].values()]
    assert all(low is None and high is None and n == 1 for _, low, high, n in values)


def test_without_anything_to_compare_there_is_no_picture() -> None:
    results = lenets()
    trained = [row for row in results.rows if row.stage == "train"]
    assert front(Analysis.of(replace(results, rows=trained, config={}))) is None
    unmeasured = [replace(row, metrics={}) for row in results.rows]
    assert front(Analysis.of(replace(results, rows=unmeasured))) is None
    assert front(Analysis.of(replace(results, rows=[]))) is None


def test_columns_are_called_as_people_do() -> None:
    assert label("latency_16_median_seconds") == "latency of a batch of 16"
    assert label("latency_1_onnxruntime_int8_median_seconds") == "latency of a batch of 1 in onnxruntime int8"
    assert label("warm_macs") == "warm MACs"
    assert label("nonzero") == "nonzero parameters"
