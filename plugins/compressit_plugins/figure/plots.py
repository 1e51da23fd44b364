"""Draws the panels of `report.figure`. Uses only matplotlib's object-oriented API: no pyplot, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread

from compressit import CompressitError, Row
from compressit_plugins.figure.options import FigureConfig, Plot, Take, written
from compressit_plugins.figure.readings import Readings, plain

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
MOST_COLUMNS = 3
MOST_PICTURES = 8  # of one panel
MOST_SERIES = 12  # with a name in the legend
GREY = "#6b7280"


def drawn(config: FigureConfig, readings: Readings) -> Figure | None:
    """The figure, without panels that have nothing to show; None if there are none."""
    shown = [plot for plot in config.plots if _has(plot, readings)]
    if not shown:
        return None
    columns = min(MOST_COLUMNS, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(1.2 + 4.4 * columns, 3.6 * lines + 0.3), layout="constrained")
    figure.set_label(config.caption or config.title or "A figure of this run.")
    if config.title:
        figure.suptitle(config.title, fontsize=11)
    panels = figure.subfigures(lines, columns, squeeze=False).flat
    for plot, panel in zip(shown, panels, strict=False):
        if plot.picture is not None:
            _pictures(panel, plot, plot.picture, readings)
        else:
            _panel(panel.subplots(), plot, readings)
    return figure


def _has(plot: Plot, readings: Readings) -> bool:
    rows = readings.rows(plot.of)
    if plot.picture is not None:
        return any(plot.picture in row.pictures for row in rows)
    if plot.curve:
        return any(row.curves.get(name) for row in rows for name in plot.curve)
    return bool(_dots(plot, rows, readings))


def _panel(axes: Axes, plot: Plot, readings: Readings) -> None:
    groups = _groups(plot.by, readings.rows(plot.of), readings) if plot.colour is None else {}
    for number, (name, rows) in enumerate(groups.items()):
        looks: dict[str, Any] = {"color": f"C{number % 10}", "marker": MARKERS[number % len(MARKERS)]}
        label = name if len(groups) > 1 and number < MOST_SERIES else None
        if plot.curve:
            _lines(axes, plot, rows, label, looks["color"], [*groups], readings)
        else:
            _series(axes, _dots(plot, rows, readings), label, looks)
    if plot.colour is not None:
        _coloured(axes, plot, plot.colour, readings)
    for number, (name, points) in enumerate(plot.published.items()):
        style = ("--", ":", "-.")[number % 3]
        axes.plot(*zip(*points, strict=True), style, marker="x", color=GREY, markersize=5, label=name)
    for value in plot.lines:
        axes.axhline(value, color=GREY, linewidth=0.8, linestyle=":")
    x, y = plot.labels or _named(plot, readings)
    axes.set(xlabel=x, ylabel=y, title=plot.title)
    if "x" in plot.log:
        axes.set_xscale("log")
    if "y" in plot.log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)


def _named(plot: Plot, readings: Readings) -> tuple[str, str]:
    """The names of the axes where the recipe gives none."""
    if plot.x is not None and plot.y is not None:
        return written(plot.x), written(plot.y)
    known = [readings.results.records.get(name, {}) for name in plot.curve]
    x = next((str(record["x"]) for record in known if "x" in record), "optimizer steps")
    return x, ", ".join(name.replace("_", " ") for name in plot.curve)


def _groups(by: str, rows: Sequence[Row], readings: Readings) -> Mapping[str, Sequence[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        value = getattr(row, by) if by in ("variant", "stage", "member", "seed") else readings.value(row, by)
        number = plain(value)
        name = "" if value is None else str(value) if number is None else f"{number:g}"
        found.setdefault(name, []).append(row)
    return found


def _dots(plot: Plot, rows: Sequence[Row], readings: Readings) -> list[tuple[float, float]]:
    assert plot.x is not None, "the options refuse such a plot"
    assert plot.y is not None
    pairs = [(readings.number(row, plot.x), readings.number(row, plot.y)) for row in rows]
    return sorted(
        (x, y) for x, y in pairs if x is not None and y is not None and math.isfinite(x) and math.isfinite(y)
    )


def _series(
    axes: Axes, dots: Sequence[tuple[float, float]], label: str | None, looks: Mapping[str, Any]
) -> None:
    """A dot for each model, and a line through the mean of each x."""
    if not dots:
        return
    at: dict[float, list[float]] = {}
    for x, y in dots:
        at.setdefault(x, []).append(y)
    axes.plot(*zip(*dots, strict=True), linestyle="", alpha=0.4, markersize=4, **looks)
    axes.plot(list(at), [fmean(values) for values in at.values()], markersize=5, label=label, **looks)


def _coloured(axes: Axes, plot: Plot, colour: Take, readings: Readings) -> None:
    """A square for each place, with the mean of its models as its colour."""
    at: dict[tuple[float, float], list[float]] = {}
    for row in readings.rows(plot.of):
        value = readings.number(row, colour)
        for place in _dots(plot, [row], readings):
            if value is not None and math.isfinite(value):
                at.setdefault(place, []).append(value)
    if at:
        x, y = zip(*at, strict=True)
        made = axes.scatter(x, y, c=[fmean(values) for values in at.values()], marker="s", s=90)
        axes.figure.colorbar(made, ax=axes, label=written(colour))


def _lines(
    axes: Axes,
    plot: Plot,
    rows: Sequence[Row],
    label: str | None,
    colour: str,
    groups: Sequence[str],
    readings: Readings,
) -> None:
    """The curves of each model; those of several names differ in their dashes."""
    named = len(plot.curve) > 1
    for number, name in enumerate(plot.curve):
        style = ("-", "--", ":", "-.")[number % 4]
        words = name.replace("_", " ")
        told = (f"{label}, {words}" if label else words) if named else label
        for row in rows:
            points = [(x, y) for x, y in row.curves.get(name) or () if math.isfinite(y)]
            if points:
                axes.plot(
                    *zip(*points, strict=True), style, color=colour, linewidth=1.2, alpha=0.85, label=told
                )
                told = None  # of several seeds, one is named


def _pictures(panel: Any, plot: Plot, name: str, readings: Readings) -> None:
    """The picture of each model, one below the other."""
    rows = [row for row in readings.rows(plot.of) if name in row.pictures][:MOST_PICTURES]
    for row, axes in zip(rows, panel.subplots(len(rows), 1, squeeze=False).flat, strict=True):
        axes.set_axis_off()
        axes.set_title(f"{row.variant} {row.name}" if len(rows) > 1 else plot.title, fontsize=9)
        try:
            axes.imshow(imread(io.BytesIO(readings.results.picture(row, name)), format="png"))
        except CompressitError as error:  # its file is missing from the run folder
            axes.text(0.5, 0.5, str(error), ha="center", va="center", fontsize=8, wrap=True)
