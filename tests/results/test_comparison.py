"""How a comparison shows itself: table, text, notebook, picture, page, models."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compared import compared, noisy, row, with_right
from tiny import Lab

from compressit.contract.results import Results
from compressit.errors import CompressitError
from compressit.results.comparison import Comparison
from compressit.results.runfolder import RunFolder
from compressit.results.text import MOST_ROWS, WIDTH
from compressit.results.textplot import text_plot

ORIGINAL = {
    "test_accuracy": [0.95, 0.94, 0.96],
    "validation_accuracy": 0.95,
    "macs": 1000.0,
    "parameters": 50.0,
}
HALF = {"test_accuracy": [0.94, 0.95, 0.94], "validation_accuracy": 0.945, "macs": 500.0, "parameters": 25.0}
BAD = {"test_accuracy": [0.60, 0.66, 0.61], "validation_accuracy": 0.6, "macs": 100.0, "parameters": 5.0}
CONTROLS = {
    "longer": ("longer", ("half", "bad"), {**ORIGINAL, "test_accuracy": [0.95, 0.96, 0.955]}),
    "random-bad": ("random", ("bad",), {**BAD, "test_accuracy": [0.61, 0.60, 0.64]}),
}

SMALL = """\
version: 1
name: small
data: {uses: tiny.data}
model: {uses: tiny.mlp}
seeds: [3, 4]
variants: {a: {}, b: {}}
stages:
  train: {uses: tiny.train}
  prune: {uses: tiny.prune}
evaluate: [tiny.accuracy, tiny.size]
"""


def _comparison(**asked: Any) -> Comparison:
    asked = {"selecting": "validation_accuracy", "budget": {"macs": 0.5, "max_drop": 0.01}} | asked
    return Comparison.of(compared(ORIGINAL, {"half": HALF, "bad": BAD}, CONTROLS, **asked))


def test_the_table_has_a_flat_row_for_every_model_with_the_same_keys() -> None:
    rows = _comparison().table()
    assert [(row["strategy"], row["control"]) for row in rows] == [
        ("original", "original"), ("half", ""), ("bad", ""), ("longer", "longer"), ("random-bad", "random"),
    ]  # fmt: skip
    assert len({tuple(row) for row in rows}) == 1
    assert {type(value) for row in rows for value in row.values()} <= {str, int, float, bool, type(None)}
    original, half, bad, longer, _ = rows
    assert half["test_accuracy"] == pytest.approx(np.mean(HALF["test_accuracy"]))
    assert half["change"] == pytest.approx(np.mean(HALF["test_accuracy"]) - 0.95)
    assert half["change_low"] < half["change"] < half["change_high"]
    assert (half["macs"], half["macs_ratio"], half["seeds"], half["epochs"]) == (500, 2.0, 3, 4)
    assert (half["significant"], bad["significant"], bad["better"]) == (False, True, False)
    assert [row["within_budget"] for row in (half, bad, longer)] == [True, False, False]
    assert (half["pareto"], longer["pareto"]) == (True, False)
    assert (original["change"], original["significant"], original["macs_ratio"]) == (None, None, None)


def test_planned_epochs_stand_in_where_nothing_was_noted() -> None:
    results = compared(ORIGINAL, {"half": HALF}, epochs={"half": 7})
    rows = [replace(made, notes={}) for made in results.rows]
    assert [row["epochs"] for row in Comparison.of(replace(results, rows=rows)).table()] == [None, 7]


def test_the_text_fits_and_tells_what_the_table_does_not() -> None:
    text = str(_comparison())
    assert max(map(len, text.splitlines())) <= WIDTH
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[:7]] == [
        "strategy", "original", "half", "bad", "controls:", "longer", "random-bad",
    ]  # fmt: skip
    assert re.search(r"^bad .* 62\.33 \[54\.\d\d, 70\.\d\d\] .*worse .*missed .*10x", text, re.MULTILINE)
    assert "95.00 [92.52, 97.48]" in lines[1]
    folded = " ".join(text.split())
    assert "'half' cannot be told apart from the original. With 3 seeds and 2 tests" in folded
    assert "'bad' cannot be told apart from its control 'random-bad'" in folded
    assert "'half' and 'bad' are worse than their control 'longer'" in folded


def test_many_and_long_names_fit() -> None:
    strategies = {f"{'long' * 20}-{number}": HALF for number in range(MOST_ROWS + 5)}
    text = str(Comparison.of(compared(ORIGINAL, strategies)))
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "and 6 more" in text, "the original is a row too"


@pytest.mark.parametrize(
    ("asked", "note"),
    [
        ({"seeds": (0,)}, "There is one seed"),
        ({"selecting": None, "drop": "validation_accuracy"}, "no validation metric"),
        ({"baseline": "gone"}, "there are no results of 'gone'"),
        ({"one": True}, "only the compression varied"),
        ({"failed": True}, "not a number in seed 1"),
    ],
)
def test_what_limits_the_numbers_is_said(asked: dict[str, Any], note: str) -> None:
    half: dict[str, Any] = dict(HALF)
    bad: dict[str, Any] = dict(BAD)
    original: dict[str, Any] = dict(ORIGINAL)
    if asked.pop("failed", False):
        half["test_accuracy"] = [0.9, math.nan, 0.9]
    one = asked.pop("one", False)
    if one:
        original["test_accuracy"] = 0.95
    if drop := asked.pop("drop", None):
        for own in (original, half, bad):
            del own[drop]
    results = compared(original, {"half": half, "bad": bad}, **asked)
    if one:
        rows = [replace(r, uses="init") if r.stage == "train" else r for r in results.rows]
        results = replace(results, rows=rows)
    assert sum(note in said for said in Comparison.of(results).notes) == 1
    if not asked.get("baseline"):
        assert not any(note in said for said in _comparison().notes)


def test_with_one_seed_two_models_are_compared_by_their_examples(tmp_path: Path) -> None:
    right = {"half/train": [True] * 9 + [False], "half/made": [True] * 2 + [False] * 7 + [True]}
    results = with_right(compared(ORIGINAL, {"half": HALF, "bad": BAD}, seeds=(0,)), tmp_path, right)
    told = " ".join(str(Comparison.of(results)).split())
    assert (
        "Of 10 test examples the original alone is right in 7, 'half' alone in 1 (McNemar's p = 0.07" in told
    )
    assert "about these two models and these examples only" in told
    assert "'bad' alone" not in told
    (tmp_path / "arrays" / "half-made.safetensors").unlink()
    assert "cannot be compared example by example" in " ".join(str(Comparison.of(results)).split())


def test_nothing_to_compare_is_said() -> None:
    empty = Comparison.of(Results("x", None, [], {}, {}, missing=["a/seed0/train"]))
    assert "nothing to compare" in str(empty)
    assert "1 of its models are missing" in str(empty)
    assert (empty.table(), empty.verdicts, text_plot(empty)) == ([], (), "")
    assert "nothing to compare" in empty._repr_html_()  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(CompressitError, match="nothing to draw"):
        empty.plot()


def test_a_notebook_shows_it_escaped() -> None:
    evil = "<script>alert(1)</script>"
    html = Comparison.of(compared(ORIGINAL, {evil: HALF, "a&b": BAD}))._repr_html_()  # pyright: ignore[reportPrivateUsage]
    assert "<script" not in html
    assert "&lt;script" in html
    assert "a&amp;b" in html
    assert html.count("<tr>") == html.count("</tr>") == 1 + 3


def test_a_terminal_is_shown_no_control_characters() -> None:
    comparison = Comparison.of(compared(ORIGINAL, {"\x1b[2Jgone": HALF, "b": BAD}))
    assert "\x1b" not in str(comparison) + text_plot(comparison)


def test_best_gives_a_name_or_prints_why_not(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = _comparison()
    assert comparison.best(max_drop=0.02, minimize="macs") == "half"
    assert comparison.best() == "half", "the budget's drop and cost"
    assert capsys.readouterr().out == ""
    assert comparison.best(max_drop=0.0001, minimize="macs") is None
    assert "loses at most" in capsys.readouterr().out


def test_the_picture_has_every_model_with_its_interval_and_hollow_controls() -> None:
    figure = _comparison().plot("parameters")
    (axes,) = figure.axes
    assert len(axes.containers) == 5
    shown: dict[str, Any] = {bars.get_label(): bars.lines for bars in axes.containers}
    line, _, (bar,) = shown["half"]
    mean = float(np.mean(HALF["test_accuracy"]))
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([25.0], [pytest.approx(mean)])
    low, high = bar.get_segments()[0][:, 1]
    assert (low + high) / 2 == pytest.approx(mean)
    faces = {name: lines[0].get_markerfacecolor() for name, lines in shown.items()}
    assert {name for name, face in faces.items() if face == "white"} == {"longer", "random-bad"}
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "parameters"
    bottom, top = axes.get_ylim()
    assert bottom < 0.6 < 0.96 < top


def test_the_text_plot_puts_models_where_they_belong() -> None:
    comparison = Comparison.of(
        compared(
            {"test_accuracy": 1.0, "macs": 100.0},
            {"low": {"test_accuracy": 0.0, "macs": 50.0}, "mid": {"test_accuracy": 0.5, "macs": 75.0}},
            seeds=(0,),
        )
    )
    lines = text_plot(comparison).splitlines()
    places = {
        letter: (x, y)
        for y, line in enumerate(lines[1:17])
        for x, letter in enumerate(line)
        if letter in "OAB"
    }
    assert (places["O"][1], places["A"][1]) == (0, 15)
    assert places["B"][1] in (7, 8)
    assert places["A"][0] < places["B"][0] < places["O"][0]
    assert 2 * places["B"][0] == pytest.approx(places["A"][0] + places["O"][0], abs=1)
    assert lines[-1] == "O original   A low   B mid"


def test_the_text_plot_keeps_equal_costs_apart_and_wide_intervals_in_bounds() -> None:
    draw = np.random.default_rng(0)
    own = {f"s{n}": {"test_accuracy": noisy(0.8, 2, draw, 0.1), "macs": 50.0} for n in range(30)}
    comparison = Comparison.of(compared({"test_accuracy": 0.9, "macs": 100.0}, own, seeds=(0, 1)))
    text = text_plot(comparison)
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    inside = "".join(line[13:] for line in lines[1:17])
    assert all(inside.count(letter) == 1 for letter in "OABCXYZ")
    assert inside.count("+") == 30 - 25


def test_models_are_loaded_when_asked_for(tmp_path: Path) -> None:
    lab = Lab(tmp_path / "lab")
    plan = lab.plan(SMALL)
    lab.run(plan)
    found = {key: lab.store.find(key) for key in plan.jobs}
    run = RunFolder(tmp_path / "run", plan, lab.host, "compressit run", print)
    run.finish({key: made for key, made in found.items() if made is not None}, [], complete=True)
    comparison = Comparison.of(Results.read_json(tmp_path / "run" / "results.json"), lab.host)
    assert list(comparison.models) == ["original", "a/prune", "b/prune"]
    pruned, same = comparison.models["a/prune"], comparison.model("a/prune", seed=3)
    zeros = [sum(float((p == 0).sum()) for p in net.parameters()) for net in (pruned, same)]
    assert zeros[0] == zeros[1] > 0
    assert comparison.models["original"] is not None
    assert "gone" not in comparison.models
    with pytest.raises(CompressitError, match="no strategy 'a/prun'") as error:
        comparison.models["a/prun"]
    assert "a/prune" in str(error.value.hint)
    with pytest.raises(CompressitError, match="has no seed 9"):
        comparison.model("a/prune", seed=9)
    (tmp_path / "run" / "checkpoints" / "a" / "seed3" / "prune.safetensors").unlink()
    with pytest.raises(CompressitError, match="is missing"):
        comparison.models["a/prune"]


def test_models_of_results_that_have_no_folder_cannot_be_loaded() -> None:
    rows = [row("a", "train", 0, {"test_accuracy": 0.9}), row("a", "half", 0, {"test_accuracy": 0.9})]
    comparison = Comparison.of(Results("x", None, rows, {}, {}))
    with pytest.raises(CompressitError, match="not read from one"):
        comparison.models["half"]


def test_the_page_is_one_file(tmp_path: Path) -> None:
    _comparison().report(tmp_path / "comparison.html")
    assert [path.name for path in tmp_path.iterdir()] == ["comparison.html"]
    page = (tmp_path / "comparison.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "random-bad" in page
