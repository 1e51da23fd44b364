"""Writes the time into the figure."""

import math
import time

from matplotlib.figure import Figure

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.same_results_same_page"

    def figures(self, results):
        figure = Figure(figsize=(3, 2))
        figure.set_label("Test accuracy of every model.")
        axes = figure.subplots()
        axes.plot([row.metrics.get("test_accuracy", math.nan) for row in results.rows])
        axes.set(xlabel="model", ylabel="test accuracy")
        figure.text(0, 0, str(time.time_ns()))
        return {"accuracy": figure}


@hookimpl
def compressit_reports():
    return [Broken]
