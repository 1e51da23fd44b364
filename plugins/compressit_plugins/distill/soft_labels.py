"""`distill.soft_labels`: knowledge distillation (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, ModelRef, ModelUse, Task, Work, hookimpl
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
    student: ModelUse | ModelRef | None = Field(
        default=None,
        description="the student, instead of a copy narrowed by `width`: a model plugin with its options, "
        "{uses: …, with: {…}}, with fresh weights, or the path of a checkpoint",
    )

    @field_validator("student")
    @classmethod
    def _stands_alone(cls, student: ModelUse | str | None, info: ValidationInfo) -> ModelUse | str | None:
        if isinstance(student, str) and not student.endswith(".safetensors"):
            raise ValueError(
                "must be a model plugin or a checkpoint: to train a stage's model, use train.distill"
            )
        width = cls.model_fields["width"].default
        if student is not None and info.data.get("width", width) != width:
            raise ValueError("stands beside `width`, which narrows the given model: leave one of them out")
        return student


class SoftLabels(Student[SoftLabelsConfig]):
    """Knowledge distillation: a smaller student learns from the teacher's softened outputs and the targets."""

    name = "distill.soft_labels"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student sees the variant's own training inputs and targets, and the teacher's outputs for them.

        Pruned weights of a student from a checkpoint stay zero.
        """
        from compressit import keeping_zeros
        from compressit_plugins.distill.taught import lesson
        from compressit_plugins.train.early_stopping import fit_early

        student = self.student(model, ctx)
        given = lesson(student, ctx, self.config)
        trained_before = isinstance(self.config.student, str)
        with keeping_zeros(student, replace(ctx, fresh=not trained_before)):
            fit_early(given.student, ctx, self.config, given.examples, given.loss)
        return student.eval()

    def student(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The one that `student` says, else a narrower copy."""
        chosen = self.config.student
        return super().student(model, ctx) if chosen is None else ctx.net(chosen)

    def misfits(self, task: Task[Any]) -> Mapping[str, str]:
        """What needs probabilities where there are none, and a measure that the task does not have."""
        return {**self.config.unlike(task), **self.config.unmeasured(task)}

    def work(self, images: int, times: int) -> Work:
        """What the teachers see, and the student once per epoch. The width of a student of its own is unknown."""
        work = super().work(images, times)
        forwards = self.config.forwards(images, self.config.total_epochs(images))
        return replace(work, forwards=forwards, width=work.width if self.config.student is None else 1.0)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [SoftLabels]
