"""`report.figure`: a figure of a run as its recipe describes it, and what was published beside what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Report, Table, hookimpl
from compressit_plugins.figure.options import FigureConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compressit import Results


class FigureReport(Report[FigureConfig]):
    """Panels of dots, curves and pictures, and a table of published statements with this run's numbers."""

    name = "report.figure"
    Config = FigureConfig
    example: ClassVar[Mapping[str, Any]] = {
        "title": "Accuracy against size",
        "plots": [{"x": "parameters", "y": "test_accuracy", "by": "stage", "log": "x"}, {"curve": ["loss"]}],
        "checks": [{"what": "accuracy after training", "take": "test_accuracy", "within": [0.5, 1.0]}],
    }

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """One figure with all panels that the run has numbers for; none if it has none."""
        from compressit_plugins.figure.plots import drawn
        from compressit_plugins.figure.readings import Readings

        figure = drawn(self.config, Readings(results))
        return {} if figure is None else {"figure": figure}

    def tables(self, results: Results) -> Sequence[Table]:
        """What was published, what is asked here, what this run gives, and whether that agrees."""
        from compressit_plugins.figure.checks import checked
        from compressit_plugins.figure.readings import Readings

        readings = Readings(results)
        found = [checked(check, readings) for check in self.config.checks]
        if not found:
            return []
        rows = [[one.what, one.verdict, one.published, one.asked, one.here] for one in found]
        caption = self.config.title or "Published and found"
        return [Table(caption, ["", "verdict", "published", "asked here", "here"], rows)]


@hookimpl
def compressit_reports() -> list[type[Report]]:
    return [FigureReport]
