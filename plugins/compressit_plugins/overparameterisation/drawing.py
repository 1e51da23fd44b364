"""The figure of `report.overparameterisation`."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from compressit_plugins.overparameterisation.nets import Net

LOOKS = {
    "ResNet": ("o", "#0072b2"),
    "DenseNet": ("s", "#e69f00"),
    "Inception": ("^", "#7b3294"),
    "EfficientNet": ("v", "#1a9641"),
    "searched": ("P", "#d7191c"),
}
"""Marker and colour of each family of published nets; a marker each, for readers who cannot tell colours apart."""


def drawn(published: Sequence[Net], here: Sequence[Net], least: float, most: float) -> Figure:
    """Accuracy against parameters per training example, on a logarithmic axis."""
    figure = Figure(figsize=(8, 4.8), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.axvspan(least, most, color="#e6e8eb", zorder=0, label=f"{least:g} to {most:g} times")
    for family, (marker, color) in LOOKS.items():
        _scatter(axes, [net for net in published if net.family == family], family, marker, color)
    if here:
        _scatter(axes, here, "this run, on its own data", "D", "black")
    axes.set(xscale="log", xlabel="parameters per training example", ylabel="test accuracy (top-1)")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(color="#e6e8eb", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right upper", fontsize=9, frameon=False)
    figure.set_label(
        "Published nets for ImageNet, by the family they come from: most have many more parameters than training "
        "examples. Numbers of table 2 of Tan & Le 2019."
        + (" Diamonds: the models of this run, on their own training and test data." if here else "")
    )
    return figure


def _scatter(axes: Axes, nets: Sequence[Net], label: str, marker: str, color: str) -> None:
    ratios, accuracies = [net.ratio for net in nets], [net.accuracy for net in nets]
    axes.scatter(ratios, accuracies, marker=marker, color=color, s=28, label=label)
