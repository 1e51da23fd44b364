"""report.figure: numbers of rows and curves, and published statements beside them."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import pytest
from matplotlib.figure import Figure
from pydantic import ValidationError
from scipy.stats import spearmanr

from compressit import Results, Row, parse
from compressit_plugins.figure.options import FigureConfig
from compressit_plugins.figure.report import FigureReport

CURVES = {"fast": [(1, 0.5), (10, 0.99), (20, 1.0)], "slow": [(1, 0.1), (10, 0.5), (40, 0.99)]}
SCORES = {("fast", 0): 0.9, ("fast", 1): 0.8, ("slow", 0): 0.7, ("slow", 1): 0.85}


def row(variant: str, seed: int, stage: str = "train", **fields: Any) -> Row:
    metrics = {"test_accuracy": SCORES[variant, seed]}
    values: dict[str, Any] = {"round": None, "member": "", "uses": "train.supervised", "teacher": None}
    values |= {"metrics": metrics, "notes": {"steps": 5}, "curves": {"accuracy": CURVES[variant]}}
    return Row(variant=variant, stage=stage, seed=seed, **(values | fields))


ROWS = [row(variant, seed) for variant, seed in SCORES]


def told(check: dict[str, Any], rows: Sequence[Row] = ROWS) -> tuple[str, str]:
    """The verdict of a check, and what it found here."""
    report = FigureReport(parse(FigureConfig, {"checks": [{"what": "it", **check}]}))
    (table,) = report.tables(Results("made", None, rows, {}, {}))
    named = dict(zip(table.head, table.rows[0], strict=True))
    return named["verdict"], named["here"]


def test_a_mean_over_seeds_is_compared_with_both_bounds() -> None:
    check = {"take": "test_accuracy", "of": {"variant": "fast"}}
    assert told({**check, "within": [0.84, 0.86]})[0] == "within"
    assert told({**check, "within": [0.86, None]})[0] == "misses"
    assert told({**check, "within": [None, 0.84]})[0] == "misses"
    assert "0.85" in told({**check, "within": [None, 0.84]})[1]


def test_ratios_and_differences_name_other_rows_or_another_number() -> None:
    fast = {"of": {"variant": "fast"}, "take": "test_accuracy"}
    assert told({**fast, "over": {"variant": "slow"}, "within": [1.09, 1.10]})[0] == "within"  # .85 / .775
    assert told({**fast, "minus": {"variant": "slow"}, "within": [0.07, 0.08]})[0] == "within"
    assert told({**fast, "over": {"take": "steps"}, "within": [0.16, 0.18]})[0] == "within"  # .85 / 5


def test_a_curve_is_read_where_it_first_gets_there() -> None:
    steps = {"take": {"curve": "accuracy", "reaches": 0.99}}
    assert told({**steps, "of": {"variant": "fast"}, "within": [10, 10]})[0] == "within"
    assert told({**steps, "of": {"variant": "slow"}, "within": [40, 40]})[0] == "within"
    at = {"take": {"curve": "accuracy", "at": 12}, "of": {"variant": "slow"}}
    assert told({**at, "within": [0.5, 0.5]})[0] == "within"


def test_what_is_never_reached_is_a_miss_not_a_pass() -> None:
    never = {"take": {"curve": "accuracy", "reaches": 2.0}, "of": {"variant": "slow"}}
    assert told({**never, "within": [5, None]}) == ("misses", "never (never, never)")
    lag = {**never, "over": {"take": {"curve": "accuracy", "reaches": 0.5}}, "within": [5, None]}
    assert told(lag)[0] == "misses"
    assert told({**never, "order": [{"variant": "fast"}, {"variant": "slow"}]})[0] == "misses"


def test_an_order_needs_its_gap_and_tells_in_how_many_seeds_it_holds() -> None:
    order = {"take": "test_accuracy", "order": [{"variant": "slow"}, {"variant": "fast"}]}
    verdict, here = told(order)  # .775 -> .85: by 9.7 %
    assert verdict == "within"
    assert "1 of 2" in here
    assert told({**order, "gap": 0.09})[0] == "within"
    assert told({**order, "gap": 0.1})[0] == "misses"


def test_a_rank_correlation_is_that_of_scipy() -> None:
    x = [0.1, 0.4, 0.2, 0.9, 0.3]
    y = [1.0, 0.2, 0.7, 0.1, 0.9]
    rows = [
        row("fast", 0, options={"optimizer": {"lr": a}}, metrics={"test_accuracy": b})
        for a, b in zip(x, y, strict=True)
    ]
    expected = spearmanr(x, y).statistic
    check = {"correlate": ["with.optimizer.lr", "test_accuracy"]}
    assert told({**check, "within": [expected - 1e-9, expected + 1e-9]}, rows)[0] == "within"
    assert told({**check, "within": [0, 1]}, rows)[0] == "misses"


def test_a_quotient_of_two_options_is_a_number_too() -> None:
    options = {"batch_size": 32, "optimizer": {"lr": 0.5}}
    check = {"take": "with.batch_size / with.optimizer.lr", "within": [64, 64]}
    assert told(check, [row("fast", 0, options=options)])[0] == "within"


def test_options_of_the_stage_before_count_where_a_model_has_none_of_that_name() -> None:
    before = row("fast", 0, options={"sparsity": 0.5}, member="sparsity=0.5")
    after = row("fast", 0, "tune", parent="train@sparsity=0.5", member="sparsity=0.5")
    check = {"take": "with.sparsity", "of": {"stage": "tune"}, "within": [0.5, 0.5]}
    assert told(check, [before, after])[0] == "within"


def test_a_share_counts_the_models_between_two_bounds() -> None:
    check = {"take": "test_accuracy", "share": [0.8, None]}
    assert told({**check, "within": [0.75, 0.75]}) == ("within", "0.75 (3 of 4)")


@pytest.mark.parametrize("rows", [[], [row("fast", 0, metrics={}, curves={})]])
@pytest.mark.parametrize(
    "check",
    [
        {"take": "test_accuracy", "within": [0, 1]},
        {"take": {"curve": "accuracy", "reaches": 0.5}, "within": [0, 100]},
        {"take": "test_accuracy", "order": [{"variant": "slow"}, {"variant": "fast"}]},
        {"correlate": ["steps", "test_accuracy"], "within": [-1, 1]},
        {"take": "test_accuracy", "over": {"variant": "slow"}, "within": [0, 9]},
    ],
)
def test_a_run_without_the_numbers_has_not_measured_it(rows: list[Row], check: dict[str, Any]) -> None:
    assert told(check, rows)[0] == "not measured"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"checks": [{"what": "it", "take": "a"}]},
        {"checks": [{"what": "it", "within": [0, 1]}]},
        {"checks": [{"what": "it", "take": "a", "within": [2, 1]}]},
        {"checks": [{"what": "it", "take": "a", "within": [None, None]}]},
        {"checks": [{"what": "it", "take": "a", "over": {}, "minus": {}, "within": [0, 1]}]},
        {"checks": [{"what": "it", "take": "a", "order": [{"variant": "x"}]}]},
        {"checks": [{"what": "it", "take": {"curve": "a"}, "within": [0, 1]}]},
        {"checks": [{"what": "it", "take": {"curve": "a", "reaches": 1, "at": 2}, "within": [0, 1]}]},
        {"plots": [{"x": "a"}]},
        {"plots": [{"x": "a", "y": "b", "curve": ["c"]}]},
        {"plots": [{"curve": ["c"], "colour": "a"}]},
    ],
)
def test_options_that_say_nothing_or_two_things_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        parse(FigureConfig, options)


def drawing(*plots: dict[str, Any]) -> Figure:
    report = FigureReport(parse(FigureConfig, {"plots": list(plots)}))
    figures = report.figures(Results("made", None, ROWS, {}, {}))
    figures["figure"].savefig(io.BytesIO(), format="png")
    return figures["figure"]


def test_dots_are_the_models_and_a_line_joins_their_means() -> None:
    figure = drawing({"x": "steps", "y": "test_accuracy", "published": {"Someone 2000": [[5, 0.5]]}})
    (axes,) = figure.axes
    drawn = sorted(tuple(point) for line in axes.lines for point in line.get_xydata().tolist())
    heights = [0.5, 0.7, 0.775, 0.8, 0.85, 0.85, 0.9]  # published, four models and two means
    assert drawn == [(5.0, pytest.approx(height)) for height in heights]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["fast", "slow", "Someone 2000"]


def test_curves_are_drawn_as_they_are_and_one_seed_is_named() -> None:
    figure = drawing({"curve": ["accuracy"], "log": "x"})
    (axes,) = figure.axes
    assert len(axes.lines) == 4
    assert axes.get_xscale() == "log"
    assert [*map(tuple, axes.lines[0].get_xydata().tolist())] == CURVES["fast"]
    assert len(axes.get_legend().get_texts()) == 2


def test_a_colour_is_the_mean_of_the_models_of_a_place() -> None:
    figure = drawing({"x": "steps", "y": "steps", "colour": "test_accuracy"})
    (colours,) = (collection.get_array() for collection in figure.axes[0].collections)
    assert colours is not None
    assert colours.tolist() == [pytest.approx(sum(SCORES.values()) / 4)]


def test_panels_without_numbers_are_left_out() -> None:
    figure = drawing({"x": "nothing", "y": "test_accuracy"}, {"curve": ["accuracy"]}, {"picture": "none"})
    assert len(figure.axes) == 1
    report = FigureReport(parse(FigureConfig, {"plots": [{"curve": ["none"]}]}))
    assert report.figures(Results("made", None, ROWS, {}, {})) == {}


def test_values_that_are_not_finite_are_no_points() -> None:
    rows = [row("fast", 0, metrics={"test_accuracy": math.nan})]
    assert told({"take": "test_accuracy", "within": [0, 1]}, rows)[0] == "not measured"
