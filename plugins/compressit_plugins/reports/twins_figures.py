"""Figures of `report.twins`, each built from rows and curves; None where the run has no numbers for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from compressit_plugins.reports.twins_drawing import (
    FAKE,
    REAL,
    band,
    color_of,
    decades_axis,
    draw,
    fraction_axis,
    grid,
    handles,
    legend,
    level,
    plain,
    size_axis,
    step_axis,
)
from compressit_plugins.reports.twins_rows import Line, Pair, Point, Twins

FAMILIES = ("#0072b2", "#e69f00", "#7b3294", "#56b4e9", "#5c4033", "#d6619e")  # neither green nor red
MARKERS = ("o", "s", "^", "D", "v", "P")
GIVEN, TEST = "training labels\nit was given", "test set"


def figures(twins: Twins) -> dict[str, Figure]:
    """Every figure this run has numbers for, by name, in the order of the page."""
    losses = {f"training_loss_{stage}": training_loss(twins, stage) for stage in twins.repeated()}
    drawn = {re.sub(r"[^\w.-]+", "_", name): figure for name, figure in losses.items()} | {
        "accuracy_against_width": accuracy_against_width(twins),
        "label_entropy": label_entropy(twins),
        "retention_against_noise": retention_against_noise(twins),
        "strategies": strategies(twins),
    }
    return {name: figure for name, figure in drawn.items() if figure is not None}


def training_loss(twins: Twins, stage: str) -> Figure | None:
    """Training loss against minibatch step, a panel per round; round 0 is the twins themselves."""
    pairs = twins.pairs(stage)
    if not any(point and point.curve("loss")[0] for pair in pairs for point in pair):
        return None
    rounds: list[Pair] = [(twins.teacher(twins.real), twins.teacher(twins.fake)), *pairs]
    columns = min(6 if len(rounds) > 10 else 4, len(rounds))
    figure, axes = grid(-(-len(rounds) // columns), columns, (10.0 / columns, 2.1 if columns < 6 else 1.75))
    # Matching logits has another unit than cross-entropy and spans decades: its own, logarithmic axis.
    logits = twins.about_noise(stage).get("labels") == "logits"
    for number, (pair, panel) in enumerate(zip(rounds, axes.flat, strict=False)):
        if number > 0:
            panel.sharey(axes.flat[1] if logits else axes.flat[0])
            panel.sharex(axes.flat[1])  # the twins have their own number of steps
        for variant, point in zip(twins.variants, pair, strict=True):
            if point is not None:
                draw(panel, twins, variant, point.curve("loss"), markers=False)
        width = next((f", width {point.width:g}" for point in pair if point and point.width), "")
        panel.set_title(f"{_round(pair, number)}{width}", fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        step_axis(panel)
        if logits and number > 0:
            decades_axis(panel)
        panel.tick_params(
            labelleft=number % columns == 0 or (logits and number == 1),
            labelbottom=number == 0 or number + columns >= len(rounds),
        )
    for panel in axes.flat[len(rounds) :]:
        panel.set_visible(False)
    figure.supxlabel("minibatch step", fontsize=10)
    figure.supylabel("training loss", fontsize=10)
    legend(figure, handles(twins, markers=False))
    unit = (
        " The twins' loss is cross-entropy, the rounds match logits: another unit, another axis."
        if logits
        else ""
    )
    figure.set_label(
        f"Training loss of each round of {stage}{twins.described(stage)}, on what that round was trained "
        "on: the twins on their labels, the students on noise. A low loss on noise says nothing yet about "
        f"what was kept of the original task.{unit}{_seeds(twins)}"
    )
    return figure


def accuracy_against_width(twins: Twins) -> Figure | None:
    """Accuracy on the labels given, test accuracy and agreement on unseen noise, against width."""
    rows = {
        "train_accuracy": GIVEN,
        "test_accuracy": TEST,
        "noise_agreement": "teacher's label\non unseen noise",
    }
    built = _against_width(twins, rows)
    if built is None:
        return None
    figure, panels = built
    for metric, stage, panel in panels:
        fraction_axis(panel)
        if metric != "noise_agreement":
            level(panel, twins.chance())
            continue
        for variant in twins.variants:
            constant = _series(twins.points(variant, stage), "noise_majority", _width)
            draw(panel, twins, variant, constant, style=":", markers=False)
    figure.set_label(
        "What is left at each width: the share of the original training images that still get the label "
        "this variant was given, the share of the test set that is right, and the agreement with the "
        "teacher on noise never seen. Dotted: chance, and for noise the share of the teacher's commonest "
        f"label, which a constant answer reaches. Diamonds: the twins themselves.{_seeds(twins)}"
    )
    return figure


def label_entropy(twins: Twins) -> Figure | None:
    """Entropy and majority share of the teachers' labels on noise, against width."""
    rows = {"noise_entropy_bits": "entropy (bits)", "noise_majority": "share of the\ncommonest label"}
    built = _against_width(twins, rows)
    if built is None:
        return None
    figure, panels = built
    most = float(np.log2(1 / twins.chance()))
    for metric, _, panel in panels:
        if metric == "noise_majority":
            fraction_axis(panel)
            level(panel, twins.chance())
        else:
            panel.set_ylim(0, 1.06 * most)
            level(panel, most)
    figure.set_label(
        "How much the teachers' labels on noise can teach: their entropy and the share of the commonest "
        "one, on the noise of each round. Dotted: all classes equally often. Near 0 bits the labels are "
        f"almost constant, and fitting them shows little.{_seeds(twins)}"
    )
    return figure


def retention_against_noise(twins: Twins) -> Figure | None:
    """Accuracy on original data against noise images seen, for a few rounds of the stages that logged it."""
    rounds = {stage: _logged(twins, stage) for stage in twins.repeated()}
    stages = [stage for stage, logged in rounds.items() if logged]
    if not stages:
        return None
    rows = {"retention_train": GIVEN, "retention_test": TEST}
    figure, axes = grid(len(rows), len(stages), (max(4.2, 8.4 / len(stages)), 2.5), sharex=True, sharey="row")
    for row, (name, text) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(text, fontsize=10)
        for panel, stage in zip(row, stages, strict=True):
            for variant in twins.variants:
                for point in twins.points(variant, stage):
                    if point.round in rounds[stage]:
                        alpha = 1.0 - 0.32 * rounds[stage].index(point.round)
                        draw(panel, twins, variant, _positive(point.curve(name)), alpha=alpha, size=2.2)
            panel.set_xscale("log")
            fraction_axis(panel)
            level(panel, twins.chance())
    for panel, stage in zip(axes[0], stages, strict=True):
        panel.set_title(f"{plain(stage)}: {_widths(twins, stage, rounds[stage])}", fontsize=10)
    figure.supxlabel("noise images seen", fontsize=10)
    legend(figure, handles(twins))
    figure.set_label(
        "Accuracy on original data while a student sees more and more noise. Where a stage shows several "
        f"widths, the paler the line, the narrower the student. Dotted: chance.{_seeds(twins)}"
    )
    return figure


def strategies(twins: Twins) -> Figure | None:
    """Training and test accuracy of every family of models against its non-zero parameters."""
    families = [*twins.noise_stages(), *twins.strategies()]
    rows = {
        metric: text
        for metric, text in (("train_accuracy", GIVEN), ("test_accuracy", TEST))
        if any(_sized(twins, v, family, metric)[0] for v in twins.variants for family in twins.strategies())
    }
    if not rows:
        return None
    figure, axes = grid(len(rows), 2, (4.8, 2.7), sharex=True, sharey=True)
    looks = {
        name: (FAMILIES[i % len(FAMILIES)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(families)
    }
    for row, (metric, text) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(text, fontsize=10)
        for panel, variant in zip(row, twins.variants, strict=True):
            for family, (color, marker) in looks.items():
                line = _sized(twins, variant, family, metric)
                panel.plot(line[0], line[1], color=color, marker=marker, markersize=4, linewidth=1.4)
                band(panel, line, color)
            _diamond(panel, twins.teacher(variant), metric, _size, "black")
            fraction_axis(panel)
            level(panel, twins.chance())
            size_axis(panel)
    for panel, variant, color in zip(axes[0], twins.variants, (REAL, FAKE), strict=True):
        panel.set_title(plain(variant), fontsize=11, color=color, fontweight="bold")
    figure.supxlabel("non-zero parameters", fontsize=10)
    entries = [
        Line2D([], [], color=c, marker=m, markersize=4, label=plain(name)) for name, (c, m) in looks.items()
    ]
    twin = Line2D([], [], color="black", marker="D", markersize=5, linestyle="", label="the twin itself")
    legend(figure, [*entries, twin])
    figure.set_label(
        "The same twins through every strategy of this run, against the non-zero parameters that are "
        f"left. Left the real labels, right the random ones. Dotted: chance.{_seeds(twins)}"
    )
    return figure


def _against_width(twins: Twins, rows: dict[str, str]) -> tuple[Figure, list[tuple[str, str, Axes]]] | None:
    """A grid of metrics by stages, both variants in each panel; what has no numbers is left out. Returns the
    figure and each panel with its metric and stage."""

    def any_at(metrics: Sequence[str], stages: Sequence[str]) -> bool:
        places = [(v, stage, metric) for v in twins.variants for stage in stages for metric in metrics]
        return any(_series(twins.points(v, stage), metric, _width)[0] for v, stage, metric in places)

    stages = [stage for stage in twins.repeated() if any_at(list(rows), [stage])]
    rows = {metric: text for metric, text in rows.items() if any_at([metric], stages)}
    if not rows:
        return None
    figure, axes = grid(len(rows), len(stages), (max(3.6, 8.4 / len(stages)), 2.2), sharex=True, sharey="row")
    for row, (metric, text) in zip(axes, rows.items(), strict=True):
        row[0].set_ylabel(text, fontsize=10)
        for panel, stage in zip(row, stages, strict=True):
            for variant in twins.variants:
                teacher = twins.teacher(variant)
                points = [*([teacher] if teacher else []), *twins.points(variant, stage)]
                draw(panel, twins, variant, _series(points, metric, _width))
                _diamond(panel, teacher, metric, _width, color_of(twins, variant))
            size_axis(panel, powers_of_two=True)
    for panel, stage in zip(axes[0], stages, strict=True):
        panel.set_title(plain(f"{stage}{twins.described(stage)}"), fontsize=10)
    figure.supxlabel("width of the hidden layers", fontsize=10)
    legend(figure, handles(twins))
    panels = [(metric, stage, axes[i, j]) for i, metric in enumerate(rows) for j, stage in enumerate(stages)]
    return figure, panels


def _diamond(
    panel: Axes, point: Point | None, metric: str, x: Callable[[Point], float | None], color: str
) -> None:
    at, value = (x(point), point.mean(metric)) if point is not None else (None, None)
    if at and value is not None:
        panel.plot([at], [value], color=color, marker="D", markersize=6, linestyle="", zorder=4)


def _sized(twins: Twins, variant: str, family: str, metric: str) -> Line:
    points = sorted(twins.points(variant, family), key=lambda point: -(_size(point) or 0))
    return _series(points, metric, _size)


def _series(points: Sequence[Point], metric: str, x: Callable[[Point], float | None]) -> Line:
    known: list[tuple[Any, Any, float]] = [(x(p), p.mean(metric), p.deviation(metric)) for p in points]
    known = [
        item for item in known if item[0] and item[1] is not None
    ]  # 0 has no place on a logarithmic axis
    return [item[0] for item in known], [item[1] for item in known], [item[2] for item in known]


def _width(point: Point) -> float | None:
    return point.width


def _size(point: Point) -> float | None:
    return point.mean("nonzero") or point.mean("parameters")


def _round(pair: Pair, number: int) -> str:
    number = next((point.round for point in pair if point and point.round), number)
    return f"round {number}" if number else "twins"


def _logged(twins: Twins, stage: str) -> list[int]:
    """Rungs with retention curves: the first, the middle and the last of them."""
    points = [point for variant in twins.variants for point in twins.points(variant, stage)]
    logged = sorted(
        {
            p.round
            for p in points
            if p.round and (p.curve("retention_train")[0] or p.curve("retention_test")[0])
        }
    )
    return sorted({logged[0], logged[len(logged) // 2], logged[-1]}) if logged else []


def _widths(twins: Twins, stage: str, rounds: Sequence[int]) -> str:
    widths = {p.round: p.width for v in twins.variants for p in twins.points(v, stage)}
    return ", ".join(
        f"width {widths[number]:g}" if widths[number] else f"round {number}" for number in rounds
    )


def _positive(line: Line) -> Line:
    kept = [i for i, x in enumerate(line[0]) if x > 0]
    return [line[0][i] for i in kept], [line[1][i] for i in kept], [line[2][i] for i in kept]


def _seeds(twins: Twins) -> str:
    return f" Means of {twins.seeds} seeds; bands: ± one standard deviation." if twins.seeds > 1 else ""
