"""`factor.low_rank`: replaces layers by products of two smaller ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, Config, Work, changed, hookimpl, ratio

if TYPE_CHECKING:
    from torch import nn

    from compressit import InputTensors, StageContext
    from compressit_plugins.factor.factor import FactorReport


class LowRankConfig(Config):
    """Options of low-rank factorization."""

    keep: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="fraction of the target to keep",
        json_schema_extra=ratio(0.1, 0.95),
    )
    target: Literal["parameters", "macs", "energy"] = Field(
        default="macs",
        description="what to reduce to the fraction `keep` of the given model: parameters or MACs, to at most that and "
        "as near as whole ranks allow; or what each layer must keep of its energy (see `inputs`), at the smallest rank",
    )
    inputs: Literal["white", "covariance"] = Field(
        default="white",
        description="which inputs a layer must answer as before: any alike, so the energy of a direction is its "
        "squared singular value (white); or those that it gets from `batches` of training examples, so it is the "
        "variance of the outputs (covariance)",
    )
    ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={},
        description="ranks of single layers, by globs over names of layers, such as {fc1: 20}; the others reach `keep` "
        "of the target. Of several globs that match, the last counts",
    )
    ignore: tuple[str, ...] = Field(
        default=(), description="globs over names of layers that stay as they are"
    )
    batches: int = Field(default=10, ge=1, description="training batches for `inputs: covariance`")
    recalibrate: int = Field(
        default=20,
        ge=0,
        description="training batches for measuring the statistics of batch norms again; 0: keep the old ones",
    )
    batch_size: int = Field(default=128, ge=2, description="batch size for `batches` and `recalibrate`")

    @field_validator("batches")
    @classmethod
    def _are_seen(cls, batches: int, info: ValidationInfo) -> int:
        if info.data.get("inputs") == "white" and changed(cls, info, batches):
            raise ValueError("has no effect with `inputs: white`")
        return batches


class LowRank(Compressor[LowRankConfig]):
    """Replace linear and convolutional layers by two of lower rank where that saves cost.

    A convolution becomes one with fewer outputs and one of size 1 (Zhang et al., "Accelerating very deep convolutional
    networks for classification and detection", 2016). Ranks are chosen for all layers together: those that keep the
    largest product of energies, as there. A product of an earlier stage gets a lower rank. The notes record ranks and
    energies by layer, and which layers stay because they cannot be factored (`skipped`): with groups, shared or tied
    weights, zeros from pruning, attention of torch's own, recurrent ones.
    """

    name = "factor.low_rank"
    example: ClassVar[Mapping[str, Any]] = {"keep": 0.5, "recalibrate": 2, "batch_size": 16}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError if the target is out of reach, NoEffectError if no layer would be factored."""
        from compressit_plugins.prune.batch_norm import recalibrate
        from compressit_plugins.prune.batches import training_batches

        config = self.config
        seen = None
        if config.inputs == "covariance":
            seen = (x for x, _ in training_batches(ctx, config.batches, config.batch_size, epoch=0))
        report = self._factor(model, ctx, seen)
        inputs = (x for x, _ in training_batches(ctx, config.recalibrate, config.batch_size, epoch=1))
        recalibrated = recalibrate(model, inputs) if config.recalibrate else 0
        ctx.note(
            target=config.target,
            requested=report.requested,
            achieved=report.achieved,
            parameters_kept=report.parameters_kept,
            macs_kept=report.macs_kept,
            ranks={name: list(ranks) for name, ranks in report.ranks.items()},
            energies=dict(report.energies),
            skipped=dict(report.skipped),
            recalibrated=recalibrated,
        )
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module | None:
        """Factors fresh weights. None if the ranks depend on the weights: unless `ranks` names every layer."""
        energy = self.config.target == "energy"  # of fresh weights it says nothing: tried with rank 1
        report = self._factor(model, ctx, keep=0.0 if energy else None)
        return model if report.decided else None

    def work(self, images: int, times: int) -> Work:
        """No training."""
        return Work(0, 1)

    def _factor(
        self,
        model: nn.Module,
        ctx: StageContext,
        seen: Iterable[InputTensors] | None = None,
        keep: float | None = None,
    ) -> FactorReport:
        from compressit_plugins.factor.factor import Asked, factor
        from compressit_plugins.prune.one_input import one_input

        config = self.config
        share = config.keep ** ctx.times() if keep is None else keep
        asked = Asked(config.target, share, config.ranks, config.ignore)
        return factor(model, one_input(model, ctx), asked, seen, ctx.fresh)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `factor.low_rank`."""
    return [LowRank]
