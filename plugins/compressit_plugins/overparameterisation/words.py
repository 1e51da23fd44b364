"""The text of `report.overparameterisation`."""

from __future__ import annotations

from collections.abc import Sequence

from compressit import Table, counted, grouped, percent
from compressit_plugins.overparameterisation.nets import IMAGENET, Net


def of_published(nets: Sequence[Net], least: float, most: float, asked: float) -> str:
    """The share of the published nets in the band, and whether it is what was asked."""
    inside = sum(least <= net.ratio <= most for net in nets)
    share = inside / len(nets)
    verdict = "is" if share >= asked else "is not"
    ratios = sorted(net.ratio for net in nets)
    return (
        f"Published: {inside} of {len(nets)} nets for ImageNet ({percent(share)}) have {least:g} to {most:g} times as "
        f"many parameters as training images ({grouped(IMAGENET)}); all have {ratios[0]:.1f} to {ratios[-1]:.0f} times "
        f"as many. At least {percent(asked, 0)} between them was asked for, which {verdict} the case."
    )


def of_this_run(nets: Sequence[Net]) -> str:
    """Where the run's models are."""
    if not nets:
        return "Here: no model of this run has its parameters, test accuracy and number of training examples measured."
    told = "; ".join(f"{net.name} {net.ratio:.2g} ({percent(net.accuracy)})" for net in nets[:12])
    more = f"; and {counted(len(nets) - 12, 'other')}" if len(nets) > 12 else ""
    return (
        f"Here: parameters per training example of this run's models, and their test accuracy: {told}{more}."
    )


def table(nets: Sequence[Net]) -> Table:
    """A row for each net, in this order."""
    head = ["", "parameters", "training examples", "parameters per example", "test accuracy", "numbers from"]
    rows = [
        [
            net.name,
            grouped(net.parameters),
            grouped(net.examples),
            f"{net.ratio:.3g}",
            percent(net.accuracy),
            net.source,
        ]
        for net in nets
    ]
    return Table("Parameters per training example", head, rows)
