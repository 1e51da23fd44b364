"""`prune.depth`: removes whole residual blocks until the model is as small as requested."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, Config, Work, changed, hookimpl, ratio

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext
    from compressit_plugins.prune.blocks import Removed


class DepthConfig(Config):
    """Options of depth pruning."""

    blocks: int | None = Field(
        default=None, ge=1, description="number of blocks to remove; default: as many as `keep` needs"
    )
    keep: float = Field(
        default=0.75,
        gt=0,
        lt=1,
        description="blocks go until no more than this fraction of the target is left",
        json_schema_extra=ratio(0.3, 0.95),
    )
    target: Literal["macs", "parameters"] = Field(default="macs", description="what `keep` is a fraction of")
    importance: Literal["influence", "loss", "random"] = Field(
        default="influence",
        description="which blocks go first: those that change their input the least, by 1 - its cosine with the output "
        "(influence); those whose removal alone raises the training loss the least (loss); or any (random), as a "
        "control",
    )
    ignore: tuple[str, ...] = Field(default=(), description="globs over names of modules: blocks that stay")
    batches: int = Field(default=10, ge=1, description="training batches for influence and loss")
    recalibrate: int = Field(
        default=20,
        ge=0,
        description="training batches for measuring the statistics of batch norms again; 0: keep the old ones",
    )
    batch_size: int = Field(default=128, ge=2, description="batch size for `batches` and `recalibrate`")

    @field_validator("keep", "target")
    @classmethod
    def _has_a_say(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("blocks") is not None and changed(cls, info, value):
            raise ValueError("has no effect with `blocks`, which says how many go")
        return value


class DepthPruning(Compressor[DepthConfig]):
    """Remove whole residual blocks: the model has fewer layers to run one after the other.

    A block is a module that adds what it computes to its input and gives the sum, perhaps activated or normed: without
    it the input goes on. It becomes `nn.Identity`. The influence of a block is that of Men et al. 2024, "ShortGPT:
    layers in large language models are more redundant than you expect", with whole examples instead of tokens. The
    notes have the score of each block that went (`removed`) and of those that stayed (`left`), and which could not go
    (`skipped`).
    """

    name = "prune.depth"
    example: ClassVar[Mapping[str, Any]] = {"blocks": 1, "batches": 2, "recalibrate": 2, "batch_size": 16}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Raises CompressitError if the model has no such block, or too few."""
        from compressit_plugins.prune.batch_norm import recalibrate
        from compressit_plugins.prune.batches import training_batches

        config = self.config
        found = self._prune(model, ctx, fresh=False)
        inputs = (x for x, _ in training_batches(ctx, config.recalibrate, config.batch_size, epoch=1))
        ctx.note(
            requested=found.requested,
            achieved=found.achieved,
            parameters_kept=found.parameters_kept,
            macs_kept=found.macs_kept,
            removed=dict(found.gone),
            left=dict(found.left),
            skipped=dict(found.skipped),
            recalibrated=recalibrate(model, inputs) if config.recalibrate else 0,
        )
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> None:
        """Removes blocks by chance: which ones will go, and so the shapes, depends on trained weights."""
        self._prune(model, ctx, fresh=True)

    def alternatives(self) -> Mapping[str, DepthConfig]:
        """As many blocks, by chance."""
        return {"random": self.config.model_copy(update={"importance": "random"})}

    def work(self, images: int, times: int) -> Work:
        """No training."""
        return Work(0, 1)

    def _prune(self, model: nn.Module, ctx: StageContext, fresh: bool) -> Removed:
        from compressit_plugins.prune import blocks as by
        from compressit_plugins.prune.batches import training_batches
        from compressit_plugins.prune.importance import checked_loss
        from compressit_plugins.prune.one_input import one_input

        config, times = self.config, ctx.times()
        if fresh or config.importance == "random":
            score = by.random(ctx.streams.generator("importance"))
        else:
            some = list(training_batches(ctx, config.batches, config.batch_size, epoch=0))
            loss = checked_loss(ctx.task, ctx.data.train.y)
            score = by.influence(some) if config.importance == "influence" else by.loss(some, loss)
        count = config.blocks * times if config.blocks is not None else None
        return by.prune_blocks(
            model, one_input(model, ctx), score, config.keep**times, config.target, count, config.ignore
        )


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `prune.depth`."""
    return [DepthPruning]
