"""`report.twins`: two networks that differ only in their labels, and what of each survives compression."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from compressit import Config, Report, hookimpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compressit import Results


class TwinsConfig(Config):
    """Which variants are the twins."""

    real: str = Field("real", description="the variant with the data's own labels (drawn green)")
    fake: str = Field("fake", description="the variant with random labels (drawn red)")
    base: str = Field("train", description="the stage that trained the twins")


class TwinsReport(Report[TwinsConfig]):
    """Real against random labels: losses, accuracy against width, label entropy, retention, strategies."""

    name = "report.twins"

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """Those figures for which the run has numbers."""
        from compressit_plugins.reports.twins_figures import figures
        from compressit_plugins.reports.twins_rows import Twins

        return figures(Twins(results, self.config.real, self.config.fake, self.config.base))

    def paragraphs(self, results: Results) -> Sequence[str]:
        """What the numbers say, beside the post's conclusion."""
        from compressit_plugins.reports.twins_rows import Twins
        from compressit_plugins.reports.twins_words import paragraphs

        return paragraphs(Twins(results, self.config.real, self.config.fake, self.config.base))


@hookimpl
def compressit_reports() -> Iterable[type[Report]]:
    return (TwinsReport,)
