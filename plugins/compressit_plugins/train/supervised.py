"""`train.supervised`: ordinary training with the task's loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Task, Trainer, Work, hookimpl
from compressit_plugins.train.options import SupervisedConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Supervised(Trainer[SupervisedConfig]):
    """Training with the task's loss on the training targets: for classes cross-entropy."""

    name = "train.supervised"
    example: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Of the test split it logs at most the scores (`track`). Raises CompressitError if an option needs a split
        that the data do not have."""
        from compressit_plugins.train.early_stopping import supervise

        train = ctx.data.train
        return supervise(model, ctx, self.config, train, ctx.task.objective(train.y))

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A `monitor` that the task does not measure."""
        return self.config.unmeasured(task)

    def work(self, images: int) -> Work:
        """The configured steps; fewer if it stops early."""
        return Work(self.config.total_steps(images), self.config.images_per_step(images))


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Supervised]
