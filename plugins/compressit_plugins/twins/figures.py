"""Figures of `report.twins`, each made from rows and curves; None if the run has no numbers for it.

Uses only matplotlib's object-oriented API: no pyplot, no global state. Colours as in the blog post: real labels green,
random labels red. Markers and dashes differ too, for readers who cannot tell the colours apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from compressit_plugins.twins.rows import Line, Pair, Point, Twins, series

REAL, FAKE, QUIET = "#1a9641", "#d7191c", "#8a8f98"
FAMILIES = ("#0072b2", "#e69f00", "#7b3294", "#56b4e9", "#5c4033", "#d6619e")  # neither green nor red
MARKERS = ("o", "s", "^", "D", "v", "P")
ACCURACIES = {"train_accuracy": "training labels\nit was given", "test_accuracy": "test set"}

Sharing = bool | Literal["row"]


def figures(twins: Twins) -> dict[str, Figure]:
    """All figures that this run has numbers for, by name, in the order of the page."""
    losses = {f"training_loss_{stage}": _training_loss(twins, stage) for stage in twins.repeated()}
    drawn = {
        **{re.sub(r"[^\w.-]+", "_", name): figure for name, figure in losses.items()},
        "accuracy_against_width": _accuracy_against_width(twins),
        "label_entropy": _label_entropy(twins),
        "retention_against_noise": _retention_against_noise(twins),
        "strategies": _strategies(twins),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def _training_loss(twins: Twins, stage: str) -> Figure | None:
    """Training loss against minibatch step, one panel per round. The first panel shows the twins themselves."""
    pairs = twins.pairs(stage)
    if not any(point and point.curve("loss")[0] for pair in pairs for point in pair):
        return None
    rounds = [twins.teachers(), *pairs]
    columns = min(6 if len(rounds) > 10 else 4, len(rounds))
    figure, axes = _grid(-(-len(rounds) // columns), columns, (10.0 / columns, 2.1 if columns < 6 else 1.75))
    # The loss of matching logits has another unit than cross-entropy and spans decades: use a logarithmic axis.
    logits = twins.noise(stage).get("labels") == "logits"
    for number, (pair, panel) in enumerate(zip(rounds, axes.flat, strict=False)):
        if number > 0:
            panel.sharey(axes.flat[1] if logits else axes.flat[0])
            panel.sharex(axes.flat[1])  # the twins have their own number of steps
        for variant, point in zip(twins.variants, pair, strict=True):
            if point is not None:
                _plot(panel, point.curve("loss"), **{**_looks(twins, variant), "marker": ""})
        panel.set_title(_title(pair, number), fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        panel.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}")
        )
        if logits and number > 0:
            _decades(panel)
        panel.tick_params(
            labelleft=number % columns == 0 or (logits and number == 1),
            labelbottom=number == 0 or number + columns >= len(rounds),
        )
    for panel in axes.flat[len(rounds) :]:
        panel.set_visible(False)
    figure.supylabel("training loss", fontsize=10)
    unit = (
        " The twins' loss is cross-entropy. The rounds match logits, so their loss has another unit and axis."
        if logits
        else ""
    )
    return _finished(
        figure,
        twins,
        "minibatch step",
        [_entry(v, **{**_looks(twins, v), "marker": ""}) for v in twins.variants],
        f"Training loss of each round of {twins.described(stage)}, on the round's own training inputs. A low loss on "
        f"noise does not show that the original task was kept.{unit}",
    )


def _accuracy_against_width(twins: Twins) -> Figure | None:
    """Training accuracy, test accuracy and agreement on unseen noise against width. One column per stage."""
    figure, panels = _against_width(
        twins, {**ACCURACIES, "noise_agreement": "teacher's label\non unseen noise"}
    )
    for metric, stage, panel in panels:
        _fractions(panel, None if metric == "noise_agreement" else twins.chance())
        for variant, twin in zip(twins.variants, twins.teachers(), strict=True):
            color = _looks(twins, variant)["color"]
            _diamond(panel, twin, metric, "width", color)
            if metric == "noise_agreement":
                constant = series(twins.points(variant, stage), "noise_majority", "width")
                _plot(panel, constant, color=color, linestyle=":")
    return figure and _finished(
        figure,
        twins,
        "width of the hidden layers",
        [_entry(v, markersize=4, **_looks(twins, v)) for v in twins.variants],
        "What is left at each width: accuracy on the original training images with the labels of the variant, accuracy "
        "on the test set, and agreement with the teacher on unseen noise. "
        "Dotted: chance; for noise, the share of the teacher's most frequent label, which a constant output reaches. "
        "Diamonds: the twins themselves.",
    )


def _label_entropy(twins: Twins) -> Figure | None:
    """Entropy of the teachers' labels on noise, and share of the most frequent one, against width."""
    texts = {"noise_entropy_bits": "entropy (bits)", "noise_majority": "share of the most\nfrequent label"}
    figure, panels = _against_width(twins, texts)
    most = -math.log2(twins.chance())
    for metric, _, panel in panels:
        if metric == "noise_majority":
            _fractions(panel, twins.chance())
        else:
            panel.set_ylim(0, 1.06 * most)
            panel.axhline(most, color=QUIET, linestyle=":", linewidth=1.2)
    return figure and _finished(
        figure,
        twins,
        "width of the hidden layers",
        [_entry(v, markersize=4, **_looks(twins, v)) for v in twins.variants],
        "How much the teachers' labels on noise can teach: their entropy, and the share of the most frequent one. "
        "Dotted: all classes equally often. Near 0 bits the labels are almost constant, and fitting them shows little.",
    )


def _retention_against_noise(twins: Twins) -> Figure | None:
    """Accuracy on the original data against noise images seen, for the first, middle and last round with this curve."""
    rounds = {stage: chosen for stage in twins.repeated() if (chosen := _logged(twins, stage))}
    if not rounds:
        return None
    texts = {f"retention_{split}": ACCURACIES[f"{split}_accuracy"] for split in ("train", "test")}
    size = max(4.2, 8.4 / len(rounds)), 2.5
    figure, axes = _grid(len(texts), len(rounds), size, sharex=True, sharey="row")
    for row, (curve, text) in zip(axes, texts.items(), strict=True):
        row[0].set_ylabel(text, fontsize=10)
        for panel, (stage, chosen) in zip(row, rounds.items(), strict=True):
            for variant in twins.variants:
                for point in twins.points(variant, stage):
                    if point.round in chosen:
                        looks = _looks(twins, variant) | {"alpha": 1.0 - 0.32 * chosen.index(point.round)}
                        _plot(panel, _positive(point.curve(curve)), markersize=2.2, **looks)
            panel.set_xscale("log")
            _fractions(panel, twins.chance())
    for panel, (stage, chosen) in zip(axes[0], rounds.items(), strict=True):
        panel.set_title(f"{_plain(stage)}: rounds {', '.join(map(str, chosen))}", fontsize=10)
    return _finished(
        figure,
        twins,
        "noise images seen",
        [_entry(v, markersize=4, **_looks(twins, v)) for v in twins.variants],
        "Accuracy on the original data while a student sees more and more noise. Paler lines are narrower students. "
        "Dotted: chance.",
    )


def _against_width(
    twins: Twins, texts: Mapping[str, str]
) -> tuple[Figure | None, list[tuple[str, str, Axes]]]:
    """A figure of metrics (rows) by stages (columns) with both variants in each panel, and a list of (metric, stage,
    panel)."""
    measured = [
        (metric, stage)
        for metric in texts
        for stage in twins.repeated()
        if any(series(twins.points(variant, stage), metric, "width")[0] for variant in twins.variants)
    ]
    if not measured:
        return None, []
    metrics = list(dict.fromkeys(metric for metric, _ in measured))
    stages = [stage for stage in twins.repeated() if stage in {stage for _, stage in measured}]
    size = max(3.6, 8.4 / len(stages)), 2.2
    figure, axes = _grid(len(metrics), len(stages), size, sharex=True, sharey="row")
    panels: list[tuple[str, str, Axes]] = []
    for row, metric in zip(axes, metrics, strict=True):
        row[0].set_ylabel(texts[metric], fontsize=10)
        for panel, stage in zip(row, stages, strict=True):
            panels.append((metric, stage, panel))
            for variant, twin in zip(twins.variants, twins.teachers(), strict=True):
                points = [*([twin] if twin else []), *twins.points(variant, stage)]
                _plot(panel, series(points, metric, "width"), markersize=4, **_looks(twins, variant))
            _sizes(panel)
            panel.xaxis.set_major_locator(FixedLocator([2.0**power for power in range(15)]))
            panel.xaxis.set_minor_locator(NullLocator())
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    for panel, stage in zip(axes[0], stages, strict=True):
        panel.set_title(_plain(twins.described(stage)), fontsize=10)
    return figure, panels


def _strategies(twins: Twins) -> Figure | None:
    """Training and test accuracy of every family of models against nonzero parameters."""
    families = [*twins.noise_stages(), *twins.strategies()]
    metrics = [
        metric
        for metric in ACCURACIES
        if any(
            series(twins.points(v, f), metric, "size")[0] for v in twins.variants for f in twins.strategies()
        )
    ]
    if not metrics:
        return None
    figure, axes = _grid(len(metrics), 2, (4.8, 2.7), sharex=True, sharey=True)
    looks: dict[str, dict[str, Any]] = {
        name: {"color": FAMILIES[i % len(FAMILIES)], "marker": MARKERS[i % len(MARKERS)], "markersize": 4}
        for i, name in enumerate(families)
    }
    for row, metric in zip(axes, metrics, strict=True):
        row[0].set_ylabel(ACCURACIES[metric], fontsize=10)
        for panel, variant, twin in zip(row, twins.variants, twins.teachers(), strict=True):
            for family in families:
                points = sorted(twins.points(variant, family), key=lambda point: -(point.size or 0))
                _plot(panel, series(points, metric, "size"), **looks[family])
            _diamond(panel, twin, metric, "size", "black")
            _fractions(panel, twins.chance())
            _sizes(panel)
    for panel, variant in zip(axes[0], twins.variants, strict=True):
        panel.set_title(
            _plain(variant), fontsize=11, color=_looks(twins, variant)["color"], fontweight="bold"
        )
    twin = _entry("the twin itself", color="black", marker="D", markersize=5, linestyle="")
    return _finished(
        figure,
        twins,
        "nonzero parameters",
        [*(_entry(name, **each) for name, each in looks.items()), twin],
        "The same twins, compressed by every strategy of this run, against the nonzero parameters that are left. Left: "
        "real labels; right: random labels. Dotted: chance.",
    )


def _grid(
    rows: int, columns: int, size: tuple[float, float], sharex: Sharing = False, sharey: Sharing = False
) -> tuple[Figure, Any]:
    """A figure with rows x columns empty panels (an object array of Axes), each with this size in inches."""
    inches = columns * size[0], rows * size[1] + 0.7
    figure = Figure(figsize=inches, layout="constrained", facecolor="white")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)
    for panel in axes.flat:
        panel.tick_params(labelsize=8)
        panel.grid(color="#e6e8eb", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finished(figure: Figure, twins: Twins, x: str, entries: Sequence[Line2D], caption: str) -> Figure:
    """The figure with x label, caption, and one legend above all panels."""
    seeds = f" Means of {twins.seeds} seeds; bands: ± one standard deviation." if twins.seeds > 1 else ""
    figure.supxlabel(x, fontsize=10)
    columns = len(entries) if len(entries) <= 6 else -(-len(entries) // 2)
    figure.legend(handles=list(entries), loc="outside upper center", ncols=columns, fontsize=9, frameon=False)
    figure.set_label(caption + seeds)
    return figure


def _looks(twins: Twins, variant: str) -> dict[str, Any]:
    if variant == twins.real:
        return {"color": REAL, "linestyle": "-", "marker": "o"}
    return {"color": FAKE, "linestyle": "--", "marker": "s"}


def _entry(label: str, **looks: Any) -> Line2D:
    return Line2D([], [], label=_plain(label), **looks)


def _plot(panel: Axes, line: Line, **looks: Any) -> None:
    """Plots a line, with a band of ± one standard deviation if there are several seeds."""
    panel.plot(line[0], line[1], linewidth=1.5, **looks)
    if any(line[2]):
        low, high = np.subtract(line[1], line[2]), np.add(line[1], line[2])
        panel.fill_between(line[0], low, high, color=looks["color"], alpha=0.18, linewidth=0)


def _diamond(panel: Axes, point: Point | None, metric: str, x: Literal["width", "size"], color: str) -> None:
    line = series([point] if point else [], metric, x)
    panel.plot(line[0], line[1], color=color, marker="D", markersize=6, linestyle="", zorder=4)


def _fractions(panel: Axes, chance: float | None) -> None:
    """A y axis from 0 to 100 %, with a dotted line for guessing."""
    panel.set_ylim(-0.02, 1.04)
    panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    if chance is not None:
        panel.axhline(chance, color=QUIET, linestyle=":", linewidth=1.2)


def _sizes(panel: Axes) -> None:
    """A logarithmic axis from large to small."""
    panel.set_xscale("log")
    if not panel.xaxis_inverted():  # invert a shared axis only once
        panel.invert_xaxis()


def _decades(panel: Axes) -> None:
    """A logarithmic y axis labelled at 1 and 3 of each decade; minor ticks would cost seconds."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=6))
    panel.yaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _title(pair: Pair, number: int) -> str:
    width = next((f", width {point.width:g}" for point in pair if point and point.width), "")
    number = next((point.round for point in pair if point and point.round), number)
    return f"{f'round {number}' if number else 'twins'}{width}"


def _logged(twins: Twins, stage: str) -> list[int]:
    """Rounds with retention curves: the first, the middle and the last of them."""
    points = [point for variant in twins.variants for point in twins.points(variant, stage)]
    logged = sorted({p.round for p in points if p.round and p.curve("retention_train")[0]})
    return sorted({logged[0], logged[len(logged) // 2], logged[-1]}) if logged else []


def _positive(line: Line) -> Line:
    """The part of the line with x > 0, for a logarithmic axis."""
    kept = [i for i, x in enumerate(line[0]) if x > 0]
    return [line[0][i] for i in kept], [line[1][i] for i in kept], [line[2][i] for i in kept]


def _plain(text: str) -> str:
    """Escapes `$`, so that matplotlib does not read names as formulas."""
    return text.replace("$", r"\$")
