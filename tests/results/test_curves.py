"""The page's own figures of evaluators' curves."""

from __future__ import annotations

import math
from typing import Any

from compressit.config import NoOptions
from compressit.contract.results import Results, Row
from compressit.results.curves import MOST_NAMED, MOST_PANELS, Curves, drawn

RECORDS = {
    "path": {"kind": "curve", "x": "share of the way", "y": "loss (nats)", "about": "between two models"},
    "never": {"kind": "curve", "x": "x", "y": "y", "about": ""},
    "map": {"kind": "picture", "about": ""},
}


def _row(variant: str, stage: str, seed: int, **curves: Any) -> Row:
    return Row(variant, stage, None, "", seed, "tiny.train", None, {}, {}, curves)


def _results(*rows: Row) -> Results:
    return Results("x", None, rows, {}, {}, records=RECORDS)


def _lines(axes: Any) -> list[tuple[list[float], list[float]]]:
    return [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]


def test_a_line_for_every_model_in_a_panel_for_every_variant() -> None:
    points = [(0.0, 3.0), (0.5, math.nan), (1.0, 1.0)]
    rows = [_row("real", "train", seed, path=points, loss=[(1.0, 2.0)]) for seed in (0, 1)]
    rows += [_row("fake", "train", 0, path=points[:2]), _row("fake", "prune", 0, loss=[(1.0, 2.0)])]
    figures = Curves(NoOptions()).figures(_results(*rows))
    assert list(figures) == ["path"], "no figure of a stage's own curve, or of one that no model has"
    real, fake = figures["path"].axes
    assert [x for x, _ in _lines(real)] == [[0.0, 0.5, 1.0]] * 2
    assert _lines(real)[0][1][::2] == [3.0, 1.0]
    assert [x for x, _ in _lines(fake)] == [[0.0, 0.5]]
    assert {line.get_color() for axes in (real, fake) for line in axes.lines} == {real.lines[0].get_color()}
    assert figures["path"].get_supxlabel() == "share of the way"
    assert figures["path"].get_supylabel() == "loss (nats)"
    assert "between two models" in str(figures["path"].get_label())


def test_many_models_are_drawn_and_some_are_named() -> None:
    rows = [_row("real", f"s{number}", 0, path=[(0.0, float(number))]) for number in range(50)]
    (figure,) = Curves(NoOptions()).figures(_results(*rows)).values()
    assert len(figure.axes[0].lines) == 50
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(named) == MOST_NAMED
    assert (named[0], named[-1]) == ("s0", "s49")


def test_of_many_variants_the_caption_says_how_many_are_shown() -> None:
    rows = [_row(f"v{number}", "train", 0, path=[(0.0, 1.0)]) for number in range(MOST_PANELS + 3)]
    (figure,) = Curves(NoOptions()).figures(_results(*rows)).values()
    assert len([axes for axes in figure.axes if axes.lines]) == MOST_PANELS
    assert f"Of {MOST_PANELS + 3} variants" in str(figure.get_label())


def test_nothing_is_drawn_where_no_model_has_a_curve() -> None:
    assert drawn(_results(_row("real", "train", 0, loss=[(1.0, 2.0)]))) == []
    assert drawn(_results(_row("real", "train", 0, path=[]))) == []
