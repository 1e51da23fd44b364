"""Options of everything that learns from a teacher and from targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import Config, ModelRef, Task, changed

Match = Literal["probabilities", "logits"]


class TeacherConfig(Config):
    """Which teacher, and how much of it a student learns."""

    teacher: ModelRef = Field(description="the model whose outputs the student learns to match")
    hard: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="weight of the true targets (the task's loss); the teacher has weight 1 - hard",
    )
    match: Match = Field(
        default="probabilities",
        description="what to match of the teacher's output: probabilities (Kullback-Leibler divergence at "
        "`temperature`), or logits (mean squared error); for outputs that are no logits, what their task says",
    )
    temperature: float = Field(
        default=4.0, gt=0, description="divides the logits of both models (probabilities only)"
    )

    def unlike(self, task: Task[Any]) -> Mapping[str, str]:
        """`match` and `temperature`, with the reason, if they are set and the task's outputs are no logits."""
        if task.logits:
            return {}
        why = f"has no effect with {task.name}, whose outputs are no logits of probabilities"
        fields = type(self).model_fields
        chosen = (name for name in ("match", "temperature") if getattr(self, name) != fields[name].default)
        return dict.fromkeys(chosen, why)

    @field_validator("match", "temperature")
    @classmethod
    def _is_taught(cls, value: Any, info: ValidationInfo) -> Any:
        if info.data.get("hard") == 1 and changed(cls, info, value):
            raise ValueError("has no effect with `hard: 1`: nothing is learned from the teacher")
        return value

    @field_validator("temperature")
    @classmethod
    def _softens(cls, value: float, info: ValidationInfo) -> float:
        if info.data.get("match") == "logits" and changed(cls, info, value):
            raise ValueError("has no effect with `match: logits`: it softens probabilities")
        return value
