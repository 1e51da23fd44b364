"""`distill.soft_labels`: knowledge distillation (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from compressit import Compressor, ModelRef, Task, Work, hookimpl
from compressit_plugins.distill.options import TeacherConfig
from compressit_plugins.shrink.student import Student, StudentConfig
from compressit_plugins.train.options import EarlyStoppingConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SoftLabelsConfig(TeacherConfig, StudentConfig, EarlyStoppingConfig):
    """Options of distillation with soft labels."""

    teacher: ModelRef | Annotated[tuple[ModelRef, ...], Field(min_length=1)] = Field(
        default="previous",
        description="the model whose outputs the student learns to match; or several, whose mean it learns",
    )


class SoftLabels(Student[SoftLabelsConfig]):
    """Knowledge distillation: a narrower student learns from the teacher's softened outputs and the targets."""

    name = "distill.soft_labels"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student sees the variant's own training inputs and targets, and the teacher's outputs for them."""
        from compressit_plugins.distill.taught import lesson
        from compressit_plugins.train.early_stopping import fit_early

        student = self.student(model, ctx)
        given = lesson(student, ctx, self.config)
        fit_early(given.student, ctx, self.config, given.examples, given.loss)
        return student.eval()

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """What needs probabilities where there are none, and a measure that the task does not have."""
        return {**self.config.unlike(task), **self.config.unmeasured(task)}

    def work(self, images: int, times: int) -> Work:
        """What the teachers see, and the student once per epoch."""
        forwards = self.config.forwards(images, self.config.total_epochs(images))
        return replace(super().work(images, times), forwards=forwards)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [SoftLabels]
