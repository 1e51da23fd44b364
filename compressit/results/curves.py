"""The page's own figures: one for each curve that evaluators log, with a line for each model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from compressit.contract.kinds import Report
from compressit.contract.results import Results, Row
from compressit.errors import sound
from compressit.results.tables import names

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

MOST_NAMED = 12  # lines in a legend
MOST_POINTS = 12_000  # of all curves, in the page
MOST_CURVES = 30  # in the page
MOST_PANELS = 6  # variants side by side, three in a row


class Curves(Report):
    """A figure of each curve that an evaluator declares; none for what no model has."""

    name = "report.curves"

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """By the curve's name: a panel for each variant."""
        found = {name: [row for row in results.rows if row.curves.get(name)] for name in drawn(results)}
        return {name: _figure(name, results.records[name], rows) for name, rows in found.items()}


def drawn(results: Results) -> list[str]:
    """The curves that evaluators declare and some model has."""
    kinds = {name for name, facts in results.records.items() if facts.get("kind") == "curve"}
    return [
        name
        for name in results.records
        if name in kinds and any(row.curves.get(name) for row in results.rows)
    ]


def lines(results: Results) -> list[dict[str, Any]]:
    """Every curve of every model, for the page to draw: first those that evaluators declare, then those of trainings,
    by name. Long ones are thinned evenly, with the first and the last point. Null stands for a number that is not
    finite."""
    declared = drawn(results)
    own = sorted({name for row in results.rows for name in row.curves} - results.records.keys())
    count = sum(len(points) for row in results.rows for points in row.curves.values())
    step = max(1, -(-count // MOST_POINTS))
    named = names(results)
    found: list[dict[str, Any]] = []
    for name in [*declared, *own][:MOST_CURVES]:
        facts = results.records.get(name, {})
        found.append(
            {
                "label": sound(name.replace("_", " "), 160),
                "x": sound(str(facts.get("x") or "step"), 160),
                "y": sound(str(facts.get("y") or name.replace("_", " ")), 160),
                "about": sound(str(facts.get("about") or ""), 300),
                "lines": [
                    {
                        "name": model,
                        "group": sound(row.variant, 160),
                        "points": _thinned(row.curves[name], step),
                    }
                    for row, model in zip(results.rows, named, strict=True)
                    if row.curves.get(name)
                ],
            }
        )
    return found


def _thinned(points: Sequence[tuple[float, float]], step: int) -> list[list[float | None]]:
    last = len(points) - 1
    kept = [point for place, point in enumerate(points) if place % step == 0 or place == last]
    return [[x if math.isfinite(x) else None, y if math.isfinite(y) else None] for x, y in kept]


def _figure(name: str, facts: Mapping[str, Any], rows: Sequence[Row]) -> Figure:
    from matplotlib.figure import Figure

    variants = list(dict.fromkeys(row.variant for row in rows))
    shown = variants[:MOST_PANELS]
    across = min(3, len(shown))
    down = -(-len(shown) // across)
    figure = Figure((2.0 + max(5.0, 3.4 * across), 3.6 * down), layout="constrained")
    panels = list(figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat)
    colors = _colors(list(dict.fromkeys(row.name for row in rows)))
    lines: dict[str, Line2D] = {}
    for axes, variant in zip(panels, shown, strict=False):
        for row in (row for row in rows if row.variant == variant):
            lines.setdefault(row.name, _line(axes, row.curves[name], colors[row.name]))
        axes.set_title(variant if len(variants) > 1 else "", fontsize="medium")
        axes.grid(alpha=0.25)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    named = _evenly(list(lines))
    title = f"{len(named)} of {len(lines)} models" if len(named) < len(lines) else None
    figure.legend(
        [lines[model] for model in named], named, loc="outside right upper",
        fontsize="small", title=title, title_fontsize="small",
    )  # fmt: skip
    figure.supxlabel(str(facts.get("x") or ""), fontsize="medium")
    figure.supylabel(str(facts.get("y") or ""), fontsize="medium")
    left_out = (
        f" Of {len(variants)} variants, the first {MOST_PANELS}." if len(variants) > MOST_PANELS else ""
    )
    figure.set_label(f"{name.replace('_', ' ')}: {facts.get('about') or 'of every model'}.{left_out}")
    return figure


def _line(axes: Axes, points: Sequence[tuple[float, float]], color: Any) -> Line2D:
    marker = "." if len(points) <= 30 else ""
    (line,) = axes.plot(*zip(*points, strict=True), color=color, linewidth=1.2, marker=marker)
    return line


def _colors(models: Sequence[str]) -> dict[str, Any]:
    """From dark to bright in the order of the rows, so that rounds can be followed; seeds and variants share them."""
    from matplotlib import colormaps

    shades = colormaps["viridis"]
    return {model: shades(0.9 * place / max(1, len(models) - 1)) for place, model in enumerate(models)}


def _evenly(models: Sequence[str]) -> list[str]:
    """At most MOST_NAMED, evenly chosen, with the first and the last."""
    last = len(models) - 1
    if last < MOST_NAMED:
        return list(models)
    return [models[round(i * last / (MOST_NAMED - 1))] for i in range(MOST_NAMED)]
