"""Draws with pyplot, which keeps every figure."""

import math

import matplotlib.pyplot as plt

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.leaves_pyplot"

    def figures(self, results):
        figure = plt.figure(figsize=(3, 2))
        figure.set_label("Test accuracy of every model.")
        axes = figure.subplots()
        axes.plot([row.metrics.get("test_accuracy", math.nan) for row in results.rows])
        axes.set(xlabel="model", ylabel="test accuracy")
        return {"accuracy": figure}


@hookimpl
def compressit_reports():
    return [Broken]
