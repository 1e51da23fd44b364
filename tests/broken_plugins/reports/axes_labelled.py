"""Draws numbers without saying what they are."""

import math

from matplotlib.figure import Figure

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.axes_labelled"

    def figures(self, results):
        figure = Figure(figsize=(3, 2))
        figure.set_label("Test accuracy of every model.")
        axes = figure.subplots()
        axes.plot([row.metrics.get("test_accuracy", math.nan) for row in results.rows])
        return {"accuracy": figure}


@hookimpl
def compressit_reports():
    return [Broken]
