"""`train.supervised`: ordinary training with cross-entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from compressit.config import changed
from compressit.contract.fit_options import FitConfig
from compressit.contract.hookspecs import hookimpl
from compressit.contract.kinds import Trainer, Work

if TYPE_CHECKING:
    from torch import nn

    from compressit.contract.context import StageContext


class SupervisedConfig(FitConfig):
    """Options of supervised training; `patience` and `restore_best` need a validation split."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="share of the target spread evenly over all classes"
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="stop after this many epochs in a row without a better validation score",
    )
    restore_best: bool = Field(
        default=False, description="end with the weights of the epoch with the best validation score"
    )
    monitor: Literal["accuracy", "loss"] = Field(
        default="accuracy", description="the validation score `patience` and `restore_best` go by"
    )

    def needs_validation(self) -> tuple[str, ...]:
        """Those two, where they are set."""
        return tuple(name for name in ("patience", "restore_best") if getattr(self, name))

    @field_validator("monitor")
    @classmethod
    def _selects(cls, value: str, info: ValidationInfo) -> str:
        idle = info.data.get("patience", 1) is None and info.data.get("restore_best") is False
        if idle and changed(cls, info, value):
            raise ValueError("has no effect without `patience` or `restore_best`")
        return value


class Supervised(Trainer[SupervisedConfig]):
    """Training with cross-entropy on the variant's own labels."""

    name = "train.supervised"
    example: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 32}

    def train(self, model: nn.Module, ctx: StageContext) -> nn.Module:
        """Never looks at the test split. Raises CompressitError when an option needs a validation split."""
        from compressit_plugins.train.supervise import supervise

        return supervise(model, ctx, self.config)

    def work(self, images: int) -> Work:
        """As many steps as configured, unless it stops early."""
        return Work(self.config.steps(images), self.config.batch_size)


@hookimpl
def compressit_trainers() -> list[type[Trainer]]:
    """Registers `train.supervised`."""
    return [Supervised]
