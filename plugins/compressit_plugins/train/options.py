"""Options of `train.supervised`, which `train.distill` has too."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit import FitConfig, changed


class SupervisedConfig(FitConfig):
    """Options of supervised training; `patience` and `restore_best` need a validation split."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="fraction of the target spread evenly over all classes"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after this many consecutive epochs without a better validation score",
    )
    restore_best: bool = Field(
        default=False,
        description="after training, restore the weights of the epoch with the best validation score",
    )
    monitor: Literal["accuracy", "loss"] = Field(
        default="accuracy", description="validation score for `patience` and `restore_best`"
    )

    keep_zeros: bool = Field(
        default=True,
        description="keep pruned weights at zero: the zeros of weight matrices that have other values too, unless "
        "the model was built in this run and only trained since",
    )

    def needs_validation(self) -> tuple[str, ...]:
        """`patience` and `restore_best`, if set."""
        return tuple(name for name in ("patience", "restore_best") if getattr(self, name))

    @field_validator("monitor")
    @classmethod
    def _selects(cls, value: str, info: ValidationInfo) -> str:
        idle = info.data.get("patience", 1) is None and info.data.get("restore_best") is False
        if idle and changed(cls, info, value):
            raise ValueError("has no effect without `patience` or `restore_best`")
        return value
