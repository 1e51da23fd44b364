"""`prune.structured`: removes whole channels until the model is as small or fast as requested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, Config, Work, hookimpl, ratio

if TYPE_CHECKING:
    from torch import nn

    from compressit import InputTensors, StageContext
    from compressit_plugins.prune.channels import PruneReport
    from compressit_plugins.prune.importance import Importance


class StructuredConfig(Config):
    """Options of structured pruning."""

    keep: float = Field(
        default=0.5,
        gt=0,
        lt=1,
        description="fraction of the target to keep",
        json_schema_extra=ratio(0.1, 0.95),
    )
    target: Literal["parameters", "macs", "latency", "channels"] = Field(
        default="macs",
        description="what to reduce to the fraction `keep` of the given model: parameters, MACs, or the time of a "
        "forward pass of one input (latency), each to within 2 %; or every width (channels). Latency is measured on "
        "this machine, device, threads and precision, in turn with the given model, and again once the widths are "
        "chosen; that last fraction is noted as achieved. Another machine gives another model",
    )
    importance: Literal["magnitude", "taylor", "fpgm", "lamp", "bn_scale", "random"] = Field(
        default="magnitude",
        description="score of a channel: L2 norm of its weights in all coupled layers (magnitude); weight "
        "times gradient (taylor); distance to the other filters (fpgm); norm relative to larger ones (lamp); "
        "scale of the batch norm (bn_scale); or random, as a control",
    )
    scope: Literal["local", "global", "isomorphic"] = Field(
        default="local",
        description="compare channels within each group of coupled layers, across all groups, or across groups of the "
        "same structure",
    )
    round_to: int = Field(
        default=1,
        ge=1,
        description="kept widths are multiples of this; 8 or 16 for speed: fast convolutions take blocks of as many "
        "channels, and other widths can be slower than the unpruned net",
    )
    max_ratio: float = Field(
        default=1.0, gt=0, le=1, description="no width loses more than this fraction of its channels"
    )
    steps: int = Field(
        default=1, ge=1, description="number of pruning steps to the target, with new scores in each"
    )
    ignore: tuple[str, ...] = Field(
        default=(),
        description="globs over names of layers whose output width must not change, nor that of layers coupled to "
        "them; the classifier's never changes",
    )
    ratios: dict[str, Annotated[float, Field(gt=0, le=1)]] = Field(
        default={},
        description="fractions of single widths to keep, by globs over names of layers, such as {conv1: 0.9}; the "
        "others reach `keep` of the target (channels: each keeps `keep`). Of several globs that match, the last counts",
        json_schema_extra=ratio(0.1, 0.95, layers="widths"),
    )
    batches: int = Field(default=10, ge=1, description="training batches for the gradients of taylor")
    recalibrate: int = Field(
        default=20,
        ge=0,
        description="training batches for measuring the statistics of batch norms again; 0: keep the old ones",
    )
    batch_size: int = Field(default=128, ge=2, description="batch size for `batches` and `recalibrate`")
    time_limit: float = Field(
        default=60.0,
        gt=0,
        description="seconds after which tracing is stopped: on some architectures it never ends",
    )

    @field_validator("ratios")
    @classmethod
    def _can_be_met(cls, ratios: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        if ratios and info.data.get("target") == "latency":
            raise ValueError("cannot be met with `target: latency`, which finds the widths by the clock")
        return ratios


_PASSED_ON = {"target", "scope", "round_to", "max_ratio", "ignore", "steps", "time_limit"}


class StructuredPruning(Compressor[StructuredConfig]):
    """Remove whole channels: the model becomes smaller and faster on any hardware.

    Every result is compared with the given model with the removed channels set to zero, with random weights, on two
    inputs. The notes record the largest difference (`masked_gap`, as a fraction of the largest output), which layers
    kept their widths and why (`skipped`), and what the comparison did not cover (`not_checked`): train mode, statistics
    of norms and scales of attention, which follow the remaining channels, and layers that did not run. The statistics
    of batch norms are measured again afterwards (`recalibrate`).
    """

    name = "prune.structured"
    example: ClassVar[Mapping[str, Any]] = {
        "target": "channels", "keep": 0.5, "recalibrate": 2, "batches": 2, "batch_size": 16,
    }  # fmt: skip

    @property
    def per_host(self) -> bool:
        """True for the target latency: another machine finds other widths."""
        return self.config.target == "latency"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError if the model cannot be traced or the target is out of reach."""
        from compressit import each_tensor
        from compressit_plugins.prune.batch_norm import recalibrate
        from compressit_plugins.prune.batches import training_batches

        config = self.config
        first = training_batches(ctx, 1, config.batch_size, epoch=0)
        some = [each_tensor(x, lambda tensor: tensor[:4]) for x, _ in first]
        report = self._prune(model, ctx, self._importance(ctx), some)
        inputs = (x for x, _ in training_batches(ctx, config.recalibrate, config.batch_size, epoch=1))
        recalibrated = recalibrate(model, inputs) if config.recalibrate else 0
        ctx.note(
            target=report.target,
            requested=report.requested,
            achieved=report.achieved,
            parameters_kept=report.parameters_kept,
            macs_kept=report.macs_kept,
            skipped=dict(report.skipped),
            masked_gap=report.gap,
            not_checked=list(report.unchecked),
            widths={name: list(widths) for name, widths in report.widths.items()},
            recalibrated=recalibrated,
        )
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module | None:
        """Prunes fresh weights. Uses magnitude instead of taylor, which gives the same widths without gradients.

        None if the widths depend on the weights or on the clock.
        """
        from compressit_plugins.prune.importance import magnitude

        taylor = self.config.importance == "taylor"
        self._prune(model, ctx, magnitude if taylor else self._importance(ctx), [])
        return model if self.config.scope == "local" and self.config.target != "latency" else None

    def alternatives(self) -> Mapping[str, StructuredConfig]:
        """As many channels, by chance or those of the smallest norm."""
        return {kind: self.config.model_copy(update={"importance": kind}) for kind in ("random", "magnitude")}

    def work(self, images: int, times: int) -> Work:
        """No training."""
        return Work(0, 1)

    def _prune(
        self, model: nn.Module, ctx: StageContext, importance: Importance, inputs: list[InputTensors]
    ) -> PruneReport:
        from compressit_plugins.prune.channels import prune_channels, steady_seconds
        from compressit_plugins.prune.one_input import one_input

        config = self.config
        _, report = prune_channels(
            model,
            one_input(model, ctx),
            config.keep ** ctx.times(),
            ratios={glob: share ** ctx.times() for glob, share in config.ratios.items()},
            importance=importance,
            seconds=steady_seconds(ctx.compute),
            inputs=inputs,
            **config.model_dump(include=_PASSED_ON),
        )
        return report

    def _importance(self, ctx: StageContext) -> Importance:
        from compressit_plugins.prune import importance as score
        from compressit_plugins.prune.batches import training_batches

        if self.config.importance == "taylor":
            batches = list(training_batches(ctx, self.config.batches, self.config.batch_size, epoch=0))
            return score.taylor(batches, score.checked_loss(ctx.task, ctx.data.train.y))
        if self.config.importance == "random":
            return score.random(ctx.streams.generator("importance"))
        return getattr(score, self.config.importance)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.structured`."""
    return [StructuredPruning]
