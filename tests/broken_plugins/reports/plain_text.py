"""Writes HTML, which the page shows as it stands."""

from compressit import Report, hookimpl


class Broken(Report):
    """Accuracy against size."""

    name = "broken.plain_text"

    def paragraphs(self, results):
        return [f"The run has <b>{len(results.rows)}</b> models."]


@hookimpl
def compressit_reports():
    return [Broken]
