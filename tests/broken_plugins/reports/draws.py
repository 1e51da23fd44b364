"""Has a slash in a figure's name, which is a file's."""

import math

from matplotlib.figure import Figure

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.draws"

    def figures(self, results):
        figure = Figure(figsize=(3, 2))
        figure.set_label("Test accuracy of every model.")
        axes = figure.subplots()
        axes.plot([row.metrics.get("test_accuracy", math.nan) for row in results.rows])
        axes.set(xlabel="model", ylabel="test accuracy")
        return {"accuracy/models": figure}


@hookimpl
def compressit_reports():
    return [Broken]
