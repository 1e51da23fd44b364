"""Nets with their parameters per training example and their accuracy: published ones, and those of a run."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from importlib.resources import files
from statistics import fmean

from compressit import Results, Row

IMAGENET = 1_281_167
"""Training images of ILSVRC 2012."""


@dataclass(frozen=True)
class Net:
    """A net and the size of what it was trained on."""

    name: str
    family: str
    parameters: float
    examples: int
    accuracy: float  # a fraction: top-1
    source: str  # of the numbers

    @property
    def ratio(self) -> float:
        """Parameters per training example."""
        return self.parameters / self.examples


def published() -> list[Net]:
    """Of `published.csv`, in its order: nets trained on ImageNet."""
    text = (
        files("compressit_plugins.overparameterisation").joinpath("published.csv").read_text(encoding="utf-8")
    )
    return [
        Net(row["model"], row["family"], 1e6 * float(row["parameters_millions"]), IMAGENET,
            float(row["top1_percent"]) / 100, row["numbers_from"])
        for row in csv.DictReader(text.splitlines())
    ]  # fmt: skip


def measured(results: Results) -> list[Net]:
    """The models of a run that were trained, or made of such: the mean over seeds, in the order of the rows. The
    number of examples is that of the last training that noted how many images it saw, divided by its epochs."""
    groups: dict[tuple[str, str], list[Net]] = {}
    for row in results.rows:
        if (net := _net(results, row)) is not None:
            groups.setdefault((row.variant, row.name), []).append(net)
    return [
        Net(nets[0].name, nets[0].family, fmean(net.parameters for net in nets), nets[0].examples,
            fmean(net.accuracy for net in nets), "this run")
        for nets in groups.values()
    ]  # fmt: skip


def _net(results: Results, row: Row) -> Net | None:
    size, accuracy = row.metrics.get("parameters"), row.metrics.get("test_accuracy")
    examples = next((count for made in results.lineage(row) if (count := _examples(made))), None)
    if examples is None or size is None or accuracy is None or not math.isfinite(size + accuracy):
        return None
    return Net(f"{row.variant} {row.name}", row.variant, size, examples, accuracy, "this run")


def _examples(row: Row) -> int | None:
    """None also of a training that `steps` may have cut off in the middle of a pass."""
    seen, epochs = row.notes.get("images_seen"), row.notes.get("epochs")
    if (
        isinstance(seen, int)
        and isinstance(epochs, int)
        and min(seen, epochs) > 0
        and not row.options.get("steps")
    ):
        return round(seen / epochs)
    return None
