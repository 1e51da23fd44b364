"""`report.predictors`: which measure of a net, taken before compression, tells what survives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from compressit import Config, Report, Table, hookimpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compressit import Results
    from compressit_plugins.predict.association import Association, Change

Column = Annotated[str, Field(min_length=1)]


class PredictorsConfig(Config):
    """Options of `report.predictors`."""

    measures: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(
        description="columns that were measured before and after compression, as `sharpness`"
    )
    survives: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(
        default=("test_accuracy",),
        description="columns whose share is what survives: the value after compression divided by that before",
    )
    stages: Annotated[tuple[Column, ...], Field(min_length=1)] = Field(
        default=("*",), description="the stages whose models count as compressed: names, or patterns"
    )
    draws: int = Field(
        default=2000, ge=100, description="resamplings for intervals, and as many permutations for p"
    )


class Predictors(Report[PredictorsConfig]):
    """Rank correlations of what was measured before compression with what survived it, and what each measure became."""

    name = "report.predictors"
    Config = PredictorsConfig
    example: ClassVar[Mapping[str, Any]] = {"measures": ["nonzero"], "draws": 100}

    def paragraphs(self, results: Results) -> Sequence[str]:
        """The best predictor of each outcome, or that none can be told from chance."""
        from compressit_plugins.predict.words import sentences

        found = self._associations(results)
        return sentences(found) if found else []

    def tables(self, results: Results) -> Sequence[Table]:
        """Every correlation with its interval, and what became of every measure."""
        from compressit_plugins.predict.words import associated, changed

        found, changes = self._associations(results), self._changes(results)
        return [*([associated(found)] if found else []), *([changed(changes)] if changes else [])]

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """The correlations as a chart: one panel for each outcome."""
        from compressit_plugins.predict.words import chart

        found = self._associations(results)
        return {"predictors": chart(found)} if found else {}

    def _associations(self, results: Results) -> Sequence[Association]:
        from compressit_plugins.predict.association import associations, cases

        config = self.config
        return associations(cases(results, config.stages), config.measures, config.survives, config.draws)

    def _changes(self, results: Results) -> Sequence[Change]:
        from compressit_plugins.predict.association import cases, changes

        return changes(cases(results, self.config.stages), self.config.measures)


@hookimpl
def compressit_reports() -> list[type[Report]]:
    return [Predictors]
