"""Options of everything that learns from a teacher and from targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import Config, ModelRef, Task, changed

Match = Literal["kl", "logits"]
Loss = Literal["kl", "logits", "dkd", "dist"]

# Options that belong to some losses only.
_OF: Mapping[str, tuple[Loss, ...]] = {
    "temperature": ("kl", "dkd", "dist"),
    "alpha": ("dkd",),
    "beta": ("dkd",),
    "inter": ("dist",),
    "intra": ("dist",),
}


class HintsConfig(Config):
    """Layers of the student that also learn the outputs of the teacher's layers."""

    layers: Annotated[dict[str, str], Field(min_length=1)] = Field(
        description="which: {student's: teacher's}; names, or patterns with `*`, `?` and `[…]`, whose layers are "
        "paired in their order",
    )
    weight: float = Field(
        default=1.0, gt=0, description="weight of the mean squared error of these outputs in the loss"
    )


class TeacherConfig(Config):
    """Which teacher, and how much of it a student learns."""

    teacher: ModelRef | Annotated[tuple[ModelRef, ...], Field(min_length=1)] = Field(
        description="the model whose outputs the student learns to match; or several, whose mean it learns"
    )
    hard: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="weight of the true targets (the task's loss); the teacher has weight 1 - hard",
    )
    loss: Loss = Field(
        default="kl",
        description="what is minimised between student and teacher: kl (Kullback-Leibler divergence of their "
        "probabilities), logits (mean squared error), dkd (that divergence, of target and other classes apart) "
        "or dist (1 - Pearson correlation of probabilities, over classes and over the batch); for outputs that are no "
        "logits, what their task says",
    )
    temperature: float = Field(
        default=4.0, gt=0, description="divides the logits of both models (kl, dkd, dist)"
    )
    alpha: float = Field(
        default=1.0, ge=0, description="weight of the target class against all others (dkd only)"
    )
    beta: float = Field(
        default=8.0, ge=0, description="weight of the classes other than the target (dkd only)"
    )
    inter: float = Field(
        default=1.0, ge=0, description="weight of the correlation over an example's classes (dist only)"
    )
    intra: float = Field(
        default=1.0, ge=0, description="weight of the correlation over a class's examples (dist only)"
    )

    hints: HintsConfig | None = Field(
        default=None,
        description="inner layers that learn the outputs of the teacher's, like "
        '{layers: {"layer?": "layer?"}, weight: 0.5}: {student\'s: teacher\'s}, names or patterns; default: none',
    )

    @property
    def teachers(self) -> tuple[str, ...]:
        """The names of all teachers."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher

    def forwards(self, images: int, epochs: int) -> int:
        """How many images teachers see: each every image once, with hints in every epoch. More with augmentation."""
        return images * len(self.teachers) * (epochs if self.hints else 1)

    def unlike(self, task: Task[Any]) -> Mapping[str, str]:
        """The options that have no meaning for this task and are set, each with the reason."""
        if task.logits and (task.target == "class" or self.loss in ("kl", "logits")):
            return {}
        if task.logits:
            return {
                "loss": f"is '{self.loss}', which needs one class per example, and {task.name} has others"
            }
        why = f"has no effect with {task.name}, whose outputs are no logits of probabilities"
        fields = type(self).model_fields
        return {name: why for name in ("loss", *_OF) if getattr(self, name) != fields[name].default}

    @field_validator("teacher")
    @classmethod
    def _each_once(cls, teacher: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(teacher, str) and len(set(teacher)) < len(teacher):
            raise ValueError("names a model twice")
        return teacher

    @field_validator("hints")
    @classmethod
    def _of_one(cls, hints: HintsConfig | None, info: ValidationInfo) -> HintsConfig | None:
        if hints is not None and isinstance(info.data.get("teacher"), tuple):
            raise ValueError("needs one teacher, and there are several: name it alone, not in a list")
        return hints

    @field_validator("loss", *_OF)
    @classmethod
    def _has_effect(cls, value: Any, info: ValidationInfo) -> Any:
        if not changed(cls, info, value):
            return value
        if info.data.get("hard") == 1:
            raise ValueError("has no effect with `hard: 1`: nothing is learned from the teacher")
        name, loss = str(info.field_name), info.data.get("loss")
        if loss is not None and loss not in _OF.get(name, (loss,)):
            raise ValueError(
                f"has no effect with `loss: {loss}`: it is an option of {' and '.join(_OF[name])}"
            )
        return value
