"""`report.twins`: compares how two networks that differ only in their labels survive compression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Report, hookimpl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from compressit import Results
    from compressit_plugins.twins.rows import Twins


class TwinsConfig(Config):
    """Which variants are the twins."""

    real: str = Field("real", description="the variant with the real labels (drawn green)")
    fake: str = Field("fake", description="the variant with random labels (drawn red)")
    base: str = Field("train", description="the stage that trained the twins")


class TwinsReport(Report[TwinsConfig]):
    """Real against random labels: training losses, accuracy against width, strategies against size."""

    name = "report.twins"
    tasks = frozenset({"task.classification"})
    example: ClassVar[Mapping[str, Any]] = {"real": "one", "fake": "other"}

    def figures(self, results: Results) -> Mapping[str, Figure]:
        """The figures that the run has numbers for."""
        from compressit_plugins.twins.figures import figures

        return figures(self._twins(results))

    def paragraphs(self, results: Results) -> Sequence[str]:
        """The twins' accuracy, what is left at half the width, and whether the blog post's observation holds."""
        from compressit_plugins.twins.words import paragraphs

        return paragraphs(self._twins(results))

    def _twins(self, results: Results) -> Twins:
        from compressit_plugins.twins.rows import Twins

        return Twins(results, self.config.real, self.config.fake, self.config.base)


@hookimpl
def compressit_reports() -> list[type[Report]]:
    return [TwinsReport]
