"""`eval.fidelity`: how often a student agrees with its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, Evaluator, Metric, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class FidelityConfig(Config):
    """Options of `eval.fidelity`."""

    draws: int = Field(
        10000, ge=1, description="number of unseen noise images for `noise_agreement` and the entropy"
    )


class Fidelity(Evaluator[FidelityConfig]):
    """Agreement with the teacher on real inputs, training noise and unseen noise; entropy of the noise labels."""

    name = "eval.fidelity"
    example: ClassVar[Mapping[str, Any]] = {"draws": 64}
    uses_stage = True
    metrics = {  # noqa: RUF012
        "agreement": Metric(
            "higher",
            "fraction",
            "test inputs answered as the teacher does; of numbers, R² to its",
        ),
        "train_agreement": Metric("higher", "fraction", "as `agreement`, on training inputs"),
        "fit_agreement": Metric("higher", "fraction", "as `agreement`, on training noise"),
        "noise_agreement": Metric("higher", "fraction", "as `agreement`, on unseen noise"),
        "noise_entropy_bits": Metric("neither", "bits", "entropy of the teacher's classes on unseen noise"),
        "noise_majority": Metric(
            "neither", "fraction", "share of the teacher's most frequent class on unseen noise"
        ),
    }

    def evaluate(self, model: nn.Module, ctx: StageContext) -> Mapping[str, float]:
        """No metrics for a stage without a teacher (a first training); no noise metrics for one without noise."""
        from compressit_plugins.evaluate.agreement import noise_fidelity, real_fidelity

        judged = ctx.judged
        if judged is None or judged.reference is None:
            return {}
        measured = real_fidelity(model, ctx, judged.reference)
        if "noise" in judged.notes:
            measured |= noise_fidelity(model, ctx, judged, self.config.draws)
        return measured


@hookimpl
def compressit_evaluators() -> list[type[Evaluator]]:
    return [Fidelity]
