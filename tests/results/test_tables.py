"""The page's tables as values."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy import stats

from compressit.contract.results import ABOUT, PLACE, Results, Row
from compressit.results.tables import NUMBERS, all_models, over_seeds

METRICS = {
    "test_accuracy": {"better": "higher", "unit": "fraction", "about": "on the test set"},
    "parameters": {"better": "lower", "unit": "count", "about": ""},
    "latency": {"better": "lower", "unit": "seconds", "about": "of a batch"},
    "never": {"better": "lower", "unit": "", "about": "measured"},
}


def _row(stage: str = "train", seed: int = 0, variant: str = "real", **fields: Any) -> Row:
    metrics = {"zeta": 1.0, "latency": 0.25, "parameters": 1000, "test_accuracy": 0.5}
    values: dict[str, Any] = {"metrics": metrics, "notes": {"width": 512}, "dense": "train"}
    return Row(variant, stage, None, "", seed, "train.supervised", None, curves={}, **(values | fields))


def _results(*rows: Row) -> Results:
    return Results("x", None, rows, METRICS, {})


def test_the_table_has_the_filled_columns_in_the_csvs_order_and_says_what_they_mean(tmp_path: Path) -> None:
    results = _results(_row(), _row("prune"))
    table = all_models(results)
    assert [column.label for column in table.columns] == [
        "model", "test accuracy", "parameters", "latency", "zeta", "compression ratio", "width", "time", "checkpoint",
    ]  # fmt: skip
    results.write_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        columns = next(csv.reader(file))
    told = [name.replace("_", " ") for name in columns if name not in (*PLACE, "never")]
    assert told == [column.label for column in table.columns][1:-2]
    meaning = {column.label: column.about for column in table.columns}
    assert meaning["compression ratio"] == ABOUT["compression_ratio"]
    assert meaning["latency"] == "of a batch; seconds; lower is better"
    assert [row[0] for row in table.rows] == ["train", "prune"], "one variant, one seed: they say nothing"
    assert table.rows[0][1:7] == [0.5, 1000, 0.25, 1.0, 1.0, 512], "the numbers as they are"


def test_models_are_named_by_what_tells_them_apart() -> None:
    rows = (_row(), _row("prune"), _row(variant="fake", seed=3))
    assert [row[0] for row in all_models(_results(*rows)).rows] == [
        "real/seed0/train", "real/seed0/prune", "fake/seed3/train",
    ]  # fmt: skip


def test_several_seeds_are_summarised_as_scipy_does() -> None:
    values = (0.95, 0.96, 0.93)
    rows = [_row(seed=i, metrics={"test_accuracy": a, "parameters": 7}) for i, a in enumerate(values)]
    table = over_seeds(_results(*rows))
    assert table is not None
    ((name, accuracy, parameters, *_),) = table.rows
    low, high = stats.t.interval(0.95, 2, fmean(values), stats.sem(values))
    assert name == "train"
    assert accuracy == pytest.approx([fmean(values), stdev(values), low, min(high, 1.0), 3])
    assert parameters == 7, "sizes do not depend on the seed"
    assert over_seeds(_results(rows[0])) is None


def test_models_with_names_that_begin_alike_are_not_taken_together() -> None:
    long = "x" * 500
    rows = [_row(variant=long + end, seed=seed) for end in "ab" for seed in (0, 1)]
    table = over_seeds(_results(*rows))
    assert table is not None
    assert len(table.rows) == 2


def test_a_table_ends_where_the_page_would_be_too_long() -> None:
    notes = {f"n{i}": i / 7 for i in range(100)}
    table = all_models(_results(*(_row(f"s{i}", notes=notes) for i in range(1000))))
    assert table.left_out == 1000 - len(table.rows) > 0
    assert NUMBERS / 2 < sum(len(str(row)) for row in table.rows) < NUMBERS * 1.1
