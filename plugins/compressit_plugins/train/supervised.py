"""`train.supervised`: ordinary training with cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Trainer, Work, hookimpl
from compressit_plugins.train.options import SupervisedConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class Supervised(Trainer[SupervisedConfig]):
    """Training with cross-entropy on the training labels."""

    name = "train.supervised"
    example: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Never uses the test split. Raises CompressitError if an option needs a validation split and there is none."""
        from functools import partial

        from torch.nn.functional import cross_entropy

        from compressit_plugins.train.early_stopping import supervise

        loss = partial(cross_entropy, label_smoothing=self.config.label_smoothing)
        return supervise(model, ctx, self.config, ctx.data.train, loss)

    def work(self, images: int) -> Work:
        """The configured steps; fewer if it stops early."""
        return Work(self.config.total_steps(images), self.config.images_per_step(images))


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Supervised]
