"""The picture of a comparison: a metric against a cost, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compressit.errors import CompressitError
from compressit.results.analysis import Analysis
from compressit.results.entries import ORIGINAL, Entry
from compressit.results.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#5c4b8a",
    "#666666",
)  # Okabe & Ito
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
QUIET = "#666666"
BESIDE = 9  # points (1/72 inch)
MOST_NAMED = 16  # in the legend


def scatter(analysis: Analysis, cost: str | None = None, metric: str | None = None) -> Figure:
    """One marker per operating point at its means over seeds, with the 95 % interval of the metric: filled for
    strategies, hollow for controls, a line for the original. Raises CompressitError if there is nothing to draw."""
    from matplotlib.figure import Figure

    paid = analysis.cost_named(cost) if cost else analysis.main_cost
    score = metric or analysis.metric
    if paid is None or score is None:
        raise CompressitError(
            "there is nothing to draw: no cost or no metric was measured", "evaluate the models"
        )
    figure = Figure(figsize=(8.0, 4.8), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.grid(color="#e6e8eb", linewidth=0.6)
    names = list(dict.fromkeys(entry.strategy for entry in analysis.entries))
    looks = {name: (COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(names)}
    labelled: set[str] = set()
    beside: dict[float, int] = {}
    for entry in (*analysis.originals, *analysis.entries):
        x, y = analysis.estimate(entry, paid), analysis.estimate(entry, score)
        if x is not None and y is not None:
            name = ORIGINAL if entry.control == ORIGINAL else entry.strategy
            label = name if name not in labelled and len(labelled) < MOST_NAMED else "_"
            labelled.add(name)
            color, marker = looks.get(name, ("black", "d"))
            place = beside[x.mean] = beside.get(x.mean, -1) + 1
            look = {"color": color, "marker": marker, "label": label}
            _point(axes, entry, (x.mean, y), look | {"transform": _moved(axes, place)})
    if _wide(analysis, paid):
        axes.set_xscale("log")
    axes.margins(x=0.1)  # room for what stands beside
    axes.autoscale_view()
    axes.set_xlabel(_titled(analysis, paid))
    axes.set_ylabel(_titled(analysis, score))
    if labelled:
        figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    figure.set_label(
        f"{score} against {paid}: means over seeds with 95 % intervals. Controls are hollow. "
        "Models of equal cost stand side by side."
    )
    return figure


def _point(axes: Axes, entry: Entry, at: tuple[float, Estimate], look: dict[str, Any]) -> None:
    x, y = at
    spread = None if y.low is None or y.high is None else [[y.mean - y.low], [y.high - y.mean]]
    axes.update_datalim([(x, value) for value in (y.mean, y.low, y.high) if value is not None])
    hollow = entry.control not in ("", ORIGINAL)
    axes.errorbar(
        [x],
        [y.mean],
        yerr=spread,
        linestyle="none",
        capsize=3,
        elinewidth=1,
        markersize=7,
        markerfacecolor="white" if hollow else look["color"],
        **look,
    )


def _moved(axes: Axes, place: int) -> Any:
    """Points of equal cost stand side by side."""
    from matplotlib.transforms import ScaledTranslation

    return axes.transData + ScaledTranslation(place * BESIDE / 72, 0, axes.figure.dpi_scale_trans)


def _wide(analysis: Analysis, cost: str) -> bool:
    """Whether a cost spans a factor of ten or more."""
    entries = (*analysis.originals, *analysis.entries)
    found = [mean.mean for entry in entries if (mean := analysis.estimate(entry, cost)) is not None]
    return bool(found) and min(found) > 0 and max(found) >= 10 * min(found)


def _titled(analysis: Analysis, column: str) -> str:
    unit = analysis.results.metrics.get(column, {}).get("unit", "")
    return f"{column} ({unit})" if unit not in ("", "count") else column
