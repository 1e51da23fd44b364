"""Sorts the results' own rows."""

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.leaves_results"

    def paragraphs(self, results):
        results.rows.sort(key=lambda row: -row.metrics.get("test_accuracy", 0.0))
        return [f"The best model is {row.name}." for row in results.rows[:1]]


@hookimpl
def compressit_reports():
    return [Broken]
