"""The page's first words and its short table."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean, stdev
from typing import Any

import pytest
from lenets import CONTROLS, STRATEGIES, lenets
from scipy import stats

from compressit.contract.results import Results
from compressit.results.analysis import Analysis
from compressit.results.summary import MOST_MORE, MOST_ROWS, Line, Summary, summary


def told(results: Results) -> Summary:
    return summary(Analysis.of(results))


def cells(found: Summary) -> dict[str, dict[str, str]]:
    heads = [head.text for head in found.heads]
    lines: list[Line] = [*found.rows, *found.controls, *found.more]
    return {line.name: dict(zip(heads, line.cells, strict=True)) for line in lines}


def test_the_sentence_names_the_cheapest_that_keeps_the_budget() -> None:
    found = told(lenets())
    assert found.sentence.startswith("'structured-kd' is the cheapest of 6 strategies")
    assert "4× fewer MACs" in found.sentence
    assert "at most 1 point of validation accuracy" in found.sentence
    assert [line.name for line in found.rows if line.chosen] == ["structured-kd"]


def test_the_choice_does_not_move_with_the_test_labels() -> None:
    results = lenets()
    accuracy = {
        (row.variant if row.parent else "", row.seed): 0.1 + n % 7 / 10 for n, row in enumerate(results.rows)
    }
    rows = [
        replace(
            row,
            metrics={**row.metrics, "test_accuracy": accuracy[row.variant if row.parent else "", row.seed]},
        )
        for row in results.rows
    ]
    scrambled = told(replace(results, rows=rows))
    assert [line.name for line in scrambled.rows if line.chosen] == ["structured-kd"]


def test_where_nothing_keeps_the_budget_the_sentence_says_so() -> None:
    found = told(lenets(budget={"macs": 0.6, "max_drop": 0.0001}))
    assert found.sentence.startswith("No strategy")
    assert not [line for line in found.rows if line.chosen]


def test_the_table_has_the_change_as_scipy_computes_it_and_the_ratios() -> None:
    results = lenets()
    table = cells(told(results))
    by = {(row.variant, row.stage, row.seed): row.metrics for row in results.rows}
    assert table.keys() == {"original", *STRATEGIES, *CONTROLS}
    for name, (_, share, _) in STRATEGIES.items():
        changes = [
            by[name, "recover", s]["test_accuracy"] - by[name, "train", s]["test_accuracy"] for s in range(3)
        ]
        half = stats.t.ppf(0.975, 2) * stdev(changes) / 3**0.5
        sign = "−" if fmean(changes) < 0 else "+"
        line = table[name]
        assert line["change (points)"] == f"{sign}{100 * abs(fmean(changes)):.2f} ± {100 * half:.2f}"
        assert float(line["× smaller"].rstrip("×")) == pytest.approx(1 / share, rel=0.01)
        times = [
            fmean(by[name, stage, s]["latency_1_median_seconds"] for s in range(3))
            for stage in ("train", "recover")
        ]
        assert float(line["× faster"].rstrip("×")) == pytest.approx(times[0] / times[1], rel=0.01)
        p = stats.ttest_1samp(changes, 0).pvalue
        assert line["significant"] in (("worse", "no") if p < 0.05 else ("no",))
        assert line["epochs"] == "15"
    assert table["noise-ladder"]["significant"] == "worse"
    assert {name for name in STRATEGIES if table[name]["in budget"] == "yes"} == {
        "structured-kd",
        "soft-labels",
    }


def test_without_a_measured_time_faster_is_fewer_macs() -> None:
    results = lenets()
    metrics = {name: facts for name, facts in results.metrics.items() if "latency" not in name}
    rows = [
        replace(row, metrics={n: v for n, v in row.metrics.items() if n in metrics}) for row in results.rows
    ]
    table = cells(told(replace(results, rows=rows, metrics=metrics)))
    assert table["structured-kd"]["× fewer MACs"] == "4×"


def test_every_recipe_has_the_changes_also_without_compare() -> None:
    found = told(replace(lenets(), config={}))
    assert found.first == "model"
    table = cells(found)
    assert table["structured-kd/recover"]["change (points)"].startswith("−0.5")


def test_with_one_seed_nothing_is_called_significant() -> None:
    table = cells(told(lenets(seeds=1)))
    assert {line["significant"] for line in table.values()} == {"–"}
    assert "±" not in "".join(line["change (points)"] for line in table.values())


def test_of_very_many_the_front_stands_first_and_the_rest_is_folded() -> None:
    results = lenets(seeds=1)
    train, recover = results.rows[:2]
    own = [{"macs": 100 * (n + 1), "validation_accuracy": 0.5 + (n % 10) / 1000} for n in range(500)]
    many = [
        replace(recover, member=f"n={n}", metrics={**recover.metrics, **metrics})
        for n, metrics in enumerate(own)
    ]
    found = told(replace(results, rows=[train, *many], config={}))
    assert len(found.rows) == MOST_ROWS + 1, "and the original"
    assert len(found.more) == MOST_MORE
    assert found.left_out == 500 - MOST_ROWS - MOST_MORE
    assert {f"recover@n={n}" for n in range(10)} <= {line.name for line in found.rows}, (
        "no other is cheaper and better"
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"rows": []}, "No models yet."),
        ({"rows": 1}, "Nothing was compressed: 'train' has 96."),
        ({"rows": 3}, "Nothing was compressed: 3 models have 9"),
        ({"rows": 1, "metrics": {}}, "1 model was made, and nothing was measured."),
    ],
)
def test_runs_with_nothing_to_compare_say_so(fields: dict[str, Any], words: str) -> None:
    results = lenets()
    trained = [row for row in results.rows if row.stage == "train"]
    rows = trained[: fields["rows"]] if fields["rows"] else []
    found = told(replace(results, config={}, **(fields | {"rows": rows})))
    assert found.sentence.startswith(words)
    assert not found.rows


def test_an_unfinished_run_chooses_nothing() -> None:
    found = told(lenets(missing=["thin/seed0/recover"]))
    assert not [line for line in found.rows if line.chosen]
    assert "6 compressed models have 9" in found.sentence
