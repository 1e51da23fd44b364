"""Leaves the figure without a caption."""

import math

from matplotlib.figure import Figure

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.captions"

    def figures(self, results):
        figure = Figure(figsize=(3, 2))
        axes = figure.subplots()
        axes.plot([row.metrics.get("test_accuracy", math.nan) for row in results.rows])
        axes.set(xlabel="model", ylabel="test accuracy")
        return {"accuracy": figure}


@hookimpl
def compressit_reports():
    return [Broken]
