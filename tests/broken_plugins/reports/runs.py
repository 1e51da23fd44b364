"""Returns a text where a list of them belongs."""

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.runs"

    def paragraphs(self, results):
        return f"The run has {len(results.rows)} models."


@hookimpl
def compressit_reports():
    return [Broken]
