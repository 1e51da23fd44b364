"""`train.distill`: training with a teacher's answers, of a net that keeps its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from compressit import Task, Trainer, Work, hookimpl
from compressit_plugins.distill.options import TeacherConfig
from compressit_plugins.train.options import SupervisedConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class DistillConfig(SupervisedConfig, TeacherConfig):
    """Options of training with a teacher."""


class Distill(Trainer[DistillConfig]):
    """Training with teachers: the given model, usually a pruned one, learns their outputs and the targets."""

    name = "train.distill"
    example: ClassVar[Mapping[str, Any]] = {"teacher": "train", "epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The given model is the student: knowledge distillation (Hinton, Vinyals & Dean 2015) without a new net.

        Of the test split it logs at most the scores (`track`). Raises CompressitError if an option needs a split that
        the data do not have, if teacher and student do not have the same outputs, and if hints do not fit the two.
        """
        from compressit_plugins.distill.taught import lesson
        from compressit_plugins.train.early_stopping import supervise

        given = lesson(model, ctx, self.config)
        supervise(given.student, ctx, self.config, given.examples, given.loss)
        return model.eval()

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """A `monitor` that the task does not measure; what needs probabilities where there are none."""
        return {**self.config.unmeasured(task), **self.config.unlike(task)}

    def work(self, images: int) -> Work:
        """The configured steps, fewer if it stops early; what teachers see as `forwards`."""
        config = self.config
        forwards = config.forwards(images, config.total_epochs(images))
        return Work(config.total_steps(images), config.images_per_step(images), forwards=forwards)


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    return [Distill]
