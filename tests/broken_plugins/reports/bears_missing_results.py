"""Needs the accuracy of a first model."""

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.bears_missing_results"

    def paragraphs(self, results):
        first = results.rows[0]
        return [f"The first model is right on {first.metrics['test_accuracy']:.1%}."]


@hookimpl
def compressit_reports():
    return [Broken]
