"""Options of trainings that can stop early, and of those that keep a net's shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import FitConfig, Task, changed


class EarlyStoppingConfig(FitConfig):
    """Options of trainings that can stop early; `patience` and `restore_best` need a validation split."""

    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after this many consecutive epochs without a better validation score",
    )
    restore_best: bool = Field(
        default=False,
        description="after training, restore the weights of the epoch with the best validation score",
    )
    monitor: str | None = Field(
        default=None,
        description="validation score for `patience` and `restore_best`: `loss`, or one of the task's measures, as "
        "`accuracy`; default: the one that the task watches",
    )
    track: tuple[Literal["train", "test"], ...] = Field(
        default=(),
        description="splits whose loss and score are logged while it trains, wherever the curve of the loss has a "
        "point. Only logged: no weight, and no choice of one, depends on it",
    )

    def needs_validation(self) -> tuple[str, ...]:
        """`patience` and `restore_best`, if set."""
        return tuple(name for name in ("patience", "restore_best") if getattr(self, name))

    def unmeasured(self, task: Task[Any]) -> Mapping[str, str]:
        """`monitor`, with the reason, if it is none of the task's measures."""
        known = ("loss", *task.measures())
        if self.monitor in (None, *known):
            return {}
        return {"monitor": f"is '{self.monitor}', and {task.name} measures {', '.join(known)}"}

    @field_validator("monitor")
    @classmethod
    def _selects(cls, value: str | None, info: ValidationInfo) -> str | None:
        idle = info.data.get("patience", 1) is None and info.data.get("restore_best") is False
        if idle and changed(cls, info, value):
            raise ValueError("has no effect without `patience` or `restore_best`")
        return value

    @field_validator("track")
    @classmethod
    def _once(cls, track: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(track)) < len(track):
            raise ValueError("names a split twice")
        return track


class SupervisedConfig(EarlyStoppingConfig):
    """Options of supervised training."""

    keep_zeros: bool = Field(
        default=True,
        description="keep pruned weights at zero: the zeros of matrices that have other values too, unless the model "
        "was built in this run and only trained since",
    )
