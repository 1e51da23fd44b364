"""What the figures of `report.twins` share: grids, lines, axes, legends.

Matplotlib's object-oriented API alone: no pyplot, no global state. The colours are the blog's: real labels
green, random labels red; markers and dashes say the same for those who cannot tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from compressit_plugins.reports.twins_rows import Line, Twins

REAL, FAKE, QUIET = "#1a9641", "#d7191c", "#8a8f98"

Sharing = bool | Literal["row"]


def grid(
    rows: int, columns: int, size: tuple[float, float], sharex: Sharing = False, sharey: Sharing = False
) -> tuple[Figure, Any]:
    """A figure with rows x columns empty panels (an object array of Axes), each of that size in inches."""
    figure = Figure(
        figsize=(columns * size[0], rows * size[1] + 0.7), layout="constrained", facecolor="white"
    )
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    for panel in axes.flat:
        panel.tick_params(labelsize=8)
        panel.grid(color="#e6e8eb", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw(
    panel: Axes,
    twins: Twins,
    variant: str,
    line: Line,
    *,
    markers: bool = True,
    style: str | None = None,
    alpha: float = 1.0,
    size: float = 4.0,
) -> None:
    """One variant's line in its colour, marker and dashes, with a band of ± one standard deviation."""
    real = variant == twins.real
    panel.plot(
        line[0],
        line[1],
        color=color_of(twins, variant),
        linestyle=style or ("-" if real else "--"),
        marker=("o" if real else "s") if markers else "",
        markersize=size,
        linewidth=1.5,
        alpha=alpha,
    )
    band(panel, line, color_of(twins, variant))


def band(panel: Axes, line: Line, color: str) -> None:
    """Mean ± standard deviation, where there are several seeds."""
    if any(line[2]):
        low, high = np.subtract(line[1], line[2]), np.add(line[1], line[2])
        panel.fill_between(line[0], low, high, color=color, alpha=0.18, linewidth=0)


def level(panel: Axes, value: float) -> None:
    """A dotted grey line: what guessing reaches."""
    panel.axhline(value, color=QUIET, linestyle=":", linewidth=1.2)


def size_axis(panel: Axes, powers_of_two: bool = False) -> None:
    """A logarithmic axis from large to small."""
    panel.set_xscale("log")
    if powers_of_two:
        panel.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(15)]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    if not panel.xaxis_inverted():  # panels that share an axis are turned once
        panel.invert_xaxis()


def fraction_axis(panel: Axes) -> None:
    """0 to 1, printed as percent."""
    panel.set_ylim(-0.02, 1.04)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def decades_axis(panel: Axes) -> None:
    """A logarithmic y axis labelled at 1 and 3 of each decade; minor ticks would cost seconds."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def step_axis(panel: Axes) -> None:
    """Thousands as `2k`."""
    panel.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}")
    )


def handles(twins: Twins, markers: bool = True) -> list[Line2D]:
    """Legend entries of the two variants."""
    return [
        Line2D(
            [],
            [],
            color=REAL,
            linestyle="-",
            marker="o" if markers else "",
            markersize=4,
            label=plain(twins.real),
        ),
        Line2D(
            [],
            [],
            color=FAKE,
            linestyle="--",
            marker="s" if markers else "",
            markersize=4,
            label=plain(twins.fake),
        ),
    ]


def legend(figure: Figure, entries: Sequence[Line2D]) -> None:
    """One legend above all panels."""
    columns = len(entries) if len(entries) <= 6 else -(-len(entries) // 2)
    figure.legend(handles=list(entries), loc="outside upper center", ncols=columns, fontsize=9, frameon=False)


def color_of(twins: Twins, variant: str) -> str:
    """Green for real, red for fake."""
    return REAL if variant == twins.real else FAKE


def plain(text: str) -> str:
    """Names are not formulas."""
    return text.replace("$", r"\$")
