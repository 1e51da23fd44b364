"""Options shared by everything that trains; `compressit.fit` carries them out. No torch here."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from compressit.config import Config


class OptimizerConfig(Config):
    """SGD, Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), as torch.optim has them."""

    name: Literal["sgd", "adam", "adamw"] = Field("sgd", description="which optimizer")
    lr: float = Field(0.01, gt=0, description="learning rate")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum (sgd only)")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd only)")
    betas: tuple[float, float] = Field((0.9, 0.999), description="decay of the two moments (adam, adamw)")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty (sgd, adam) or decoupled decay (adamw)")

    @model_validator(mode="after")
    def _belongs(self) -> OptimizerConfig:
        if self.name != "sgd" and (self.momentum or self.nesterov):
            raise ValueError(f"momentum and nesterov belong to sgd; {self.name} has betas")
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class ScheduleConfig(Config):
    """The learning rate as a factor of the optimizer's, a function of training progress only."""

    name: Literal["constant", "cosine", "linear", "step"] = Field(
        "constant", description="constant; cosine or linear to zero over all epochs; step: times `gamma`"
    )
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up from zero")
    milestones: tuple[int, ...] = Field((), description="epochs after which `step` multiplies by gamma")
    gamma: float = Field(0.1, gt=0, description="factor of `step`")


class FitConfig(Config):
    """Options of a training run."""

    epochs: int = Field(10, ge=1, description="passes over the training set")
    batch_size: int = Field(128, ge=1, description="examples per optimizer step")
    optimizer: OptimizerConfig = Field(OptimizerConfig(), description="the optimizer")
    schedule: ScheduleConfig = Field(ScheduleConfig(), description="learning-rate schedule")
    clip: float | None = Field(None, gt=0, description="largest gradient norm; none by default")

    def steps(self, images: int) -> int:
        """Optimizer steps for a training set of that many images."""
        return self.epochs * -(-images // self.batch_size)
