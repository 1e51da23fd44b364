"""Sentences, tables and a chart of what predicts what survives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from compressit import Table, holm
from compressit_plugins.predict.association import Association, Change

LEVEL = 0.05


def sentences(found: Sequence[Association]) -> list[str]:
    """For each outcome, the measure that tells most of it over all methods, if any can be told from chance."""
    told: list[str] = []
    for outcome in dict.fromkeys(one.survives for one in found):
        own = [one for one in found if one.survives == outcome and one.method == "all"]
        if not own:
            continue
        chances = dict(zip((one.measure for one in own), holm([one.p for one in own]), strict=True))
        sure = [one for one in own if chances[one.measure] < LEVEL]
        words, nets = _words(outcome), own[0].nets
        if not sure:
            told.append(
                f"Of {len(own)} measures taken before compression, none tells more than chance would of the share of "
                f"{words} that survives ({nets} nets; permutation tests at 5 %, corrected by Holm)."
            )
            continue
        best = max(sure, key=lambda one: abs(one.rho))
        direction = "more" if best.rho > 0 else "less"
        told.append(
            f"Taken before compression, {_words(best.measure)} tells most of the share of {words} that survives: nets "
            f"with more of it keep {direction} (rank correlation {_rho(best)}, p = {_p(chances[best.measure])} after "
            f"Holm, {nets} nets)."
        )
    return told


def associated(found: Sequence[Association]) -> Table:
    """Every correlation. p is corrected within each outcome and method."""
    families: dict[tuple[str, str], list[Association]] = {}
    for one in found:
        families.setdefault((one.survives, one.method), []).append(one)
    rows: list[list[str]] = []
    for (outcome, method), family in families.items():
        for one, chance in zip(family, holm([one.p for one in family]), strict=True):
            rows.append(
                [
                    _words(one.measure),
                    _words(outcome),
                    method,
                    _rho(one),
                    _p(chance),
                    f"{one.nets} × {one.points}",
                ]
            )
    head = ["before compression", "share that survives", "method", "rank correlation", "p", "nets × points"]
    return Table("What a measure before compression tells of what survives it", head, rows)


def changed(changes: Sequence[Change]) -> Table:
    """The geometric mean of the ratios of every measure, by method."""
    methods = list(dict.fromkeys(change.method for change in changes))
    by: dict[str, dict[str, str]] = {}
    for change in changes:
        ratio = change.ratio
        spread = (
            ""
            if ratio.low is None or ratio.high is None
            else f" ({_times(ratio.low)} to {_times(ratio.high)})"
        )
        by.setdefault(change.measure, {})[change.method] = f"{_times(ratio.mean)}{spread}"
    rows = [
        [_words(measure), *(cells.get(method, "") for method in methods)] for measure, cells in by.items()
    ]
    return Table(
        "What became of each measure: after / before, 95 % interval over the nets", ["", *methods], rows
    )


def chart(found: Sequence[Association]) -> Figure:
    """A panel for each outcome: every measure's correlation over all methods, with its interval."""
    outcomes: Mapping[str, list[Association]] = {
        outcome: [one for one in found if one.survives == outcome and one.method == "all"]
        for outcome in dict.fromkeys(one.survives for one in found)
    }
    figure = Figure(
        figsize=(1.5 + 4.2 * len(outcomes), 1.4 + 0.3 * max(map(len, outcomes.values()))),
        layout="constrained",
    )
    figure.set_label(
        "Rank correlation of measures before compression with what survives it; bars: 95 % intervals."
    )
    for number, (outcome, own) in enumerate(outcomes.items()):
        axes = figure.add_subplot(1, len(outcomes), number + 1)
        for place, one in enumerate(own):
            axes.plot([one.low, one.high], [place, place], color="C0", linewidth=2, alpha=0.6)
            axes.plot([one.rho], [place], "o", color="C0")
        axes.axvline(0, color="#6b7280", linewidth=0.8)
        axes.set_yticks(
            range(len(own)), [_words(one.measure) for one in own] if number == 0 else [""] * len(own)
        )
        axes.set(xlim=(-1.05, 1.05), xlabel=f"with the share of {_words(outcome)} kept", ylabel="")
        axes.invert_yaxis()
        axes.grid(alpha=0.3)
    return figure


def _words(column: str) -> str:
    return column.replace("_", " ")


def _rho(one: Association) -> str:
    return f"{one.rho:+.2f} ({one.low:+.2f} to {one.high:+.2f})"


def _p(chance: float) -> str:
    return f"{chance:.3f}" if chance >= 0.001 else "< 0.001"


def _times(log: float) -> str:
    return f"{math.exp(log):.3g}×" if log < 20 else "> 1e8×"
