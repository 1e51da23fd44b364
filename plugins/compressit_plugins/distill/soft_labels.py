"""`distill.soft_labels`: knowledge distillation (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, FitConfig, ModelRef, Work, changed, hookimpl

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SoftLabelsConfig(FitConfig):
    """Options of distillation with soft labels."""

    width: float = Field(default=0.5, gt=0, lt=1, description="each hidden width times this, rounded up")
    teacher: ModelRef = Field(default="previous", description="the model whose outputs the student learns")
    alpha: float = Field(
        default=0.9, ge=0, le=1, description="weight of the teacher's soft labels; the labels have the rest"
    )
    temperature: float = Field(default=4.0, gt=0, description="both models' logits are divided by it")

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("alpha") == 0 and changed(cls, info, value):
            raise ValueError("has no effect with `alpha: 0`: no soft labels are learned")
        return value


class SoftLabels(Compressor[SoftLabelsConfig]):
    """Knowledge distillation: a narrower student learns the teacher's softened outputs and the labels."""

    name = "distill.soft_labels"
    example: ClassVar[Mapping[str, Any]] = {"width": 0.5, "epochs": 3, "batch_size": 32}

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student starts from fresh weights and sees the variant's own training inputs and labels."""
        from compressit_plugins.distill.distil import distil
        from compressit_plugins.shrink.student import student_of

        student = student_of(model, ctx, self.config.width)
        teacher = ctx.model(self.config.teacher)
        return distil(student, teacher, ctx, self.config, self.config.temperature, self.config.alpha)

    def dry_run(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student before it is trained. Raises CompressitError for a model that cannot be made narrower."""
        from compressit_plugins.shrink.student import student_of

        return student_of(model, ctx, self.config.width)

    def work(self, images: int, times: int) -> Work:
        """The teacher sees every image once, the student once an epoch."""
        width = self.config.width**times
        return Work(self.config.steps(images), self.config.batch_size, width=width, forwards=images)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    """Registers `distill.soft_labels`."""
    return [SoftLabels]
