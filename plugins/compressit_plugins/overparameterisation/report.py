"""`report.overparameterisation`: how many parameters nets have for each training example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Report, Table, hookimpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compressit import Results


class OverparameterisationConfig(Config):
    """What the published nets are checked for."""

    least: float = Field(
        10.0, gt=0, description="parameters per training example from which a net is counted"
    )
    most: float = Field(
        100.0, gt=0, description="parameters per training example up to which a net is counted"
    )
    asked: float = Field(
        0.7, ge=0, le=1, description="share of the published nets that should lie between them"
    )


class OverparameterisationReport(Report[OverparameterisationConfig]):
    """Accuracy against parameters per training example: of 24 published nets for ImageNet, and of this run's models.

    The published numbers are those of table 2 of Tan & Le 2019, "EfficientNet: rethinking model scaling for
    convolutional neural networks" (arXiv:1905.11946v5); `published.csv` beside this file has each with its source.
    This run's models have numbers if `eval.size` and `eval.accuracy` measured them and a training noted how many
    examples it saw. Their accuracies are of other data.
    """

    name = "report.overparameterisation"
    tasks = frozenset({"task.classification"})
    example: ClassVar[Mapping[str, Any]] = {"least": 10, "most": 100}

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """One figure, with a band between `least` and `most`."""
        from compressit_plugins.overparameterisation.drawing import drawn
        from compressit_plugins.overparameterisation.nets import measured, published

        figure = drawn(published(), measured(results), self.config.least, self.config.most)
        return {"overparameterisation": figure}

    def paragraphs(self, results: Results) -> Sequence[str]:
        """The share of published nets between `least` and `most`, and where this run's models are."""
        from compressit_plugins.overparameterisation.nets import measured, published
        from compressit_plugins.overparameterisation.words import of_published, of_this_run

        how = self.config
        return [of_published(published(), how.least, how.most, how.asked), of_this_run(measured(results))]

    def tables(self, results: Results) -> Sequence[Table]:
        """All nets of the figure, published ones with where their numbers come from."""
        from compressit_plugins.overparameterisation.nets import measured, published
        from compressit_plugins.overparameterisation.words import table

        return [table([*published(), *measured(results)])]


@hookimpl
def compressit_reports() -> list[type[Report]]:
    return [OverparameterisationReport]
