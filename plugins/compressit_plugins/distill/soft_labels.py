"""`distill.soft_labels`: knowledge distillation (Hinton, Vinyals & Dean 2015)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field, ValidationInfo, field_validator

from compressit import Compressor, ModelRef, Work, changed, hookimpl
from compressit_plugins.shrink.student import Student, StudentConfig

if TYPE_CHECKING:
    from torch import nn

    from compressit import StageContext


class SoftLabelsConfig(StudentConfig):
    """Options of distillation with soft labels."""

    teacher: ModelRef = Field(
        default="previous", description="the model whose outputs the student learns to match"
    )
    alpha: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="weight of the soft labels; the true labels have weight 1 - alpha",
    )
    temperature: float = Field(default=4.0, gt=0, description="divides the logits of both models")

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("alpha") == 0 and changed(cls, info, value):
            raise ValueError("has no effect with `alpha: 0`: no soft labels are learned")
        return value


class SoftLabels(Student[SoftLabelsConfig]):
    """Knowledge distillation: a narrower student learns from the teacher's softened outputs and the labels."""

    name = "distill.soft_labels"

    def compress(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """The student sees the variant's own training inputs and labels, and the teacher's logits for them."""
        from compressit import fit
        from compressit_plugins.distill.loss import soft_label_loss
        from compressit_plugins.distill.taught import taught

        student, teacher = self.student(model, ctx), ctx.model(self.config.teacher)
        loss = partial(soft_label_loss, temperature=self.config.temperature, alpha=self.config.alpha)
        return fit(student, ctx, self.config, taught(ctx.data.train, teacher, ctx), loss)

    def work(self, images: int, times: int) -> Work:
        """The teacher sees every image once, the student once per epoch."""
        return replace(super().work(images, times), forwards=images)


@hookimpl
def compressit_compressors() -> list[type[Compressor]]:
    return [SoftLabels]
