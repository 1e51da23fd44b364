"""`prune.structured`: remove whole channels until the model is as small, or as fast, as asked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compressit import Compressor, Config, Work, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compressit import StageContext
    from compressit_plugins.prune.channels import PruneReport
    from compressit_plugins.prune.importance import Importance


class StructuredConfig(Config):
    """Options of structured pruning."""

    keep: float = Field(
        default=0.5, gt=0, lt=1, description="the fraction that is left of what `target` names"
    )
    target: Literal["parameters", "macs", "latency", "channels"] = Field(
        default="macs",
        description="what is kept to that fraction of the model this stage is given: its parameters, MACs, or "
        "the time of one input's forward pass (latency), each found by search to within 2 %; or every width. A time is "
        "measured on this machine, device, threads and precision, in turn with the given model's, and once more when "
        "the widths are chosen: that is the fraction noted as achieved. Another machine makes another model",
    )
    importance: Literal["magnitude", "taylor", "fpgm", "lamp", "bn_scale", "random"] = Field(
        default="magnitude",
        description="what makes a channel worth keeping: the L2 norm of its weights in all coupled layers; weight "
        "times gradient (taylor); distance to the other filters (fpgm); its norm against larger ones (lamp); the "
        "batch norm's scale; or a random number, the control",
    )
    scope: Literal["local", "global", "isomorphic"] = Field(
        default="local",
        description="compare channels within each group of coupled layers, across all, or across groups of the same "
        "structure",
    )
    round_to: int = Field(default=1, ge=1, description="kept widths are multiples of this")
    max_ratio: float = Field(
        default=1.0, gt=0, le=1, description="no width loses more than this fraction of its channels"
    )
    steps: int = Field(
        default=1, ge=1, description="reach the target in so many steps, scoring the channels anew in each"
    )
    ignore: tuple[str, ...] = Field(
        default=(),
        description="globs over names of layers whose output width stays, and with it that of layers coupled to "
        "them; the classifier's always does",
    )
    batches: int = Field(default=10, ge=1, description="training batches for the gradients of taylor")
    recalibrate: int = Field(
        default=20,
        ge=0,
        description="training batches on which the statistics of batch norms are measured again; 0: they are kept",
    )
    batch_size: int = Field(default=128, ge=2, description="inputs in a batch of `batches` and `recalibrate`")
    time_limit: float = Field(
        default=60.0, gt=0, description="seconds for tracing: on some architectures it never ends"
    )


_PASSED_ON = {"target", "scope", "round_to", "max_ratio", "ignore", "steps", "time_limit"}


class StructuredPruning(Compressor[StructuredConfig]):
    """Remove whole channels: the model is smaller and faster afterwards on any hardware.

    Every result is compared with the given model whose removed channels are zero, with random weights, on two inputs.
    The notes say how far the two are apart (`masked_gap`, of the largest output), which layers kept their widths and
    why (`skipped`), and what of this model the comparison did not look at (`not_checked`): train mode, statistics of
    norms and scales of attention, which follow the channels that are left, and layers that did not run. Batch norms
    are measured again after it (`recalibrate`).
    """

    name = "prune.structured"
    example: ClassVar[Mapping[str, Any]] = {
        "target": "channels", "keep": 0.5, "recalibrate": 2, "batches": 2, "batch_size": 16,
    }  # fmt: skip

    @property
    def per_host(self) -> bool:
        """With a latency as the target another machine finds other widths."""
        return self.config.target == "latency"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError for a model that cannot be traced and a target out of reach."""
        from compressit_plugins.prune.batch_norm import recalibrate

        config = self.config
        some = [x[:4] for x, _ in _batches(ctx, 1, config.batch_size, epoch=0)]
        report = self._prune(model, ctx, self._importance(ctx), some)
        inputs = (x for x, _ in _batches(ctx, config.recalibrate, config.batch_size, epoch=1))
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
        """The very pruning on fresh weights; gradients are replaced by magnitudes, which reach the same widths.

        None where the widths depend on the weights or on the clock.
        """
        from compressit_plugins.prune.importance import magnitude

        taylor = self.config.importance == "taylor"
        self._prune(model, ctx, magnitude if taylor else self._importance(ctx), [])
        return model if self.config.scope == "local" and self.config.target != "latency" else None

    def work(self, images: int, times: int) -> Work:
        """No training."""
        return Work(0, 1)

    def _prune(
        self, model: nn.Module, ctx: StageContext, importance: Importance, inputs: list[Tensor]
    ) -> PruneReport:
        import torch

        from compressit_plugins.prune.channels import prune_channels, steady_seconds

        config = self.config
        dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
        example = torch.zeros(1, *ctx.data.contract.shape, dtype=dtype, device=ctx.compute.device)
        _, report = prune_channels(
            model,
            example,
            config.keep ** ctx.times(),
            importance=importance,
            seconds=steady_seconds(ctx.compute),
            inputs=inputs,
            **config.model_dump(include=_PASSED_ON),
        )
        return report

    def _importance(self, ctx: StageContext) -> Importance:
        from compressit_plugins.prune import importance as score

        if self.config.importance == "taylor":
            batches = _batches(ctx, self.config.batches, self.config.batch_size, epoch=0)
            return score.taylor(batches, score.classification(ctx.data.classes))
        if self.config.importance == "random":
            return score.random(ctx.streams.generator("importance"))
        return getattr(score, self.config.importance)


def _batches(ctx: StageContext, count: int, size: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
    return list(islice(ctx.data.train.batches(size, epoch), count))


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.structured`."""
    return [StructuredPruning]
