"""report.predictors: known associations are found, noise is not, and the numbers are scipy's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from compressit import Results, Row, parse
from compressit_plugins.predict.association import Case, associations, cases, changes, mean_spearman
from compressit_plugins.predict.report import Predictors, PredictorsConfig

RNG = np.random.default_rng(5)


def row(variant: str, stage: str, metrics: dict[str, float], **fields: Any) -> Row:
    values: dict[str, Any] = {"round": None, "member": "", "uses": "prune.magnitude", "teacher": None}
    return Row(
        variant=variant, stage=stage, seed=0, metrics=metrics, notes={}, curves={}, **(values | fields)
    )


def run(kept: Callable[[float], float], nets: int = 8) -> Results:
    """Nets of a sharpness of 1, 2, 3 … that keep some share of 90 % accuracy at two points."""
    rows: list[Row] = []
    for number in range(1, nets + 1):
        dense = {"sharpness": float(number), "noise": float(RNG.normal()), "test_accuracy": 0.9}
        rows.append(row(f"net{number}", "train", dense))
        for sparsity in (0.5, 0.9):
            left = {"sharpness": 2.0 * number, "test_accuracy": 0.9 * kept(number) * (1 - sparsity / 2)}
            rows.append(row(f"net{number}", "prune", left, member=f"sparsity={sparsity}", dense="train"))
    return Results("made", None, rows, {}, {})


def test_the_mean_of_correlations_is_scipys_with_ties() -> None:
    x = np.array([1.0, 2.0, 2.0, 4.0, 3.0, 9.0])
    y = RNG.integers(4, size=(3, 6)).astype(float)
    expected = np.mean([spearmanr(x, one).statistic for one in y])
    assert mean_spearman(x, y) == pytest.approx(expected)
    assert math.isnan(mean_spearman(np.ones(6), y))


def test_a_measure_that_orders_what_survives_is_found() -> None:
    config = parse(PredictorsConfig, {"measures": ["noise", "sharpness"], "draws": 1000})
    report, results = Predictors(config), run(lambda number: 1 / number)
    (sentence,) = report.paragraphs(results)
    assert "sharpness" in sentence
    assert "less" in sentence
    found = {
        one.measure: one
        for one in associations(cases(results, ["*"]), config.measures, config.survives, 1000)
    }
    sharp = found["sharpness"]
    assert sharp.rho == pytest.approx(-1)
    assert sharp.p == pytest.approx(1 / 1001, abs=2 / 1001)  # of 8! orders, two are as extreme
    assert (sharp.nets, sharp.points) == (8, 2)
    assert abs(found["noise"].rho) < 1
    assert found["noise"].low <= found["noise"].rho <= found["noise"].high
    (figure,) = report.figures(results).values()
    assert figure.get_label()


def test_where_nothing_is_significant_it_says_so() -> None:
    report = Predictors(parse(PredictorsConfig, {"measures": ["sharpness"], "draws": 300}))
    (sentence,) = report.paragraphs(run(lambda number: (4, 7, 1, 6, 2, 8, 3, 5)[int(number) - 1] / 10))
    assert "none" in sentence


def test_chance_alone_is_called_significant_about_once_in_twenty() -> None:
    rng, found = np.random.default_rng(1), 0
    for _ in range(100):
        made = [
            Case(("net", net), "prune", "prune", {"m": rng.normal(), "a": 1.0}, {"a": rng.normal()})
            for net in range(8)
        ]
        (one,) = associations(made, ["m"], ["a"], 200)
        found += one.p < 0.05
    assert found <= 12  # 5 expected; more than 12 has a chance of one in a thousand


def test_a_measure_that_doubles_is_said_to_double() -> None:
    results = run(lambda number: 1.0)
    (change,) = changes(cases(results, ["prune"]), ["sharpness"])
    assert math.exp(change.ratio.mean) == pytest.approx(2)
    assert change.ratio.n == 8
    table = Predictors(parse(PredictorsConfig, {"measures": ["sharpness"], "draws": 100})).tables(results)[-1]
    assert table.rows[0][1].startswith("2×")


def test_too_few_nets_or_no_change_give_no_correlation() -> None:
    assert (
        associations(
            cases(run(lambda number: 1 / number, nets=3), ["*"]), ["sharpness"], ["test_accuracy"], 100
        )
        == []
    )
    report = Predictors(parse(PredictorsConfig, {"measures": ["sharpness"], "draws": 100}))
    assert report.paragraphs(run(lambda number: 1.0)) == []
    assert report.tables(Results("made", None, [], {}, {})) == []
