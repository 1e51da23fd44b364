"""`train.batch_norm`: measures the statistics of batch norms again and trains nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from compressit import Config, NoEffectError, Trainer, Work, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class BatchNormConfig(Config):
    """Options of measuring statistics again."""

    examples: int = Field(
        default=2048, ge=2, description="training examples to measure them on, at most all; whole batches"
    )
    batch_size: int = Field(default=128, ge=2, description="examples per batch")


class BatchNorm(Trainer[BatchNormConfig]):
    """Measure the running statistics of batch norms again on training examples. No weight changes."""

    name = "train.batch_norm"
    example: ClassVar[Mapping[str, Any]] = {"examples": 64, "batch_size": 16}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """They become the mean over all batches, as torch.optim.swa_utils.update_bn has it; nothing else runs in train
        mode. After Li et al., "EagleEye" (2020), for pruned nets. Raises NoEffectError for a net without batch norms
        that keep statistics."""
        from compressit_plugins.prune.batch_norm import recalibrate
        from compressit_plugins.prune.batches import training_batches

        config = self.config
        count = -(-config.examples // config.batch_size)
        self.dry_run(model, ctx)
        used = recalibrate(model, (x for x, _ in training_batches(ctx, count, config.batch_size, epoch=0)))
        ctx.note(recalibrated=used)
        return model

    def dry_run(self, model: nn.Module, ctx: StageContext) -> None:
        """Raises NoEffectError as `train` does."""
        from compressit_plugins.prune.batch_norm import running_norms

        if not running_norms(model):
            raise NoEffectError(
                f"{type(model).__name__} has no batch norm that keeps statistics", "leave the stage out"
            )

    def work(self, images: int) -> Work:
        """A forward pass of the examples."""
        return Work(0, self.config.batch_size, forwards=min(images, self.config.examples))


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    """Registers `train.batch_norm`."""
    return [BatchNorm]
